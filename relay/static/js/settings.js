// @ts-check
// The user's own settings: watchlist, risk profile, sign-out, keys.

import { $, h } from "./dom.js";
import { notifications } from "./push.js";

export async function settingsPage(session) {
  const view = $("view-settings");
  let me;
  try {
    me = await session.get("/api/me");
  } catch (error) {
    view.replaceChildren(h("div", { class: "empty" }, h("strong", {}, "Settings are not available"), error.message));
    return;
  }
  const status = h("p", { role: "status", class: "quiet" });
  const watchlist = h("textarea", { id: "watchlist", rows: "2", placeholder: "AAPL, MSFT" });
  watchlist.value = me.watchlist.join(", ");
  const profile = h(
    "select",
    { id: "profile" },
    ["conservative", "moderate", "aggressive"].map((name) =>
      h("option", { value: name, selected: name === me.risk_profile }, name),
    ),
  );
  const save = async (event) => {
    event.preventDefault();
    const symbols = watchlist.value.split(/[\s,;]+/).filter(Boolean);
    try {
      await session.get("/api/me", {
        method: "PUT",
        body: JSON.stringify({ watchlist: symbols, risk_profile: profile.value }),
      });
      status.textContent = "✓ Saved.";
      session.number = null;
      session.connect();
    } catch (error) {
      status.textContent = `✕ ${error.message}`;
    }
  };
  view.replaceChildren(
    h(
      "div",
      { class: "page" },
      h(
        "form",
        { class: "card form", onsubmit: save },
        h("h2", {}, "What you follow"),
        h("label", { for: "watchlist" }, "Watchlist (empty: everything)"),
        watchlist,
        h("label", { for: "profile" }, "Risk profile"),
        profile,
        h(
          "p",
          { class: "quiet small" },
          "Conservative holds below 70 %; aggressive raises confidence and shortens horizons. The pipeline makes all three.",
        ),
        h("button", { class: "primary", type: "submit" }, "Save"),
        status,
      ),
      h(
        "div",
        { class: "card" },
        h("h2", {}, "You"),
        h(
          "dl",
          { class: "facts" },
          h("dt", {}, "Name"),
          h("dd", {}, me.name),
          h("dt", {}, "Tier"),
          h("dd", {}, me.tier),
        ),
        h("p", { class: "quiet small" }, "The tier is changed with signals users tier NAME TIER."),
        session.demo ? null : h("button", { type: "button", onclick: () => session.signOut() }, "Sign out"),
        h("h2", {}, "Keys"),
        h(
          "p",
          {},
          h("kbd", {}, "↑"),
          " ",
          h("kbd", {}, "↓"),
          " or ",
          h("kbd", {}, "j"),
          " ",
          h("kbd", {}, "k"),
          " next and previous signal · ",
          h("kbd", {}, "/"),
          " filter · ",
          h("kbd", {}, "1"),
          "–",
          h("kbd", {}, "4"),
          " pages · ",
          h("kbd", {}, "t"),
          " light or dark · ",
          h("kbd", {}, "?"),
          " these keys",
        ),
      ),
      h("div", { class: "card wide", id: "notifications" }),
    ),
  );
  await notifications(session, $("notifications"));
}
