'use strict';

// Runs the cases of pomelo.cases.mjs in Node.js and in Chromium, against servers with and without dictionary and protobuf.

const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const WebSocket = require('ws');
const { Browser, watch } = require('./lib/chromium');
const { Site } = require('./lib/site');

const WEB = path.join(__dirname, '..', '..', 'web');
const VECTORS = path.join(__dirname, '..', '..', 'codec', 'testdata', 'vectors', 'protobuf.json');
const TIMEOUT_MS = 60_000;

// The cases name themselves, so the tests are there only once the file is read.
const cases = import('./pomelo.cases.mjs');

for (const config of [false, true]) {
  describe(`pomelo.js, ${config ? 'dictionary and protobuf' : 'plain JSON'}`, { concurrency: 1 }, () => {
    let site;
    let browser;
    let env;
    before(async () => {
      site = await Site.start({ config, heartbeat: '1s' });
      browser = await Browser.start();
      env = {
        address: site.address,
        gate: site.url,
        closedGate: `http://127.0.0.1:${await closedPort()}`,
        config,
        vectors: JSON.parse(fs.readFileSync(VECTORS, 'utf8')),
      };
    });
    after(async () => {
      await browser?.stop();
      await site?.stop();
    });

    it('in Node.js', { timeout: 4 * TIMEOUT_MS }, async (t) => {
      const lib = await import(path.join(WEB, 'pomelo.js'));
      for (const { title, run } of (await cases).cases) {
        await t.test(title, { timeout: TIMEOUT_MS }, () => inNode(site, { ...env, lib, WebSocket }, run));
      }
    });

    it('in Chromium', { timeout: 4 * TIMEOUT_MS }, async (t) => {
      const page = await casesPage(browser, site);
      const problems = await watch(page, { cuts: true, elsewhere: true });
      await page.goto(`${site.url}pomelo.d.ts`); // a document of the site's without the page's policy
      for (const [n, { title }] of (await cases).cases.entries()) {
        await t.test(title, { timeout: TIMEOUT_MS }, () => page.evaluate(inPage, { n, env }));
      }
      if (problems.length > 0) throw new Error(problems.join('\n'));
    });
  });
}

async function network(site, what) {
  if (what === 'cut') site.proxy.cut();
  else if (what === 'stall') site.proxy.stall();
  else if (what === 'up') site.proxy.target = site.server.connector;
  else if (what === 'down') {
    site.proxy.target = null;
    site.proxy.cut();
  } else throw new Error(`no such thing: ${what}`);
}

async function inNode(site, env, run) {
  const clients = [];
  try {
    await run({ ...env, clients, network: (what) => network(site, what) });
  } catch (error) {
    throw site.server.explain(error);
  } finally {
    for (const client of clients) client.disconnect();
    await network(site, 'up');
  }
}

// casesPage is for a page of the site's own origin with the site's own pomelo.js. The test's own modules come from here.
async function casesPage(browser, site) {
  const context = await browser.visit();
  const page = await context.newPage();
  await page.route('**/cases/**', (route) => {
    const name = path.basename(new URL(route.request().url()).pathname);
    return route.fulfill({ contentType: 'text/javascript', path: path.join(__dirname, name) });
  });
  await page.exposeFunction('network', (what) => network(site, what));
  return page;
}

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

// closedPort is one where nobody listens.
async function closedPort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
