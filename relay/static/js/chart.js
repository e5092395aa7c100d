// @ts-check
// The candle chart: entry, target and stop lines, the shaded life of the signal, markers, volume, RSI and MACD panes.

import {
  BaselineSeries,
  CandlestickSeries,
  HistogramSeries,
  LineSeries,
  LineStyle,
  createChart,
  createSeriesMarkers,
  createTextWatermark,
} from "../vendor/lightweight-charts.mjs";
import { $, h, known, moment, price, signed } from "./dom.js";
import { macd, rsi } from "./indicators.js";

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  return {
    up: get("--up"),
    down: get("--down"),
    ink: get("--ink"),
    quiet: get("--quiet"),
    line: get("--line"),
    accent: get("--accent"),
    card: get("--card"),
    hold: get("--hold"),
  };
};

const faded = (hex, alpha) => {
  const value = Number.parseInt(hex.slice(1), 16);
  return `rgba(${(value >> 16) & 255}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
};

const base = (c) => ({
  autoSize: true,
  layout: {
    background: { color: "transparent" },
    textColor: c.quiet,
    attributionLogo: false,
    panes: { separatorColor: c.line },
    fontFamily: "inherit",
  },
  grid: { vertLines: { color: faded(c.line, 0.5) }, horzLines: { color: faded(c.line, 0.5) } },
  rightPriceScale: { borderColor: c.line },
  timeScale: { borderColor: c.line, timeVisible: true, rightOffset: 8 },
});

// A rectangle behind the candles from the signal's birth to its end, between stop and target.
class Life {
  constructor(chart, series) {
    this.chart = chart;
    this.series = series;
    this.box = null;
  }
  attached({ requestUpdate }) {
    this.refresh = requestUpdate;
  }
  set(box) {
    this.box = box;
    this.refresh?.();
  }
  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.#draw(target) }) }];
  }
  updateAllViews() {}
  #draw(target) {
    const box = this.box;
    if (!box) return;
    target.useMediaCoordinateSpace(({ context, mediaSize }) => {
      const scale = this.chart.timeScale();
      const left = scale.timeToCoordinate(box.from);
      const right = (box.to === null ? null : scale.timeToCoordinate(box.to)) ?? mediaSize.width;
      if (left === null) return;
      for (const [a, b, colour] of [
        [box.entry, box.target, box.good],
        [box.entry, box.stop, box.bad],
      ]) {
        const top = this.series.priceToCoordinate(a),
          bottom = this.series.priceToCoordinate(b);
        if (top === null || bottom === null) continue;
        context.fillStyle = colour;
        context.fillRect(left, Math.min(top, bottom), Math.max(2, right - left), Math.abs(bottom - top));
      }
    });
  }
}

export class PriceChart {
  #chart = null;
  #series = {};
  #life = null;
  #lines = [];
  #markers = null;
  #bars = [];
  #key = "";
  #far = "";

  constructor(session) {
    this.session = session;
  }

  build() {
    this.#chart?.remove();
    const c = colours();
    this.#chart = createChart($("chart"), base(c));
    const chart = this.#chart;
    this.#series.candles = chart.addSeries(CandlestickSeries, {
      upColor: faded(c.up, 0.15),
      downColor: c.down,
      autoscaleInfoProvider: (own) => this.#scale(own()),
      borderUpColor: c.up,
      borderDownColor: c.down,
      wickUpColor: c.up,
      wickDownColor: c.down,
    });
    this.#series.volume = chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    const plain = { lineWidth: 1.5, priceLineVisible: false, lastValueVisible: false };
    this.#series.rsi = chart.addSeries(LineSeries, { ...plain, color: c.accent }, 1);
    for (const level of [30, 70])
      this.#series.rsi.createPriceLine({
        price: level,
        color: c.quiet,
        lineStyle: LineStyle.Dotted,
        lineWidth: 1,
        axisLabelVisible: false,
      });
    this.#series.histogram = chart.addSeries(HistogramSeries, plain, 2);
    this.#series.macd = chart.addSeries(LineSeries, { ...plain, color: c.accent }, 2);
    this.#series.macdSignal = chart.addSeries(LineSeries, { ...plain, color: c.hold, lineStyle: LineStyle.Dashed }, 2);
    const [main, ...lower] = chart.panes();
    main.setStretchFactor(5);
    for (const pane of lower) pane.setStretchFactor(1);
    for (const [pane, text] of [
      [lower[0], "RSI 14"],
      [lower[1], "MACD 12 26 9"],
    ])
      createTextWatermark(pane, {
        horzAlign: "left",
        vertAlign: "top",
        lines: [{ text, color: c.quiet, fontSize: 11 }],
      });
    this.#life = new Life(chart, this.#series.candles);
    this.#series.candles.attachPrimitive(this.#life);
    this.#markers = createSeriesMarkers(this.#series.candles, []);
    this.#lines = [];
    this.#paint();
    chart.subscribeCrosshairMove((move) => this.#legend(move));
  }

  // Show a signal (or only a symbol, for a summary).
  async show(message, others) {
    const timeframe = message?.data.timeframe ?? "auto";
    this.message = message;
    this.others = others;
    if (!message) return this.#nothing("Nothing to chart", "Choose a signal on the left.");
    $("chart-title").textContent = timeframe === "auto" ? message.symbol : `${message.symbol} · ${timeframe}`;
    const { action, entry_price: entry, target_price: target, stop_loss: stop } = message.data;
    $("chart").setAttribute(
      "aria-label",
      `Candles of ${message.symbol}, with volume, RSI and MACD${known(entry) ? `; ${action} at ${price(entry)}, target ${price(target)}, stop ${price(stop)}` : ""}`,
    );
    const key = `${message.symbol} ${timeframe}`;
    const moved = key !== this.#key;
    this.#key = key;
    let bars;
    try {
      bars = (await this.session.get(`/api/bars?symbol=${encodeURIComponent(message.symbol)}&timeframe=${timeframe}`))
        .bars;
    } catch (error) {
      if (key === this.#key) this.#nothing("No chart", error.message);
      return;
    }
    if (key !== this.#key) return; // another symbol was chosen meanwhile
    if (bars.length === 0)
      return this.#nothing(
        "No bars yet",
        `${message.symbol} has no recent bars; they appear as the pipeline receives them.`,
      );
    $("chart").hidden = false;
    $("chart-empty").hidden = true;
    this.#bars = bars.map(([ms, open, high, low, close, volume]) => ({
      time: ms / 1000,
      open,
      high,
      low,
      close,
      volume,
    }));
    if (!this.#chart) this.build();
    else this.#paint();
    if (moved) this.#focus();
  }

  refresh() {
    if (this.message) return this.show(this.message, this.others);
  }

  retheme() {
    if (this.#chart) {
      this.build();
      this.#focus();
    }
  }

  // Keep entry, target and stop in sight, unless they are far from the candles: then the legend says where they are.
  #scale(own) {
    const data = this.message?.data;
    if (!own?.priceRange || !known(data?.entry_price)) return own;
    const { minValue, maxValue } = own.priceRange,
      room = 4 * (maxValue - minValue);
    /** @type {[string, number][]} */
    const levels = [
      ["entry", data.entry_price],
      ["target", data.target_price],
      ["stop", data.stop_loss],
    ];
    /** @type {(level: [string, number]) => boolean} */
    const inside = ([, v]) => v > minValue - room && v < maxValue + room;
    const near = levels.filter(inside).map(([, v]) => v),
      far = levels
        .filter((level) => !inside(level))
        .map(([name, v]) => `${name} ${price(v)} ${v > maxValue ? "↑" : "↓"}`)
        .join(" · ");
    if (far !== this.#far) {
      this.#far = far;
      queueMicrotask(() => this.#legend(null));
    }
    return { ...own, priceRange: { minValue: Math.min(minValue, ...near), maxValue: Math.max(maxValue, ...near) } };
  }

  #focus() {
    const total = this.#bars.length;
    if (total) this.#chart.timeScale().setVisibleLogicalRange({ from: Math.max(-2, total - 110), to: total + 6 });
  }

  #nothing(title, text) {
    $("chart").hidden = true;
    $("chart-legend").replaceChildren();
    $("chart-empty").hidden = false;
    $("chart-empty").replaceChildren(h("strong", {}, title), text);
  }

  #paint() {
    const c = colours(),
      bars = this.#bars,
      series = this.#series;
    series.candles.setData(bars);
    series.volume.setData(
      bars.map((b) => ({ time: b.time, value: b.volume, color: faded(b.close >= b.open ? c.up : c.down, 0.35) })),
    );
    const closes = bars.map((b) => b.close);
    const points = (values) =>
      bars.map((b, i) => (values[i] === null ? { time: b.time } : { time: b.time, value: values[i] }));
    series.rsi.setData(points(rsi(closes)));
    const lines = macd(closes);
    series.macd.setData(points(lines.line));
    series.macdSignal.setData(points(lines.signal));
    series.histogram.setData(
      points(lines.histogram).map((p) => ({ ...p, color: faded((p.value ?? 0) >= 0 ? c.up : c.down, 0.6) })),
    );
    for (const line of this.#lines) series.candles.removePriceLine(line);
    this.#lines = [];
    const data = this.message?.data;
    if (!known(data?.entry_price)) {
      this.#life.set(null);
      this.#markers.setMarkers([]);
      this.#legend(null);
      return;
    }
    for (const [value, colour, title, style] of [
      [data.entry_price, c.accent, "entry", LineStyle.Solid],
      [data.target_price, c.up, "target", LineStyle.Dashed],
      [data.stop_loss, c.down, "stop", LineStyle.Dotted],
    ])
      this.#lines.push(
        series.candles.createPriceLine({
          price: value,
          color: colour,
          title,
          lineStyle: style,
          lineWidth: 1,
          axisLabelVisible: true,
        }),
      );
    const times = bars.map((b) => b.time);
    const at = (ms) => {
      let found = null;
      for (const t of times) {
        if (t * 1000 < ms) found = t;
        else break;
      }
      return found ?? times[0];
    };
    const from = at(data.created_ms),
      end = this.message.expires_ms / 1000;
    this.#life.set({
      from,
      to: end <= times.at(-1) ? at(this.message.expires_ms) : null,
      entry: data.entry_price,
      target: data.target_price,
      stop: data.stop_loss,
      good: faded(c.up, 0.13),
      bad: faded(c.down, 0.13),
    });
    const markers = [this.message, ...this.others]
      .filter((m) => known(m.data.entry_price))
      .map((m) => ({
        time: at(m.data.created_ms),
        position: m.data.action === "sell" ? "aboveBar" : "belowBar",
        shape: m.data.action === "sell" ? "arrowDown" : m.data.action === "buy" ? "arrowUp" : "square",
        color: m.data.action === "sell" ? c.down : m.data.action === "buy" ? c.up : c.hold,
        text: m === this.message ? m.data.action.toUpperCase() : "",
      }));
    this.#markers.setMarkers(markers.sort((a, b) => a.time - b.time));
    this.#legend(null);
  }

  #legend(move) {
    const bar = move?.seriesData?.get(this.#series.candles) ?? this.#bars.at(-1);
    if (!bar) return;
    const change = ((bar.close - bar.open) / bar.open) * 100;
    $("chart-legend").replaceChildren(
      h("span", {}, moment(bar.time * 1000)),
      h(
        "span",
        { class: "num" },
        `O ${price(bar.open)}  H ${price(bar.high)}  L ${price(bar.low)}  C ${price(bar.close)}`,
      ),
      signed(change),
      this.#far && known(this.message?.data.entry_price)
        ? h("span", { class: "num" }, `off the chart: ${this.#far}`)
        : "",
    );
  }
}

// The P&L curve of the performance page.
export function curve(container, points) {
  const c = colours();
  const chart = createChart(container, base(c));
  const series = chart.addSeries(BaselineSeries, {
    baseValue: { type: "price", price: 0 },
    topLineColor: c.up,
    bottomLineColor: c.down,
    topFillColor1: faded(c.up, 0.3),
    topFillColor2: faded(c.up, 0.03),
    bottomFillColor1: faded(c.down, 0.03),
    bottomFillColor2: faded(c.down, 0.3),
    priceFormat: { type: "custom", formatter: (v) => `${v.toFixed(1)} %` },
  });
  const byTime = new Map(points.map(([ms, value]) => [Math.floor(ms / 1000), value]));
  series.setData([...byTime].sort((a, b) => a[0] - b[0]).map(([time, value]) => ({ time, value })));
  chart.timeScale().fitContent();
  return chart;
}
