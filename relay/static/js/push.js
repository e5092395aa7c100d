// Notifications: filled in when the relay offers them.

import { h } from "./dom.js";

export async function notifications(session, card) {
  card.replaceChildren(h("h2", {}, "Notifications"), h("p", { class: "quiet" }, "This relay offers none."));
}
