// @ts-check
// How past signals ended: totals, P&L curve, hit rates, reliability.

import { curve } from "./chart.js";
import { $, h, percent, signed, svg } from "./dom.js";

// One breakdown; of exits the share of all is shown, since their hit rate is 0 or 100 % by definition.
function table(title, rows, heading, total = 0) {
  const middle = total ? ["Share"] : ["Hit target", "Profit"],
    rates = (row) => (total ? [row.signals / total] : [row.hit_rate, row.win_rate]);
  return h(
    "div",
    { class: "card third" },
    h("h2", {}, title),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", {}, heading),
            h("th", { class: "num" }, "Signals"),
            middle.map((name) => h("th", { class: "num" }, name)),
            h("th", { class: "num" }, "Average"),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              h("td", {}, row.key.replaceAll("_", " ") || "unknown"),
              h("td", { class: "num" }, String(row.signals)),
              rates(row).map((rate) => h("td", { class: "num" }, percent(rate))),
              h("td", { class: "num" }, signed(row.average_pnl_percent)),
            ),
          ),
        ),
      ),
    ),
  );
}

function reliability(rows) {
  const size = 240,
    pad = 34,
    at = (v) => pad + v * (size - pad - 8),
    up = (v) => size - pad - v * (size - pad - 8);
  const most = Math.max(...rows.map((r) => r.count), 1);
  const marks = [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [
    svg("line", { class: "axis", x1: at(v), x2: at(v), y1: up(0), y2: up(1) }),
    svg("line", { class: "axis", x1: at(0), x2: at(1), y1: up(v), y2: up(v) }),
    Object.assign(svg("text", { x: at(v), y: size - pad + 16, "text-anchor": "middle" }), { textContent: v * 100 }),
    Object.assign(svg("text", { x: pad - 6, y: up(v) + 4, "text-anchor": "end" }), { textContent: v * 100 }),
  ]);
  const points = rows.map((r) => `${at(r.confidence)},${up(r.win_rate)}`).join(" ");
  return svg(
    "svg",
    {
      viewBox: `0 0 ${size} ${size}`,
      width: "100%",
      height: 250,
      role: "img",
      "aria-label": `Reliability: ${rows.map((r) => `promised ${percent(r.confidence)}, came true ${percent(r.win_rate)} of ${r.count}`).join("; ")}`,
    },
    ...marks,
    svg("line", { class: "ideal", x1: at(0), y1: up(0), x2: at(1), y2: up(1) }),
    svg("polyline", { class: "observed", points }),
    ...rows.map((r) =>
      svg("line", { class: "whisker", x1: at(r.confidence), x2: at(r.confidence), y1: up(r.low), y2: up(r.high) }),
    ),
    ...rows.map((r) =>
      svg("circle", {
        class: "dot",
        cx: at(r.confidence),
        cy: up(r.win_rate),
        r: 2.5 + 3.5 * Math.sqrt(r.count / most),
      }),
    ),
    Object.assign(svg("text", { x: size / 2, y: size - 2, "text-anchor": "middle" }), {
      textContent: "promised probability, %",
    }),
  );
}

export async function performancePage(session) {
  const view = $("view-performance");
  let report;
  try {
    report = await session.get("/api/performance");
  } catch (error) {
    view.replaceChildren(h("div", { class: "empty" }, h("strong", {}, "Performance is not available"), error.message));
    return;
  }
  const total = report.total,
    tile = (label, value) => h("div", { class: "tile" }, h("span", {}, label), h("b", { class: "num" }, value));
  if (total.signals === 0) {
    view.replaceChildren(
      h(
        "div",
        { class: "empty" },
        h("strong", {}, "No closed signals yet"),
        "Results appear here when signals reach their target, their stop or their end.",
      ),
    );
    return;
  }
  const plot = h("div", { class: "plot" });
  view.replaceChildren(
    h(
      "div",
      { class: "page" },
      h(
        "div",
        { class: "card wide" },
        h("h2", {}, "Closed signals"),
        h(
          "div",
          { class: "tiles" },
          tile("Signals", String(total.signals)),
          tile("Ended with a profit", percent(total.win_rate, 1)),
          tile("Hit target", percent(total.hit_rate, 1)),
          tile("Average result", signed(total.average_pnl_percent)),
          tile("Sum of results", signed(total.total_pnl_percent)),
          tile("Deepest drawdown", `${report.drawdown_percent.toFixed(1)} pts`),
          tile("Target / stop / expired", `${total.hit_target} / ${total.hit_stop} / ${total.expired}`),
        ),
      ),
      h(
        "div",
        { class: "card" },
        h("h2", {}, "Cumulative result"),
        plot,
        h(
          "p",
          { class: "quiet small" },
          "Equal stakes added up, after costs; not a compounded account. Past results say little about future ones.",
        ),
      ),
      h(
        "div",
        { class: "card" },
        h("h2", {}, "Reliability: promised against observed"),
        reliability(report.reliability),
        h(
          "p",
          { class: "quiet small" },
          "Up: the share that ended with a profit, which is what the probability promises, with its 95 % interval. On the dashed line it means what it says; a bigger dot holds more signals.",
        ),
      ),
      table("By exit", report.by_reason, "Reason", total.signals),
      table("By confidence", report.by_confidence, "Confidence"),
      table("By symbol", report.by_symbol, "Symbol"),
      table("By side", report.by_side, "Side"),
      table("By model that agreed", report.by_vote, "Model"),
      table("By model bundle", report.by_model, "Bundle"),
    ),
  );
  curve(plot, report.curve);
}
