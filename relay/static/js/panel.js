// @ts-check
// Details of one signal, as far as the user's tier shows it; what a higher tier adds is named, never sent.

import { ENDS, figure, h, known, moment, padlock, percent, price, side, signed, span, words } from "./dom.js";

const lock = (title, text, tier) =>
  h("div", { class: "lock" }, h("h3", {}, padlock(), title), h("p", {}, text), h("p", {}, h("b", {}, `${tier} tier`)));

function meter(value, base) {
  const bar = h(
    "div",
    {
      class: "bar",
      role: "img",
      "aria-label": `probability ${percent(value)}${known(base) ? `, base rate ${percent(base)}` : ""}`,
    },
    h("i", { style: { width: `${value * 100}%` } }),
  );
  if (known(base)) bar.append(h("b", { style: { left: `${base * 100}%` } }));
  return bar;
}

function history(performance) {
  return h(
    "dl",
    { class: "facts" },
    h("dt", {}, "Closed signals"),
    h("dd", { class: "num" }, String(performance.signals)),
    h("dt", {}, "Hit the target"),
    h("dd", { class: "num" }, percent(performance.hit_rate)),
    h("dt", {}, "Average result"),
    h("dd", {}, signed(performance.average_pnl_percent)),
  );
}

function summary(message) {
  const data = message.data,
    premium = data.tier_required === "premium";
  return [
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, message.symbol),
      h("span", { class: "side hold" }, padlock(), "summary"),
    ),
    h("div", {}, h("h3", {}, "How earlier signals went"), history(data.historical_performance)),
    h("p", { class: "num" }, `Signals on the latest day: ${data.signal_count_today}`),
    premium
      ? lock(
          data.upgrade_prompt,
          "Action, confidence, entry, target and stop, reasoning, and a chart image, as each signal appears.",
          "Premium",
        )
      : lock(
          "Below 60 % confidence",
          "Signals of lower confidence are shown to dynamic users, with their risk analysis.",
          "Dynamic",
        ),
    lock("Live signals", "Votes of each model, top features, news, risk analysis, P&L minute by minute.", "Dynamic"),
  ];
}

function levels(data) {
  const cell = (label, value) =>
    h("div", { class: "level" }, h("span", {}, label), h("b", { class: "num" }, price(value)));
  return h(
    "div",
    { class: "levels" },
    cell("Entry", data.entry_price),
    cell("Target ⚑", data.target_price),
    cell("Stop ✕", data.stop_loss),
  );
}

function votes(data) {
  const rows = Object.entries(data.model_votes).map(([model, [action, probability]]) =>
    h(
      "div",
      { class: "line" },
      h("span", { title: model }, words(model)),
      meter(probability),
      h("span", {}, `${{ buy: "▲", sell: "▼", hold: "■" }[action]} ${percent(probability)}`),
    ),
  );
  const skipped = Object.entries(data.skipped_models).map(([model, reason]) =>
    h("p", { class: "quiet small" }, `${words(model)} left out: ${reason}`),
  );
  return h(
    "div",
    {},
    h("h3", {}, "Model votes"),
    rows.length ? rows : h("p", { class: "quiet" }, "No votes were recorded."),
    skipped,
  );
}

function contributions(data) {
  if (!data.contributions.length) return null;
  const top = data.contributions.slice(0, 8),
    most = Math.max(...top.map((c) => Math.abs(c.contribution)), 1e-9);
  return h(
    "div",
    {},
    h("h3", {}, "Top features"),
    top.map((c) => {
      const share = (Math.abs(c.contribution) / most) * 50,
        direction = c.contribution >= 0 ? "for" : "against";
      return h(
        "div",
        { class: "line" },
        h("span", { title: c.feature }, `${words(c.feature)} ${figure(c.value)}`),
        h(
          "div",
          { class: "diverge", role: "img", "aria-label": `${direction} the signal` },
          h("i", { class: direction, style: { width: `${share}%` } }),
        ),
        h("span", { class: "num" }, `${c.contribution >= 0 ? "+" : "−"}${Math.abs(c.contribution).toFixed(2)}`),
      );
    }),
    h("p", { class: "quiet small" }, "Right: speaks for the signal; left: against (log-odds)."),
  );
}

function risk(analysis) {
  const similar = analysis.similar_signals,
    percentOf = (v) => (known(v) ? `${v.toFixed(2)} %` : "–");
  return h(
    "div",
    {},
    h("h3", {}, "Risk"),
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "ATR"),
      h("dd", { class: "num" }, percentOf(analysis.atr_percent)),
      h("dt", {}, "Volatility percentile"),
      h(
        "dd",
        { class: "num" },
        known(analysis.volatility_percentile) ? analysis.volatility_percentile.toFixed(0) : "–",
      ),
      h("dt", {}, "Distance to stop"),
      h("dd", { class: "num" }, percentOf(analysis.stop_distance_percent)),
      h("dt", {}, "Reward to risk"),
      h("dd", { class: "num" }, known(analysis.reward_to_risk) ? `${analysis.reward_to_risk.toFixed(1)} : 1` : "–"),
      h("dt", {}, "Similar signals closed"),
      h(
        "dd",
        { class: "num" },
        `${similar.count}${known(similar.hit_rate) ? `, ${percent(similar.hit_rate)} hit` : ""}`,
      ),
      h("dt", {}, "Their drawdown / worst"),
      h(
        "dd",
        { class: "num" },
        similar.count ? `${similar.drawdown_percent.toFixed(1)} / ${percentOf(similar.worst_percent)}` : "–",
      ),
    ),
  );
}

function news(context) {
  const facts = known(context.sentiment_24h)
    ? h(
        "p",
        { class: "small" },
        "Sentiment 24 h ",
        signed(context.sentiment_24h, ""),
        ` from ${figure(context.volume_24h)} articles`,
      )
    : null;
  const articles = context.articles.map((a) =>
    h(
      "li",
      {},
      /^https?:/.test(a.url ?? "")
        ? h("a", { href: a.url, rel: "noopener noreferrer", target: "_blank" }, a.headline)
        : a.headline,
      h("span", { class: "quiet small" }, ` ${moment(a.created_ms)}`),
    ),
  );
  return h(
    "div",
    {},
    h("h3", {}, "News"),
    facts,
    articles.length
      ? h("ul", {}, articles)
      : h("p", { class: "quiet small" }, facts ? "No recent articles kept." : "No news feed for this symbol."),
  );
}

function live(update) {
  if (!update) return h("p", { class: "quiet small" }, "Waiting for the first update.");
  return h(
    "dl",
    { class: "facts" },
    h("dt", {}, "Status"),
    h("dd", {}, ENDS[update.status] ?? update.status),
    h("dt", {}, "Price"),
    h("dd", { class: "num" }, price(update.current_price)),
    h("dt", {}, "Result so far"),
    h("dd", {}, signed(update.pnl_percent)),
  );
}

// All nodes of the panel; `store` gives updates and the clock.
export function panel(message, store) {
  if (!message)
    return [
      h(
        "div",
        { class: "empty" },
        h("strong", {}, "No signal chosen"),
        "Pick one from the feed (↑ ↓) to see why it was made.",
      ),
    ];
  if (message.type === "signal_summary") return summary(message);
  const data = message.data,
    dynamic = message.type === "dynamic_signal",
    left = message.expires_ms - store.now(message.symbol);
  const nodes = [
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, message.symbol),
      side(data.action),
      h("span", { class: "quiet" }, `${data.timeframe} · horizon ${data.time_horizon}`),
    ),
    h(
      "div",
      {},
      h(
        "div",
        { class: "row" },
        h("h3", {}, "Calibrated probability"),
        h("b", { class: "num" }, percent(data.confidence)),
      ),
      meter(data.confidence, dynamic ? data.base_rate : null),
      dynamic
        ? h(
            "p",
            { class: "quiet small" },
            known(data.base_rate)
              ? `Base rate ${percent(data.base_rate)} (the mark): how often this happens anyway.`
              : "Base rate not published by this bundle.",
          )
        : null,
    ),
    levels(data),
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "Bar closed"),
      h("dd", {}, moment(data.created_ms)),
      h("dt", {}, "Expires in"),
      h("dd", { class: "num", id: "expires-in", title: moment(message.expires_ms) }, left > 0 ? span(left) : "now"),
      h("dt", {}, "Risk profile"),
      h("dd", {}, data.risk_profile),
    ),
    h("div", {}, h("h3", {}, "Reasoning"), h("p", {}, data.reasoning)),
  ];
  if (dynamic) {
    const missing = Object.keys(data.missing_inputs);
    nodes.push(
      h("div", {}, h("h3", {}, "Live result"), live(store.updates.get(data.signal_id))),
      votes(data),
      contributions(data),
      risk(data.risk_analysis),
      news(data.news_context),
      missing.length ? h("p", { class: "quiet small" }, `Missing inputs: ${missing.map(words).join(", ")}`) : null,
      h(
        "details",
        {},
        h("summary", {}, "Features snapshot"),
        h(
          "dl",
          { class: "facts" },
          Object.entries(data.features_snapshot).flatMap(([k, v]) => [
            h("dt", {}, words(k)),
            h("dd", { class: "num" }, figure(v)),
          ]),
        ),
      ),
    );
  } else {
    nodes.push(
      lock(
        "Model votes and top features",
        "How each of the four models voted, and what spoke for and against.",
        "Dynamic",
      ),
      lock(
        "Risk analysis and news",
        "ATR, volatility percentile, drawdown of similar signals, articles behind the sentiment.",
        "Dynamic",
      ),
      lock(
        `Live updates for ${data.dynamic_upgrade_price}`,
        "P&L every minute, and at once when target or stop is hit.",
        "Dynamic",
      ),
    );
  }
  const image = h("details", { class: "image" }, h("summary", {}, "Chart image"));
  image.addEventListener("toggle", () => {
    if (image.open && !image.querySelector("img"))
      image.append(
        h("img", {
          class: "signal-image",
          src: data.image_url,
          alt: `Chart of the ${data.action} signal on ${message.symbol} with entry, target and stop`,
        }),
      );
  });
  nodes.push(image);
  return nodes.filter(Boolean);
}
