// @ts-check
// The page's state: active signals, their updates and prices, as the relay sent them.

const BAR_MS = { "1s": 1e3, "1m": 6e4, "5m": 3e5, "1h": 36e5, "1d": 864e5 };

export class Store {
  signals = new Map(); // id -> message
  updates = new Map(); // id -> updates
  prices = new Map(); // symbol -> {price, timestamp_ms}
  clocks = new Map(); // symbol -> latest event time
  ended = []; // the last few that were withdrawn
  mode = "unknown";
  pipelineOk = true;
  fresh = new Set();
  receivedAt = 0;

  static id(message) {
    return message.data.signal_id ?? `summary ${message.symbol}`;
  }

  #see(symbol, ms, fresh = true) {
    if (ms > (this.clocks.get(symbol) ?? 0)) this.clocks.set(symbol, ms);
    if (fresh || this.receivedAt === 0) this.receivedAt = Date.now();
  }

  take(message) {
    switch (message.type) {
      case "welcome":
        this.mode = message.mode;
        break;
      case "system":
        this.mode = message.mode;
        this.pipelineOk = message.pipeline_ok;
        break;
      case "snapshot":
        if (message.reset) {
          this.signals.clear();
          this.updates.clear();
        }
        for (const signal of [...message.signals].reverse()) this.#put(signal, false);
        for (const update of message.updates) this.updates.set(update.signal_id, update.updates);
        break;
      case "signal_summary":
      case "trading_signal":
      case "dynamic_signal":
        this.#put(message);
        this.fresh.add(Store.id(message));
        break;
      case "signal_update":
        this.#see(message.symbol, message.timestamp_ms);
        if (this.signals.has(message.signal_id)) this.updates.set(message.signal_id, message.updates);
        if (message.updates.status !== "active") this.#end(message.signal_id, message.updates.status);
        break;
      case "signal_withdrawn":
        this.#see(message.symbol, message.timestamp_ms);
        this.#end(message.signal_id, message.reason);
        break;
      case "price":
        this.#see(message.symbol, message.timestamp_ms);
        this.prices.set(message.symbol, message);
        break;
    }
  }

  #put(message, fresh = true) {
    this.#see(message.symbol, message.timestamp_ms, fresh);
    if (message.supersedes) this.#end(message.supersedes, "superseded");
    const id = Store.id(message);
    this.signals.delete(id);
    this.signals.set(id, message);
  }

  #end(id, reason) {
    const signal = this.signals.get(id);
    if (!signal) return;
    this.signals.delete(id);
    this.ended.unshift({ signal, reason, updates: this.updates.get(id) });
    this.ended.length = Math.min(this.ended.length, 50);
    this.updates.delete(id);
  }

  // Whether news is overdue: nothing new for two bars of the shortest timeframe followed (and at least three minutes).
  get stale() {
    if (this.mode !== "live" || this.receivedAt === 0) return false;
    const lengths = [...this.signals.values()].map((m) => BAR_MS[m.data.timeframe]).filter(Boolean);
    return lengths.length > 0 && Date.now() - this.receivedAt > Math.max(180_000, 2 * Math.min(...lengths));
  }

  now(symbol) {
    return this.mode === "replay" || this.mode === "simulated" ? (this.clocks.get(symbol) ?? Date.now()) : Date.now();
  }

  newestFirst() {
    return [...this.signals.values()].reverse().sort((a, b) => b.timestamp_ms - a.timestamp_ms);
  }
}
