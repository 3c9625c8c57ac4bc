'use strict';

// The page by https, in a browser: it chooses wss by itself, and meets those who came without.

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const { Server } = require('../lib/server');
const { Browser } = require('./lib/chromium');
const { Visitor } = require('./lib/visitor');

describe('the page by https', () => {
  let server;
  let browser;
  before(async () => {
    server = await Server.start({ loops: 2, more: ['-tls-self', '-tls-listen', '127.0.0.1:0', '-tls-gate', '127.0.0.1:0'] });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  it('chats by wss with pages that came by http', { timeout: 60_000 }, async () => {
    const alice = await Visitor.open(browser, `https://localhost:${server.connectorTLS.port}/`, { ignoreHTTPSErrors: true });
    const sockets = [];
    alice.page.on('websocket', (socket) => sockets.push(socket.url()));
    const bob = await Visitor.open(browser, `http://localhost:${server.connector.port}/`);
    await alice.join('alice', 'both');
    await bob.join('bob', 'both');
    await alice.seesPeople('alice', 'bob');
    await alice.say('by wss');
    await bob.sees('by wss');
    await bob.say('by ws');
    await alice.sees('by ws');
    assert.deepStrictEqual(sockets, [`wss://localhost:${server.connectorTLS.port}/`]);
    for (const visitor of [alice, bob]) {
      visitor.expectNoProblems();
      await visitor.context.close();
    }
  });
});
