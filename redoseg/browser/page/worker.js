// Keeps the page that a web server gave, for the times without internet.
"use strict";

const KEPT = `redoseg ${self.registration.scope}`;

self.addEventListener("install", event => {
  event.waitUntil(caches.open(KEPT).then(kept => kept.add(new Request("./", { cache: "reload" }))));
  self.skipWaiting();
});
self.addEventListener("fetch", event => {
  const { scope } = self.registration;
  if (![scope, `${scope}index.html`].includes(event.request.url)) return;
  event.respondWith(fetch(event.request).then(async answer => {
    if (answer.ok) await (await caches.open(KEPT)).put("./", answer.clone());
    return answer;
  }).catch(() => caches.open(KEPT).then(kept => kept.match("./"))));
});
