// @ts-check
// The pipeline's own state: a line of tiles that says whether all is well, then jobs, venues, bundle, drift and the
// relay's counters. What is not reported is marked so, with how to enable it.

import { $, figure, h, known, moment, percent, span, words } from "./dom.js";

const STREAMING = ["streaming", "connected"];
const REPORT_STALE_MS = 60_000; // a component that reports renews itself every few seconds
const CHECKPOINT_OLD_MS = 300_000;
const PSI_CHANGED = 0.25,
  PSI_STABLE = 0.1;
const GLYPHS = { good: "✓", warn: "⚠", bad: "✕" };

const count = (n, one, many = `${one}s`) => `${n.toLocaleString()} ${n === 1 ? one : many}`;
const bytes = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.round(n / 1e3)} kB`);

function value(name, v, now) {
  if (v === null || v === undefined) return "–";
  if (typeof v === "boolean") return v ? "✓ yes" : "✕ no";
  if (known(v)) {
    if (name.endsWith("_ms") && v > 1e11)
      return `${moment(v)}${Math.abs(now - v) < 7 * 864e5 ? ` (${span(Math.abs(now - v))} ago)` : ""}`;
    if (name.endsWith("_ms")) return `${figure(v)} ms`;
    if (name.endsWith("_s")) return span(v * 1000);
    if (name.endsWith("_share")) return percent(v, 1);
    return Number.isInteger(v) ? v.toLocaleString() : figure(v);
  }
  if (Array.isArray(v))
    return v.map((item) => (typeof item === "object" ? JSON.stringify(item) : item)).join(", ") || "–";
  return String(v);
}

const rows = (object, now, before = "") =>
  Object.entries(object)
    .filter(([k]) => before || k !== "updated_ms")
    .flatMap(([k, v]) =>
      v && typeof v === "object" && !Array.isArray(v)
        ? rows(v, now, `${before}${words(k)} · `)
        : [h("dt", {}, before + words(k.replace(/_(ms|s)$/, ""))), h("dd", { class: "num" }, value(k, v, now))],
    );
const facts = (object, now) => h("dl", { class: "facts" }, rows(object, now));
const missing = (...text) => h("p", { class: "quiet" }, ...text);
const head = (names) =>
  h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.map(([name, number]) => h("th", { class: number ? "num" : null }, name)),
    ),
  );
const cell = (...children) => h("td", { class: "num" }, ...children);

function tile(label, tone, text, note) {
  return h(
    "div",
    { class: `tile ${tone ?? ""} ${text.length > 16 ? "long" : ""}` },
    h("span", {}, label),
    h("b", { class: "num" }, tone ? `${GLYPHS[tone]} ` : "", text),
    h("small", { class: "quiet" }, note ?? ""),
  );
}

// A line under a report that has not been renewed.
function old(report, now) {
  const age = now - report?.updated_ms;
  return known(age) && age > REPORT_STALE_MS ? h("p", { class: "stale" }, `⚠ last report ${span(age)} ago`) : null;
}

function tiles({ mode, pipeline, watch, relay, now_ms: now }, venues) {
  const running = (watch.jobs ?? []).filter((job) => job.state === "RUNNING"),
    ailing = (watch.jobs ?? []).filter((job) => ["RESTARTING", "FAILING", "FAILED"].includes(job.state));
  const none = (label, note = "not reported") => tile(label, null, "–", note);
  const streaming = venues.filter(([, v]) => STREAMING.includes(v.state) && !old(v, now));
  const behind = running.map((job) => job.records_behind).filter(known),
    inGroups = (watch.groups ?? []).map((group) => group.records_behind);
  const lag = behind.length ? behind : inGroups,
    late = relay.signal_lag_ms ?? pipeline.job?.lag_ms;
  const marks = running.map((job) => job.watermark_ms).filter(known),
    mark = marks.length ? Math.min(...marks) : (pipeline.job?.watermark_ms ?? relay.event_time_ms);
  const ages = running
      .filter((job) => known(job.checkpoint_ms))
      .map((job) => job.now_ms - job.checkpoint_ms + (now - watch.read_ms)),
    age = Math.max(...ages);
  const failing = running.some((job) => known(job.last_failure_ms) && job.last_failure_ms > (job.checkpoint_ms ?? 0));
  const drift = pipeline.drift,
    psi = drifts(drift),
    changed = psi.filter(([, v]) => v > PSI_CHANGED).length;
  return h(
    "div",
    { class: "tiles" },
    watch.jobs === null
      ? none("Jobs")
      : watch.errors.flink
        ? tile(
            "Jobs",
            running.length ? "warn" : "bad",
            running.length ? `${running.length} running` : "no answer",
            watch.errors.flink,
          )
        : tile(
            "Jobs",
            ailing.length || !running.length ? "bad" : "good",
            `${running.length} running`,
            ailing.map((job) => `${job.name}: ${job.state.toLowerCase()}`).join(", ") ||
              running.map((job) => job.name).join(", "),
          ),
    venues.length
      ? tile(
          "Venues",
          streaming.length === venues.length ? "good" : streaming.length ? "warn" : "bad",
          `${streaming.length} of ${venues.length} streaming`,
          venues.map(([name]) => name.slice(6)).join(", "),
        )
      : none("Venues", mode === "replay" ? "bars come from a file" : "not reported"),
    lag.length
      ? tile(
          "Lag",
          null,
          count(
            lag.reduce((a, b) => a + b, 0),
            "record",
          ),
          known(late) ? `signals ${figure(late)} ms after their bar` : "waiting in Kafka",
        )
      : known(late)
        ? tile("Lag", null, `${figure(late)} ms`, "from a bar's end to its signal")
        : none("Lag"),
    known(mark) && mark > 0
      ? tile(
          "Watermark",
          null,
          moment(mark),
          marks.length
            ? mode === "live"
              ? `${span(now - mark)} behind the clock`
              : "event time reached by every operator"
            : "newest bar or signal seen",
        )
      : none("Watermark"),
    ages.length
      ? tile(
          "Checkpoint age",
          failing ? "bad" : age > CHECKPOINT_OLD_MS ? "warn" : "good",
          span(age),
          failing ? "the latest attempt failed" : "oldest of the jobs",
        )
      : none("Checkpoint age", running.length ? "no checkpoint yet" : "not reported"),
    pipeline.bundle?.name
      ? tile("Model bundle", null, String(pipeline.bundle.name).split("@")[0], String(pipeline.bundle.name))
      : none("Model bundle"),
    drift
      ? tile(
          "Drift",
          psi.length ? (changed ? "warn" : "good") : null,
          psi.length ? (changed ? count(changed, "feature") : "none") : percent(drift.strange_share, 1),
          psi.length
            ? changed
              ? `changed: PSI above ${PSI_CHANGED}`
              : `no PSI above ${PSI_CHANGED}`
            : "rows out of distribution",
        )
      : none("Drift"),
    tile(
      "Dropped clients",
      relay.dropped_slow ? "warn" : "good",
      relay.dropped_slow.toLocaleString(),
      `${count(relay.clients, "client")} connected`,
    ),
    tile(
      "Redis",
      relay.redis ? "good" : "bad",
      relay.redis ? "answers" : "away",
      relay.redis ? "" : "signals shown are the last known",
    ),
  );
}

const STATE = { RUNNING: "✓", FINISHED: "■", RESTARTING: "⟳", FAILING: "✕", FAILED: "✕", CANCELED: "■" };

function jobs(watch, now) {
  const wide = (...content) => h("div", { class: "card wide" }, h("h2", {}, "Jobs"), ...content);
  if (watch.jobs === null)
    return wide(
      missing(
        "Not reported. Start the relay with ",
        h("code", {}, "--flink http://HOST:8081"),
        ", the JobManager of a cluster, or the ",
        h("code", {}, "--rest-port"),
        " of a local job.",
      ),
    );
  const trouble = watch.errors.flink
    ? h("p", { class: "error" }, `✕ ${watch.errors.flink}; trying again by itself.`)
    : null;
  if (!watch.jobs.length) return wide(trouble ?? missing("Flink runs no job."));
  const names = [
    ["Job"],
    ["State"],
    ["Records behind", 1],
    ["Watermark"],
    ["Checkpoint", 1],
    ["Took", 1],
    ["Size", 1],
    ["Failed", 1],
    ["Restarts", 1],
  ];
  return wide(
    trouble ?? "",
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        head(names),
        h(
          "tbody",
          {},
          watch.jobs.map((job) =>
            h(
              "tr",
              {},
              h("td", {}, job.name),
              h("td", {}, `${STATE[job.state] ?? "…"} ${job.state.toLowerCase()}`),
              cell(known(job.records_behind) ? job.records_behind.toLocaleString() : "–"),
              h("td", {}, known(job.watermark_ms) ? moment(job.watermark_ms) : "none"),
              cell(
                known(job.checkpoint_ms)
                  ? `${span(job.now_ms - job.checkpoint_ms + (now - watch.read_ms))} ago`
                  : "none yet",
              ),
              cell(known(job.checkpoint_took_ms) ? `${figure(job.checkpoint_took_ms)} ms` : "–"),
              cell(known(job.checkpoint_bytes) ? bytes(job.checkpoint_bytes) : "–"),
              cell(String(job.checkpoints_failed)),
              cell(String(job.restarts)),
            ),
          ),
        ),
      ),
    ),
  );
}

function groups(watch) {
  const card = (...content) => h("div", { class: "card third" }, h("h2", {}, "Kafka consumer lag"), ...content);
  if (watch.groups === null)
    return card(missing("Not reported. Start the relay with ", h("code", {}, "--kafka HOST:PORT"), "."));
  if (watch.errors.kafka) return card(h("p", { class: "error" }, `✕ ${watch.errors.kafka}; trying again by itself.`));
  if (!watch.groups.length) return card(missing("No group has committed an offset yet; jobs do at each checkpoint."));
  return card(
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        head([["Group"], ["Topic"], ["Behind", 1]]),
        h(
          "tbody",
          {},
          watch.groups.map((group) =>
            h(
              "tr",
              {},
              h("td", {}, group.group),
              h("td", {}, group.topic),
              cell(group.records_behind.toLocaleString()),
            ),
          ),
        ),
      ),
    ),
    h("p", { class: "quiet small" }, "By committed offsets: jobs commit at each checkpoint."),
  );
}

function venueTable(venues, now) {
  const rest = (v) =>
    Object.entries(v)
      .filter(([k]) => !["state", "updated_ms", "last_message_ms", "lag_ms", "gaps", "reconnects"].includes(k))
      .map(([k, x]) => `${words(k.replace(/_(ms|s)$/, ""))}: ${value(k, x, now)}`)
      .join(" · ");
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      head([["Venue"], ["State"], ["Last message", 1], ["Lag", 1], ["Gaps", 1], ["Reconnects", 1], ["More"]]),
      h(
        "tbody",
        {},
        venues.map(([name, v]) =>
          h(
            "tr",
            {},
            h("td", {}, name.slice(6)),
            h("td", {}, `${STREAMING.includes(v.state) ? "✓" : "✕"} ${v.state ?? "unknown"}`, old(v, now)),
            cell(v.last_message_ms > 1e11 ? `${span(now - v.last_message_ms)} ago` : "–"),
            cell(known(v.lag_ms) ? `${figure(v.lag_ms)} ms` : "–"),
            cell(value("gaps", v.gaps, now)),
            cell(value("reconnects", v.reconnects, now)),
            h("td", { class: "small quiet" }, rest(v)),
          ),
        ),
      ),
    ),
  );
}

// [feature, PSI], worst first.
function drifts(drift) {
  return Object.entries(drift ?? {})
    .filter(([k, v]) => k.startsWith("psi.") && known(v))
    .map(([k, v]) => [k.slice(4), v])
    .sort((a, b) => b[1] - a[1]);
}

function driftCard(drift, now) {
  const card = (...content) => h("div", { class: "card third" }, h("h2", {}, "Drift"), ...content);
  if (!drift) return card(missing("Not reported. The signals job reports how far its rows are from the training data."));
  const psi = drifts(drift),
    plain = Object.fromEntries(Object.entries(drift).filter(([k]) => !k.includes(".")));
  const word = (v) => (v > PSI_CHANGED ? "⚠ changed" : v > PSI_STABLE ? "◔ moving" : "✓ stable");
  return card(
    facts(plain, now),
    psi.length
      ? h(
          "table",
          {},
          head([["Feature"], ["PSI", 1], ["", 1]]),
          h(
            "tbody",
            {},
            psi
              .slice(0, 8)
              .map(([name, v]) => h("tr", {}, h("td", {}, words(name)), cell(v.toFixed(2)), cell(word(v)))),
          ),
        )
      : "",
    psi.length > 8 ? missing(`and ${psi.length - 8} more, all below ${psi[7][1].toFixed(2)}`) : "",
    old(drift, now) ?? "",
  );
}

function bundleCard(bundle, now) {
  const { name, base_rates: rates, ...rest } = bundle ?? {};
  return h(
    "div",
    { class: "card third" },
    h("h2", {}, "Model bundle"),
    bundle
      ? h(
          "dl",
          { class: "facts" },
          h("dt", {}, "Name"),
          h("dd", {}, name ?? "–"),
          Object.entries(rates ?? {}).flatMap(([side, rate]) => [
            h("dt", {}, `base rate of ${side}`),
            h("dd", { class: "num" }, percent(rate, 1)),
          ]),
          rows(rest, now),
        )
      : missing("No bundle has been announced yet."),
  );
}

function report(title, object, now, note) {
  return h(
    "div",
    { class: "card third" },
    h("h2", {}, title),
    object ? facts(object, now) : missing(note),
    object ? (old(object, now) ?? "") : "",
  );
}

export async function systemPage(session) {
  const view = $("view-system");
  let answer;
  try {
    answer = await session.get("/api/system");
  } catch (error) {
    view.replaceChildren(h("div", { class: "empty" }, h("strong", {}, "The relay does not answer"), error.message));
    return;
  }
  const { pipeline, watch, relay, now_ms: now } = answer;
  const components = Object.entries(pipeline).filter(([, v]) => v && typeof v === "object");
  const venues = components.filter(([name]) => name.startsWith("venue:")),
    shown = new Set(["job", "bundle", "drift", "mode"]);
  view.replaceChildren(
    h(
      "div",
      { class: "page" },
      h("div", { class: "card wide" }, h("h2", {}, "At a glance"), tiles(answer, venues)),
      jobs(watch, now),
      h(
        "div",
        { class: "card wide" },
        h("h2", {}, "Venues"),
        venues.length
          ? venueTable(venues, now)
          : missing(
              "No venue reports here: ",
              h("code", {}, "signals ingest"),
              " does. In a replay the bars come from a file.",
            ),
      ),
      report("Signals job", pipeline.job, now, "Not reported. The signals job counts its bars and signals here."),
      bundleCard(pipeline.bundle, now),
      driftCard(pipeline.drift, now),
      groups(watch),
      ...components
        .filter(([name]) => !shown.has(name) && !name.startsWith("venue:"))
        .map(([name, object]) => report(words(name), object, now)),
      h("div", { class: "card wide columns" }, h("h2", {}, "Relay"), facts(relay, now)),
    ),
  );
}
