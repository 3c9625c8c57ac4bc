// Shows pop-ups on browsers that take them from a service worker only, and brings the page back when one is touched.
// It caches nothing and answers no request.

addEventListener("notificationclick", (event) => {
  event.notification.close();
  const raise = async () => {
    const pages = await clients.matchAll({ type: "window", includeUncontrolled: true });
    await pages[0]?.focus();
  };
  event.waitUntil(raise());
});
