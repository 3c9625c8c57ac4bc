'use strict';

// A server that the test plays: it says what the test wants, as much at once as it wants, and answers as pomelod rarely does.

const { once } = require('node:events');
const { WebSocketServer } = require('ws');

const BATCH = 100; // messages in a frame, as pomelod merges them

// playServer answers a page in place of pomelod, for as long as the page is open. The room has users in it. answer(route, body)
// may return what a request is answered instead; send(messages) tells the page, as pomelod would; cut ends its
// connection, and kick does so in Pomelo's way.
async function playServer(page, { users, answer = () => undefined }) {
  const listener = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(listener, 'listening');
  const address = { host: '127.0.0.1', port: listener.address().port };
  await page.route('**/gate/queryEntry*', (route) => route.fulfill({ json: { code: 200, ...address } }));
  page.on('close', () => listener.close());
  const server = {};
  listener.on('connection', (socket) => {
    server.send = (messages) => {
      for (let at = 0; at < messages.length; at += BATCH) socket.send(Buffer.concat(messages.slice(at, at + BATCH)));
    };
    server.cut = () => socket.close();
    server.kick = (reason) => socket.send(pack(5, json({ reason })));
    socket.on('message', (bytes) => {
      const [type] = bytes;
      if (type === 1) socket.send(pack(1, json({ code: 200, sys: {} })));
      if (type !== 4) return;
      const { id, route, body } = request(bytes);
      const enters = route === 'connector.entryHandler.enter';
      socket.send(pack(4, Buffer.concat([Buffer.of(2 << 1, id), json(answer(route, body) ?? (enters ? { users } : {}))])));
    });
  });
  return server;
}

const json = (value) => Buffer.from(JSON.stringify(value));

// request takes a request apart: flag, id (one byte is enough here), route, JSON.
function request(bytes) {
  const id = bytes[5];
  const route = bytes.subarray(7, 7 + bytes[6]).toString();
  return { id, route, body: JSON.parse(bytes.subarray(7 + bytes[6])) };
}

function pack(type, body) {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  head[0] = type;
  return Buffer.concat([head, body]);
}

function push(route, body) {
  return pack(4, Buffer.concat([Buffer.of(3 << 1, route.length), Buffer.from(route), json(body)]));
}

module.exports = { playServer, push };
