'use strict';

// Runs the cases of pomelo.cases.mjs in Chromium, with the pomelo.js that the server serves.

const path = require('node:path');
const { Browser, watch } = require('./lib/chromium');
const { network, playCases } = require('./lib/cases');

playCases('Chromium', async (site) => {
  const browser = await Browser.start();
  const context = await browser.visit();
  const page = await context.newPage();
  // The test's own modules come from here.
  await page.route('**/cases/**', (route) => {
    const name = path.basename(new URL(route.request().url()).pathname);
    return route.fulfill({ contentType: 'text/javascript', path: path.join(__dirname, name) });
  });
  await page.exposeFunction('network', (what) => network(site, what));
  const problems = await watch(page, { cuts: true, elsewhere: true });
  await page.goto(`${site.url}pomelo.d.ts`); // a document of the site's without the page's policy

  async function close() {
    await browser.stop();
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }

  return { play: (n, env) => page.evaluate(inPage, { n, env }), close };
});

async function inPage({ n, env }) {
  const { cases } = await import('/cases/pomelo.cases.mjs');
  const lib = await import('/pomelo.js');
  const clients = [];
  try {
    await cases[n].run({ ...env, lib, WebSocket, clients, network });
  } finally {
    for (const client of clients) client.disconnect();
    await network('up');
  }
}
