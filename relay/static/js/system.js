// The pipeline's own state: venues, job, bundle, drift, and the relay's counters.

import { $, figure, h, known, moment, span, words } from "./dom.js";

function value(name, v, now) {
  if (v === null || v === undefined) return "–";
  if (typeof v === "boolean") return v ? "✓ yes" : "✕ no";
  if (known(v)) {
    if (name.endsWith("_ms") && v > 1e11) return `${moment(v)}${Math.abs(now - v) < 7 * 864e5 ? ` (${span(Math.abs(now - v))} ago)` : ""}`;
    if (name.endsWith("_ms")) return `${figure(v)} ms`;
    if (name.endsWith("_s")) return span(v * 1000);
    return v.toLocaleString();
  }
  if (Array.isArray(v)) return v.map((item) => (typeof item === "object" ? JSON.stringify(item) : item)).join(", ") || "–";
  return String(v);
}

const rows = (object, now, before = "") => Object.entries(object).flatMap(([k, v]) => (v && typeof v === "object" && !Array.isArray(v)
  ? rows(v, now, `${before}${words(k)} · `)
  : [h("dt", {}, before + words(k.replace(/_(ms|s)$/, ""))), h("dd", { class: "num" }, value(k, v, now))]));
const facts = (object, now) => h("dl", { class: "facts" }, rows(object, now));

function card(title, object, now, missing, shape = "third") {
  return h("div", { class: `card ${shape}` }, h("h2", {}, title), object ? facts(object, now) : h("p", { class: "quiet" }, missing));
}

export async function systemPage(session) {
  const view = $("view-system");
  let told;
  try { told = await session.get("/api/system"); } catch (error) {
    view.replaceChildren(h("div", { class: "empty" }, h("strong", {}, "The relay does not answer"), error.message));
    return;
  }
  const { pipeline, relay, now_ms: now } = told;
  const venues = Object.entries(pipeline).filter(([name]) => name.startsWith("venue:"));
  const known_ = new Set(["job", "bundle", "drift", "mode"]);
  view.replaceChildren(h("div", { class: "page" },
    card("Signals job", pipeline.job, now, "The job has not reported watermark, lag or checkpoints yet."),
    card("Model bundle", pipeline.bundle, now, "No bundle has been announced yet."),
    card("Drift", pipeline.drift, now, "No drift figures yet."),
    h("div", { class: "card wide" }, h("h2", {}, "Venues"), venues.length
      ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Venue"), h("th", {}, "State"), h("th", {}, "Details"))), h("tbody", {}, venues.map(([name, v]) => h("tr", {}, h("td", {}, name.slice(6)), h("td", {}, `${v.state === "streaming" || v.state === "connected" ? "● " : "✕ "}${v.state ?? "unknown"}`), h("td", {}, Object.entries(v).filter(([k]) => k !== "state").map(([k, x]) => `${words(k)}: ${typeof x === "object" ? JSON.stringify(x) : k.endsWith("_ms") && x > 1e11 ? moment(x) : x}`).join(" · ")))))))
      : h("p", { class: "quiet" }, "No venue reports here. In a replay the bars come from a file.")),
    card("Relay", relay, now, "", "wide columns"),
    ...Object.entries(pipeline).filter(([name]) => !known_.has(name) && !name.startsWith("venue:")).map(([name, object]) => card(words(name), typeof object === "object" ? object : { value: object }, now, ""))));
}
