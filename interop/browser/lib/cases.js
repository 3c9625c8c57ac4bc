'use strict';

// Plays the cases of pomelo.cases.mjs against servers with and without dictionary and protobuf. Needs no browser.

const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { Site } = require('./site');

const VECTORS = path.join(__dirname, '..', '..', '..', 'codec', 'testdata', 'vectors', 'protobuf.json');
const TIMEOUT_MS = 120_000;
const HEARTBEAT = '3s'; // a process that is not run for two of them is taken for dead, and one case waits for two

// The cases name themselves, so the tests are there only once the file is read.
const cases = import('../pomelo.cases.mjs');

// playCases plays each case somewhere: open(site) resolves to {play(n, env), close()}, where n numbers the case and env is what
// it gets apart from the module, WebSocket, clients and network().
function playCases(where, open) {
  for (const config of [false, true]) {
    describe(`pomelo.js in ${where}, ${config ? 'dictionary and protobuf' : 'plain JSON'}`, () => {
      let site;
      let place;
      let env;
      before(async () => {
        site = await Site.start({ config, heartbeat: HEARTBEAT });
        place = await open(site);
        env = {
          address: site.address,
          gate: site.url,
          closedGate: `http://127.0.0.1:${await closedPort()}`,
          config,
          vectors: JSON.parse(fs.readFileSync(VECTORS, 'utf8')),
        };
      });
      after(async () => {
        try {
          await place?.close();
        } finally {
          await site?.stop(); // else this process has a child, and does not end
        }
      });

      it('keeps its promises', { timeout: 4 * TIMEOUT_MS }, async (t) => {
        for (const [n, { title }] of (await cases).cases.entries()) {
          await t.test(title, { timeout: TIMEOUT_MS }, () => place.play(n, env));
        }
      });
    });
  }
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

// closedPort is one where nobody listens.
async function closedPort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

module.exports = { network, playCases };
