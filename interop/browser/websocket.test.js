'use strict';

// A page of one's own that opens a WebSocket with a subprotocol, as some do for their proxies. Browsers fail the connection unless the
// server names one of those asked for.

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const { Server } = require('../lib/server');
const { Browser } = require('./lib/chromium');

const PATHS = ['/', '/ws/chat', '/socket.io/?EIO=3&transport=websocket', '/socket.io/?EIO=4&transport=websocket'];

describe('a WebSocket in Chromium', () => {
  let server;
  let browser;
  before(async () => {
    server = await Server.start({ loops: 1 });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  it('has the first subprotocol that it asks for', async () => {
    const context = await browser.visit();
    const page = await context.newPage();
    const { host, port } = server.connector;
    for (const path of PATHS) {
      for (const asked of [['pomelo'], ['chat', 'pomelo'], []]) {
        const got = await page.evaluate(
          ([url, protocols]) =>
            new Promise((resolve) => {
              const socket = new WebSocket(url, protocols);
              socket.onopen = () => resolve(`open ${socket.protocol}`);
              socket.onerror = () => resolve('error');
            }),
          [`ws://${host}:${port}${path}`, asked],
        );
        assert.strictEqual(got, `open ${asked[0] ?? ''}`, `${path}, asked for ${asked}`);
      }
    }
    await context.close();
  });
});
