// @ts-check
// The page: views, the feed, keys, and the states shown to the user.

import { PriceChart } from "./chart.js";
import { $, ENDS, h, known, padlock, percent, price, side, signed, span } from "./dom.js";
import { panel } from "./panel.js";
import { performancePage } from "./performance.js";
import { Session } from "./session.js";
import { settingsPage } from "./settings.js";
import { Store } from "./store.js";
import { systemPage } from "./system.js";

const session = new Session(),
  store = new Store(),
  chart = new PriceChart(session);
const VIEWS = ["signals", "performance", "system", "settings"];
const MODES = {
  live: ["good", "●", "Live", "Bars as they happen"],
  delayed: ["warn", "◷", "Delayed", "Bars come minutes after they happened"],
  replay: ["warn", "⟲", "Replay", "Bars of the past, played again"],
  simulated: ["warn", "⚗", "Simulated", "Made-up bars: no market"],
  unknown: ["", "◌", "No data yet", "Nothing has come from the pipeline yet"],
};
let view = "signals",
  chosen = null,
  waiting = false,
  charted = null,
  refresher = null;

// The badges of mode and connection

function showStates() {
  const [tone, glyph, text, meaning] = MODES[store.mode] ?? MODES.unknown;
  $("mode").className = `badge ${tone}`;
  $("mode").title = meaning;
  $("mode").replaceChildren(glyph, h("span", {}, ` ${text}`));
  const stale = session.state === "open" && store.stale;
  const connection = {
    open: stale ? ["warn", "◔", "Stale"] : ["good", "✓", "Connected"],
    connecting: ["warn", "…", "Connecting"],
    lost: ["bad", "✕", "Disconnected"],
    "signed-out": ["", "○", "Signed out"],
  }[session.state];
  $("connection").className = `badge ${connection[0]}`;
  $("connection").dataset.state = stale ? "stale" : session.state;
  $("connection").replaceChildren(connection[1], h("span", { class: "word" }, ` ${connection[2]}`));
  const banner =
    session.state === "lost"
      ? "✕ Disconnected from the relay. What you see is from before; trying again by itself."
      : session.state === "open" && !store.pipelineOk
        ? "⚠ The relay cannot reach the pipeline. Signals shown are the last known ones."
        : stale
          ? `◔ Nothing new for ${span(Date.now() - store.receivedAt)}. The market may be closed, or a feed may be down: see System.`
          : "";
  $("banner").hidden = banner === "";
  if ($("banner").textContent !== banner) $("banner").textContent = banner;
  $("who").textContent = session.user ? `${session.user.user} · ${session.user.tier}` : "";
}

// The feed

function visible() {
  const text = $("filter").value.trim().toUpperCase(),
    wanted = $("side").value;
  return store.newestFirst().filter((m) => (!text || m.symbol.includes(text)) && (!wanted || m.data.action === wanted));
}

function item(message) {
  const id = Store.id(message),
    data = message.data,
    selected = id === chosen;
  const common = {
    role: "option",
    id: `signal-${id}`,
    "data-id": id,
    "aria-selected": String(selected),
    class: store.fresh.has(id) ? "fresh" : null,
    onclick: () => choose(id),
  };
  if (message.type === "signal_summary") {
    return h(
      "li",
      common,
      h(
        "div",
        { class: "row" },
        h("span", { class: "symbol" }, message.symbol),
        h("span", { class: "side hold" }, padlock(), "summary"),
      ),
      h(
        "div",
        { class: "row small quiet" },
        h("span", {}, `${data.historical_performance.signals} closed`),
        h("span", {}, `hit ${percent(data.historical_performance.hit_rate)}`),
      ),
    );
  }
  const update = store.updates.get(id),
    left = message.expires_ms - store.now(message.symbol);
  return h(
    "li",
    common,
    h("div", { class: "row" }, h("span", { class: "symbol" }, message.symbol), side(data.action)),
    h(
      "div",
      { class: "row small" },
      h("span", { class: "num" }, `${price(data.entry_price)} → ${price(data.target_price)}`),
      h("b", { class: "num" }, percent(data.confidence)),
    ),
    h("div", { class: "bar" }, h("i", { style: { width: `${data.confidence * 100}%` } })),
    h(
      "div",
      { class: "row small quiet" },
      h("span", {}, `${data.timeframe} · ${left > 0 ? `${span(left)} left` : "ending"}`),
      update && known(update.pnl_percent) ? signed(update.pnl_percent) : h("span", {}, data.time_horizon),
    ),
  );
}

function drawFeed() {
  const shown = visible();
  if (!shown.some((m) => Store.id(m) === chosen)) chosen = shown.length ? Store.id(shown[0]) : null;
  const list = $("feed"),
    top = list.scrollTop;
  list.replaceChildren(...shown.slice(0, 200).map(item));
  list.scrollTop = top;
  store.fresh.clear();
  if (chosen) list.setAttribute("aria-activedescendant", `signal-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
  $("count").textContent = shown.length ? `· ${shown.length}` : "";
  const filtered = store.signals.size > 0;
  $("feed-empty").hidden = shown.length > 0;
  $("feed-empty").replaceChildren(
    h("strong", {}, filtered ? "Nothing matches" : "No active signals"),
    filtered ? "Change the filter to see the others." : "Most bars make no signal. A new one appears here by itself.",
  );
}

function drawEnded() {
  const shown = store.ended
    .filter((one) => one.reason !== "superseded" && one.signal.type !== "signal_summary")
    .slice(0, 20);
  $("ended").hidden = shown.length === 0;
  $("ended-count").textContent = `· ${shown.length}`;
  $("ended-list").replaceChildren(
    ...shown.map(({ signal, reason, updates }) =>
      h(
        "li",
        { class: "row small" },
        h("span", {}, h("b", {}, signal.symbol), ` ${signal.data.action} · ${ENDS[reason] ?? reason}`),
        known(updates?.pnl_percent) ? signed(updates.pnl_percent) : null,
      ),
    ),
  );
}

function drawPanel() {
  const message = chosen ? store.signals.get(chosen) : null;
  const open = $("panel").querySelector("details.image")?.open && charted === chosen;
  if (open) {
    // keep the loaded image: renew only the figures that move
    const left = message.expires_ms - store.now(message.symbol);
    if ($("expires-in")) $("expires-in").textContent = left > 0 ? span(left) : "now";
  } else {
    const top = $("panel").scrollTop;
    $("panel").replaceChildren(...panel(message, store));
    $("panel").scrollTop = charted === chosen ? top : 0;
  }
  const key = message ? `${chosen}` : null;
  if (key !== charted || chart.message !== message) {
    charted = key;
    chart.show(message, message ? store.newestFirst().filter((m) => m.symbol === message.symbol && m !== message) : []);
  }
}

function draw() {
  waiting = false;
  showStates();
  if (view === "signals" && session.user) {
    drawFeed();
    drawEnded();
    drawPanel();
  }
}

function soon() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => requestAnimationFrame(draw), 60);
}

function choose(id) {
  chosen = id;
  draw();
  $(`signal-${id}`)?.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const ids = visible().map(Store.id);
  if (ids.length) choose(ids[Math.min(ids.length - 1, Math.max(0, ids.indexOf(chosen) + by))]);
}

// Views

function show(name) {
  view = VIEWS.includes(name) ? name : "signals";
  const inside = session.user !== null && session.state !== "signed-out";
  $("signin").hidden = inside || session.state === "connecting";
  for (const each of VIEWS) $(`view-${each}`).hidden = !inside || each !== view;
  for (const link of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("nav a"))) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  clearInterval(refresher);
  if (!inside) {
    if (!$("signin").hidden) $("token").focus();
    return;
  }
  if (view === "performance") performancePage(session);
  if (view === "settings") settingsPage(session);
  if (view === "system") {
    systemPage(session);
    refresher = setInterval(() => systemPage(session), 3_000);
  }
  if (view === "signals") {
    charted = null;
    draw();
    refresher = setInterval(() => {
      chart.refresh();
      draw();
    }, 5_000);
  }
}

const route = () => show(location.hash.slice(2));

// Events

session.addEventListener("state", (/** @type {any} */ { detail }) => {
  if (detail.state === "signed-out") {
    session.user = null;
    $("signin-error").textContent = detail.reason ? `✕ ${detail.reason}` : "";
  }
  showStates();
  const reading = view !== "signals" && !$(`view-${view}`).hidden; // a page being read is not redrawn
  if ((detail.state === "open" && !reading) || detail.state === "signed-out") route();
});
session.addEventListener("message", (/** @type {any} */ { detail }) => {
  store.take(detail);
  if (detail.type === "trading_signal" || detail.type === "dynamic_signal")
    $("announce").textContent =
      `New signal: ${detail.data.action} ${detail.symbol}, ${percent(detail.data.confidence)}`;
  if (detail.type === "error") $("announce").textContent = detail.reason;
  soon();
});
$("signin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("signin-error").textContent = "";
  session.signIn($("token").value);
  $("token").value = "";
});
$("filter").addEventListener("input", draw);
$("side").addEventListener("input", draw);
window.addEventListener("hashchange", () => {
  route();
  $("main").focus({ preventScroll: true });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const down = event.key === "j" || event.key === "ArrowDown",
    up = event.key === "k" || event.key === "ArrowUp";
  if (
    view === "signals" &&
    (down || up) &&
    !(event.key.startsWith("Arrow") && document.activeElement?.closest(".panel, #chart"))
  ) {
    step(down ? 1 : -1);
    event.preventDefault();
  } else if (event.key === "/" && view === "signals") {
    $("filter").focus();
    event.preventDefault();
  } else if (event.key === "t") retheme();
  else if (event.key === "?") location.hash = "#/settings";
  else if (/^[1-4]$/.test(event.key)) location.hash = `#/${VIEWS[Number(event.key) - 1]}`;
});

// Light and dark: the system's choice until the user makes one

function theme() {
  const kept = localStorage.getItem("signals.theme");
  document.documentElement.dataset.theme =
    kept ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
function retheme() {
  localStorage.setItem("signals.theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  theme();
  chart.retheme();
  if (view === "performance") performancePage(session);
}
$("theme").addEventListener("click", retheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme();
  chart.retheme();
});

theme();
showStates();
setInterval(showStates, 2_000);
session.begin().then(route);
