// @ts-check
// The connection: sign-in, one WebSocket, reconnecting and resuming from the last number without loss or repeat.

const KEY = "signals.token";
const SILENCE_MS = 40_000;

export class Session extends EventTarget {
  token = null;
  user = null;
  number = null;
  state = "signed-out"; // signed-out | connecting | open | lost
  #socket = null;
  #attempts = 0;
  #demo = false;
  #receivedAt = 0;
  #timers = new Set();

  async begin() {
    try {
      const answer = await fetch("/api/start");
      this.#demo = (await answer.json()).demo === true;
    } catch {
      /* shown as lost below */
    }
    this.token = sessionStorage.getItem(KEY);
    if (!this.token && this.#demo) await this.#renewDemo();
    if (this.token) this.connect();
    else this.#become("signed-out");
    setInterval(() => this.#watch(), 5_000);
  }

  signIn(token) {
    this.token = token.trim();
    sessionStorage.setItem(KEY, this.token);
    this.number = null;
    this.connect();
  }

  signOut() {
    sessionStorage.removeItem(KEY);
    this.token = null;
    this.number = null;
    this.#socket?.close(1000);
    this.#socket = null;
    this.#become("signed-out");
  }

  get demo() {
    return this.#demo;
  }

  async #renewDemo() {
    try {
      const answer = await fetch("/api/demo-token", { method: "POST" });
      if (!answer.ok) return;
      const { token, expires_ms } = await answer.json();
      this.token = token;
      this.#later(Math.max(2_000, (expires_ms - Date.now()) * 0.7), () => this.#renewOpen());
    } catch {
      /* the next attempt tries again */
    }
  }

  async #renewOpen() {
    await this.#renewDemo();
    if (this.#socket?.readyState === WebSocket.OPEN) this.send({ type: "auth", token: this.token });
  }

  #later(ms, action) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
  }

  connect() {
    if (this.#socket && this.#socket.readyState <= WebSocket.OPEN) {
      this.#socket.onclose = null;
      this.#socket.close(1000);
    }
    this.#become("connecting");
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.#socket = socket;
    this.#receivedAt = Date.now();
    socket.onopen = () => {
      const hello = { type: "hello", token: this.token };
      if (this.number) hello.after = this.number;
      socket.send(JSON.stringify(hello));
    };
    socket.onmessage = (event) => {
      this.#receivedAt = Date.now();
      this.#receive(JSON.parse(event.data));
    };
    socket.onclose = (event) => this.#closed(socket, event);
  }

  send(command) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }

  async get(path, options = {}) {
    const headers = {
      Authorization: `Bearer ${this.token}`,
      ...(options.body ? { "Content-Type": "application/json" } : {}),
    };
    const answer = await fetch(path, { ...options, headers });
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(body.error ?? `the relay answered ${answer.status}`);
    return body;
  }

  #receive(message) {
    // The number advances only with what was applied: welcome and status describe the present, which a resuming
    // client reaches with the messages that follow.
    if (!["welcome", "system", "pong", "error", "price"].includes(message.type)) this.number = message.number;
    if (message.type === "welcome") {
      this.#attempts = 0;
      this.user = message;
      this.#become("open");
    }
    this.dispatchEvent(new CustomEvent("message", { detail: message }));
  }

  async #closed(socket, event) {
    if (socket !== this.#socket) return;
    if (event.code === 4401 || event.code === 4403) {
      if (this.#demo && this.#attempts < 3) {
        this.#attempts += 1;
        await this.#renewDemo();
        return this.connect();
      }
      sessionStorage.removeItem(KEY);
      this.token = null;
      this.#become("signed-out", event.reason);
      return;
    }
    this.#become("lost", event.reason);
    const wait = Math.min(15_000, 400 * 2 ** this.#attempts) * (0.7 + 0.6 * Math.random());
    this.#attempts += 1;
    this.#later(wait, async () => {
      if (this.#demo) await this.#renewDemo();
      if (this.token) this.connect();
    });
  }

  #watch() {
    if (this.state !== "open") return;
    const silent = Date.now() - this.#receivedAt;
    if (silent > SILENCE_MS) {
      this.#socket.close(4000);
      this.#become("lost", "no answer");
      this.#later(500, () => this.connect());
    } else if (silent > 10_000) this.send({ type: "ping" });
  }

  #become(state, reason = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, reason } }));
  }
}
