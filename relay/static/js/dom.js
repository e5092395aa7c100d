// @ts-check
// Small helpers: elements without innerHTML, and numbers as people read them.

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat());
  return node;
}

// An element of the page by its id: any, as each kind has fields of its own.
/** @type {(id: string) => any} */
export const $ = (id) => document.getElementById(id);

export const known = (value) => typeof value === "number" && Number.isFinite(value);

export const SIDES = { buy: "▲ BUY", sell: "▼ SELL", hold: "■ HOLD" };

// How a signal ended, in words and a sign of its own.
export const ENDS = {
  active: "● active",
  hit_target: "⚑ target hit",
  hit_stop: "✕ stopped out",
  expired: "◷ expired",
  cancelled: "⊘ cancelled",
  closed: "■ closed",
};

export function side(action) {
  return h("span", { class: `side ${action}` }, SIDES[action] ?? action);
}

export function price(value) {
  if (!known(value)) return "–";
  const digits = Math.abs(value) >= 1 ? 2 : 6;
  return value.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: digits });
}

export const percent = (value, digits = 0) => (known(value) ? `${(value * 100).toFixed(digits)} %` : "–");

export function signed(value, unit = " %", digits = 2) {
  if (!known(value)) return h("span", { class: "num" }, "–");
  const direction = value > 0 ? "up" : value < 0 ? "down" : "";
  const sign = value > 0 ? "▲ +" : value < 0 ? "▼ −" : "";
  return h("span", { class: `num ${direction}` }, `${sign}${Math.abs(value).toFixed(digits)}${unit}`);
}

export function figure(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e6 || size < 1e-3) ? value.toExponential(2) : String(Math.round(value * 1e4) / 1e4);
}

export function moment(ms, withTime = true) {
  if (!known(ms) || ms <= 0) return "–";
  /** @type {Intl.DateTimeFormatOptions} */
  const options = { day: "numeric", month: "short", year: "numeric" };
  if (withTime && ms % 86_400_000 !== 0) Object.assign(options, { hour: "2-digit", minute: "2-digit" });
  return `${new Date(ms).toLocaleString(undefined, { ...options, timeZone: "UTC" })} UTC`;
}

export function span(ms) {
  if (!known(ms)) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const two = (big, small, rest, little) => `${big} ${small}${rest ? ` ${rest} ${little}` : ""}`;
  if (seconds < 86_400) return two(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return two(Math.floor(seconds / 86_400), "d", Math.floor((seconds % 86_400) / 3600), "h");
}

// A padlock drawn here: not every system has the character.
export function padlock() {
  return h(
    "span",
    { class: "padlock" },
    svg(
      "svg",
      { viewBox: "0 0 12 14", width: 11, height: 13, "aria-hidden": "true" },
      svg("rect", { x: 1, y: 6, width: 10, height: 7.5, rx: 1.6, fill: "currentColor" }),
      svg("path", { d: "M3.3 6V4a2.7 2.7 0 0 1 5.4 0v2", fill: "none", stroke: "currentColor", "stroke-width": 1.6 }),
    ),
    h("span", { class: "visually-hidden" }, "Locked: "),
  );
}

export const words = (name) => name.replaceAll("_", " ");
