// @ts-check
// RSI 14 and MACD 12/26/9 for the chart's panes, seeded as TA-Lib does; null while warming up.

export function rsi(closes, period = 14) {
  const out = closes.map(() => null);
  let gain = 0,
    loss = 0;
  for (let i = 1; i < closes.length; i += 1) {
    const change = closes[i] - closes[i - 1];
    const up = Math.max(change, 0),
      down = Math.max(-change, 0);
    if (i <= period) {
      gain += up / period;
      loss += down / period;
    } else {
      gain = (gain * (period - 1) + up) / period;
      loss = (loss * (period - 1) + down) / period;
    }
    if (i >= period) out[i] = gain + loss === 0 ? 0 : (100 * gain) / (gain + loss);
  }
  return out;
}

function ema(values, period, from) {
  const out = values.map(() => null);
  if (values.length < from + period) return out;
  let level = 0;
  for (let i = from; i < from + period; i += 1) level += values[i] / period;
  out[from + period - 1] = level;
  for (let i = from + period; i < values.length; i += 1) {
    level += (2 / (period + 1)) * (values[i] - level);
    out[i] = level;
  }
  return out;
}

export function macd(closes, fast = 12, slow = 26, smooth = 9) {
  const quick = ema(closes, fast, slow - fast),
    long = ema(closes, slow, 0);
  const line = closes.map((_, i) => (quick[i] === null || long[i] === null ? null : quick[i] - long[i]));
  const signal = ema(line, smooth, slow - 1);
  return { line, signal, histogram: line.map((v, i) => (v === null || signal[i] === null ? null : v - signal[i])) };
}
