// Shows notifications that arrive while the page is closed.
self.addEventListener("push", (event) => {
  const told = event.data ? event.data.json() : { title: "Signals", body: "" };
  event.waitUntil(
    self.registration.showNotification(told.title, {
      body: told.body,
      tag: told.tag,
      silent: told.silent === true,
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
