// @ts-check
// Notifications: channels, how loudly each kind is notified, quiet hours, what could not be delivered.

import { h, moment, words } from "./dom.js";

const KINDS = {
  new_signal: "New signal",
  target_hit: "Target hit",
  stop_hit: "Stop hit",
  expired: "Expired",
  cancelled: "Cancelled",
};

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

export async function notifications(session, card) {
  let state;
  try {
    state = await session.get("/api/push");
  } catch (error) {
    card.replaceChildren(h("h2", {}, "Notifications"), h("p", { class: "quiet" }, error.message));
    return;
  }
  const status = h("p", { role: "status", class: "quiet" });
  const again = () => notifications(session, card);
  const attempt = (action) => async (event) => {
    event.preventDefault();
    try {
      await action(event);
    } catch (error) {
      status.textContent = `✕ ${error.message}`;
    }
  };
  const post = (path, body) => session.get(path, { method: "POST", body: JSON.stringify(body) });

  const add = (body) => post("/api/push/targets", body);

  // A channel without fields is the browser's own: it subscribes with the channel's key.
  const subscribe = (channel) =>
    attempt(async () => {
      if (!("serviceWorker" in navigator && "PushManager" in window)) throw new Error("this browser has no web push");
      if ((await Notification.requestPermission()) !== "granted")
        throw new Error("notifications are blocked in this browser: allow them in its site settings");
      const worker = await navigator.serviceWorker.register("/sw.js");
      const options = { userVisibleOnly: true, applicationServerKey: bytes(channel.server_key) };
      const { endpoint, keys } = (await worker.pushManager.subscribe(options)).toJSON();
      await add({ channel: channel.channel, endpoint, keys: { p256dh: keys.p256dh, auth: keys.auth } });
      await again();
    });
  const form = (channel) => {
    const inputs = channel.fields.map((field) =>
      h("input", {
        id: `${channel.channel}-${field.name}`,
        type: field.type === "url" ? "url" : "text",
        inputmode: field.type === "integer" ? "numeric" : null,
        placeholder: field.placeholder,
        required: true,
      }),
    );
    const value = (field, input) => (field.type === "integer" ? Number(input.value) : input.value);
    const submit = attempt(async () => {
      const given = channel.fields.map((field, i) => [field.name, value(field, inputs[i])]);
      const made = await add({ channel: channel.channel, ...Object.fromEntries(given) });
      await again();
      if (made.secret) {
        const text = `${channel.title} added. Its secret, shown this once: `;
        document.getElementById("push-status").replaceChildren(text, h("code", {}, made.secret));
      }
    });
    const labelled = channel.fields.flatMap((field, i) => [h("label", { for: inputs[i].id }, field.label), inputs[i]]);
    return h("form", { class: "form", onsubmit: submit }, labelled, h("button", { type: "submit" }, channel.button));
  };
  const offered = state.channels.filter((channel) => channel.available);
  const browsers = offered.filter((channel) => channel.fields.length === 0);
  const forms = offered.filter((channel) => channel.fields.length > 0);

  const selects = Object.fromEntries(
    Object.keys(KINDS).map((kind) => [
      kind,
      h(
        "select",
        { id: `push-${kind}` },
        ["on", "silent", "off"].map((value) =>
          h("option", { value, selected: state.preferences[kind] === value }, value),
        ),
      ),
    ]),
  );
  const quiet = state.preferences.quiet_hours;
  const start = h("input", { id: "quiet-start", type: "time", value: quiet?.start ?? "" }),
    end = h("input", { id: "quiet-end", type: "time", value: quiet?.end ?? "" });
  const save = attempt(async () => {
    const wish = Object.fromEntries(Object.entries(selects).map(([kind, select]) => [kind, select.value]));
    if (start.value && end.value)
      wish.quiet_hours = {
        start: start.value,
        end: end.value,
        timezone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
        then: quiet?.then ?? "silent",
      };
    await session.get("/api/push/preferences", { method: "PUT", body: JSON.stringify(wish) });
    status.textContent = "✓ Saved.";
  });

  status.id = "push-status";
  card.replaceChildren(
    ...[
      h("h2", {}, "Notifications"),
      state.targets.length
        ? h(
            "div",
            { class: "scroll" },
            h(
              "table",
              {},
              h("thead", {}, h("tr", {}, h("th", {}, "Channel"), h("th", {}, "Address"), h("th", {}, ""))),
              h(
                "tbody",
                {},
                state.targets.map((target) =>
                  h(
                    "tr",
                    {},
                    h("td", {}, target.channel),
                    h("td", {}, String(target.address).slice(0, 60)),
                    h(
                      "td",
                      { class: "num" },
                      h(
                        "button",
                        {
                          type: "button",
                          onclick: attempt(async () => {
                            await session.get(`/api/push/targets/${target.target_id}`, { method: "DELETE" });
                            await again();
                          }),
                        },
                        "Remove",
                      ),
                    ),
                  ),
                ),
              ),
            ),
          )
        : h("p", { class: "quiet" }, "Nothing is sent anywhere yet."),
      h(
        "div",
        { class: "buttons" },
        browsers.map((channel) => h("button", { type: "button", onclick: subscribe(channel) }, channel.button)),
        state.targets.length
          ? h(
              "button",
              {
                type: "button",
                onclick: attempt(async () => {
                  await post("/api/push/test", {});
                  status.textContent = "✓ A test is on its way.";
                }),
              },
              "Send a test",
            )
          : null,
      ),
      ...forms.map(form),
      h(
        "form",
        { class: "form", onsubmit: save },
        h("h3", {}, "How loudly"),
        Object.entries(KINDS).map(([kind, name]) =>
          h("div", { class: "pair" }, h("label", { for: `push-${kind}` }, name), selects[kind]),
        ),
        h("div", { class: "pair" }, h("label", { for: "quiet-start" }, "Quiet from"), start),
        h("div", { class: "pair" }, h("label", { for: "quiet-end" }, "Quiet until"), end),
        h("button", { type: "submit", class: "primary" }, "Save"),
      ),
      status,
      state.undelivered.length
        ? h(
            "details",
            {},
            h("summary", {}, `${state.undelivered.length} undelivered`),
            h(
              "ul",
              {},
              state.undelivered.map((note) =>
                h(
                  "li",
                  { class: "small" },
                  `${moment(Number(note.at_ms))} · ${note.channel} · ${note.title}: ${words(note.reason)} (${note.attempts} attempts)`,
                ),
              ),
            ),
          )
        : null,
    ].filter(Boolean),
  );
}
