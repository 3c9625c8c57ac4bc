'use strict';

// What clients, proxies and browsers say around the wires: paths below /socket.io, preflights, a line too many, the server's own
// origin, long heads.

const assert = require('node:assert');
const net = require('node:net');
const { once: arrival } = require('node:events');
const WebSocket = require('ws');
const { KINDS: HYBRID_KINDS } = require('../../lib/cast');
const { enter, expectNothingMore } = require('../../lib/chat');
const { within } = require('../../lib/expect');
const { fetch } = require('../../lib/sio/http');
const { KINDS, PYTHON } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

const SERVED = ['/socket.io/', '/socket.io', '/socket.io//', '/socket.io/x/', '/socket.io/x', '/socket.io/a/b/c/'];
const KIB = 1024;

// raw says text on a connection of its own; the answer is {status, head}.
async function raw({ host, port }, text) {
  const socket = net.connect({ host, port });
  socket.write(text);
  let got = '';
  socket.on('data', (piece) => (got += piece));
  socket.on('error', () => {});
  await within(arrival(socket, 'close'), `the end of an answer to ${text.slice(0, 40)}`);
  return { status: Number(got.split(' ')[1]), head: got };
}

// upgrade is the status that a WebSocket gets.
async function upgrade({ host, port }, path, options) {
  const socket = new WebSocket(`ws://${host}:${port}${path}`, options);
  const opened = new Promise((resolve) => {
    socket.on('open', () => resolve(101));
    socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
    socket.on('error', (err) => resolve(err.message));
  });
  const first = new Promise((resolve) => socket.once('message', (data) => resolve(data.toString())));
  const status = await within(opened, `an answer at ${path}`);
  const text = status === 101 && path.includes('EIO') ? await within(first, `a packet at ${path}`) : '';
  socket.terminate();
  return { status, text };
}

sioSuite('paths', ({ once }) => {
  once('below /socket.io lead to Engine.IO', async ({ server }) => {
    for (const path of SERVED) {
      for (const version of [3, 4]) {
        const { status, text } = await fetch(server.connector, `${path}?EIO=${version}&transport=polling`);
        assert.strictEqual(status, 200, path);
        assert.match(text, /0\{"sid":/, path);
        const socket = await upgrade(server.connector, `${path}?EIO=${version}&transport=websocket`);
        assert.strictEqual(socket.status, 101, path);
        assert.match(socket.text, /^0\{"sid":/, path);
      }
    }
  });

  once('below /socket.io that lead nowhere are answered at once', async ({ server }) => {
    for (const path of ['/socket.io/x', '/socket.io/x/y/', '/socket.io/chat.js']) {
      assert.strictEqual((await fetch(server.connector, path)).status, 404, path);
      assert.strictEqual((await upgrade(server.connector, path)).status, 404, path);
    }
    const { status } = await fetch(server.connector, '/socket.io/?EIO=4&transport=carrier-pigeon');
    assert.strictEqual(status, 400);
  });

  once('may be asked about by a page that sends headers of its own', async ({ server }) => {
    for (const version of [3, 4]) {
      const { status, headers } = await fetch(server.connector, `/socket.io/?EIO=${version}&transport=polling`, {
        method: 'OPTIONS',
        headers: {
          Origin: 'http://page.example',
          'Access-Control-Request-Method': 'POST',
          'Access-Control-Request-Headers': 'content-type,x-token',
        },
      });
      assert.ok(status === 200 || status === 204, `status ${status}`);
      assert.match(headers['access-control-allow-headers'], /\bcontent-type\b/i);
      assert.match(headers['access-control-allow-headers'], /\bx-token\b/i);
      assert.match(headers.vary, /access-control-request-headers/i);
    }
  });

  once('may follow an empty line', async ({ server }) => {
    const head = 'GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n';
    assert.strictEqual((await raw(server.connector, head)).status, 200);
    assert.strictEqual((await raw(server.connector, `\r\n${head}`)).status, 200);
  });

  once('may come with a head of 16 KiB, and no more', async ({ server }) => {
    const ask = (path, bytes) => `GET ${path} HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\nCookie: a=${'x'.repeat(bytes)}\r\n\r\n`;
    for (const path of ['/socket.io/?EIO=4&transport=polling', '/socket.io/1/', '/gate/queryEntry?uid=alice']) {
      assert.strictEqual((await raw(server.connector, ask(path, 15 * KIB))).status, 200, path);
      assert.strictEqual((await raw(server.connector, ask(path, 17 * KIB))).status, 431, path);
    }
    const headers = { Cookie: `a=${'x'.repeat(15 * KIB)}` };
    for (const path of ['/', '/socket.io/?EIO=4&transport=websocket']) {
      assert.strictEqual((await upgrade(server.connector, path, { headers })).status, 101, path);
    }
  });
});

sioSuite('an allow list of origins', ({ once, scenario }) => {
  once('lets the server\'s own origin in, and no stranger', async ({ server }) => {
    const { host, port } = server.connector;
    const origins = { [`http://${host}:${port}`]: 101, 'https://chat.example': 101, 'http://evil.example': 403, [`http://${host}:1`]: 403 };
    for (const [origin, wanted] of Object.entries(origins)) {
      for (const path of ['/', '/socket.io/?EIO=3&transport=websocket', '/socket.io/?EIO=4&transport=websocket']) {
        assert.strictEqual((await upgrade(server.connector, path, { origin })).status, wanted, `${origin} at ${path}`);
      }
    }
  });

  // websocket-client, on which python-socketio stands too, says the server's origin for its own; clients for Node say none.
  scenario('lets in who is no page', async (cast) => {
    const client = await cast.connectAs(cast.lead, cast.server.connector);
    assert.deepStrictEqual(await enter(client, 'alice', cast.room), { users: ['alice'] });
    await expectNothingMore(client);
  }, [HYBRID_KINDS.python, HYBRID_KINDS.go, HYBRID_KINDS.libpomelo2, ...PYTHON, ...KINDS.filter(({ transport }) => transport === 'websocket')]);
}, { server: { more: ['-origins', 'https://chat.example'] } });
