'use strict';

// new WebSocket(url, ['pomelo']): a client that asks for a subprotocol fails unless the server names one of them. Chromium is in
// browser/websocket.test.js; Python's websocket-client asks for one in every scenario, and socket.io-client as "4.8 protocols".

const assert = require('node:assert');
const { Package } = require('pomelo-protocol');
const undici = require('undici');
const ws = require('ws');
const { within } = require('../lib/expect');
const { BY_HAND } = require('../lib/sio/byhand');
const { suite } = require('../lib/suite');
const { packages } = require('../lib/wire');

const CLASSES = { 'ws 8': ws, 'undici, as in Node': undici.WebSocket };

// On every path that upgrades.
const PATHS = { hybrid: '/', 'hybrid elsewhere': '/ws/chat?x=1', 'engine.io 3': '/socket.io/?EIO=3&transport=websocket', 'engine.io 4': '/socket.io/?EIO=4&transport=websocket' };

suite('a subprotocol', ({ once: play }) => {
  for (const [name, WebSocket] of Object.entries(CLASSES)) {
    for (const [kind, path] of Object.entries(PATHS)) {
      play(`is named to ${name} at the path of ${kind}`, async ({ server }) => {
        const { host, port } = server.connector;
        for (const asked of [['pomelo'], ['chat', 'pomelo'], []]) {
          const socket = new WebSocket(`ws://${host}:${port}${path}`, asked);
          socket.binaryType = 'arraybuffer';
          const opened = new Promise((resolve, reject) => {
            socket.addEventListener('open', resolve);
            socket.addEventListener('error', (event) => reject(new Error(`asked for ${asked}: ${event.message}`)));
          });
          await within(opened, 'open');
          assert.strictEqual(socket.protocol, asked[0] ?? '');
          if (kind.startsWith('hybrid')) await shakeHands(socket);
          socket.close();
        }
      });
    }
  }

  play('is named to socket.io 0.9', async ({ server }) => {
    const session = await BY_HAND['0.9 websocket']().open(server.connector, ['pomelo']);
    assert.strictEqual(session.socket.protocol, 'pomelo');
    session.destroy();
  });
});

async function shakeHands(socket) {
  const answered = new Promise((resolve) => socket.addEventListener('message', ({ data }) => resolve(Buffer.from(data)), { once: true }));
  socket.send(packages.handshake());
  const { type, body } = Package.decode(await within(answered, 'handshake'));
  assert.strictEqual(type, Package.TYPE_HANDSHAKE);
  assert.strictEqual(JSON.parse(body).code, 200);
}
