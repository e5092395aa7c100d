// Shows notifications that arrive while the page is closed.
self.addEventListener("push", (event) => {
  const note = event.data ? event.data.json() : { title: "Signals", body: "" };
  event.waitUntil(
    self.registration.showNotification(note.title, {
      body: note.body,
      tag: note.tag,
      silent: note.silent === true,
      icon: "/static/icon.svg",
      data: { url: "/#/signals" },
    }),
  );
});
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(
    clients
      .matchAll({ type: "window" })
      .then((open) => (open.length ? open[0].focus() : clients.openWindow(event.notification.data.url))),
  );
});
