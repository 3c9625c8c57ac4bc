'use strict';

// Unmodified clients over TLS: wss and https, and packages over TLS. What they do is what they do without; here it is that they can, and that they can where one has
// to log in.

// The XMLHttpRequest of socket.io 0.9 and its WebSocket take no options. Node warns of it once.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const { JsClient } = require('../lib/jsclient');
const { Queue, within } = require('../lib/expect');
const { Server } = require('../lib/server');
const { TcpClient } = require('../lib/tcp');
const { keyFile, mint } = require('../lib/token');

const TEST_TIMEOUT_MS = 60_000;
const TLS = ['-tls-self', '-tls-listen', '127.0.0.1:0', '-tls-gate', '127.0.0.1:0'];
const NOBODY_KNOWS_IT = { rejectUnauthorized: false }; // the certificate was made at the start

// SioClient is socket.io-client with Pomelo's string format: id, length of the route, route, JSON.
class SioClient {
  #socket;
  #answers = new Queue();
  #id = 0;
  pushes = new Queue();

  static async connect({ host, port }, version, transport, auth) {
    const client = new SioClient();
    const io = require(`sio-${version}`);
    const url = `https://${host}:${port}`;
    if (version === '0.9') {
      io.transports = [transport];
      client.#socket = io.connect(url, { 'force new connection': true, reconnect: false, secure: true });
    } else {
      client.#socket = io.connect(url, { ...NOBODY_KNOWS_IT, forceNew: true, reconnection: false, transports: [transport], auth });
    }
    client.#socket.on('message', (data) => {
      for (const message of [data].flat().map((part) => (typeof part === 'string' ? JSON.parse(part) : part)).flat()) {
        (message.id ? client.#answers : client.pushes).put(message);
      }
    });
    const connected = new Promise((resolve, reject) => {
      client.#socket.on('connect', resolve);
      for (const failure of ['connect_error', 'error']) client.#socket.on(failure, (error) => reject(new Error(`${failure}: ${error?.message ?? error}`)));
    });
    await within(connected, `socket.io ${version} by ${transport}`);
    return client;
  }

  async request(route, body) {
    const id = ++this.#id;
    this.#socket.emit('message', String.fromCharCode(id >> 24, (id >> 16) & 255, (id >> 8) & 255, id & 255, route.length) + route + JSON.stringify(body));
    return (await this.#answers.next(`answer of ${route}`)).body;
  }

  async leave() {
    this.#socket.disconnect();
  }
}

// Kinds of clients, by name. token, if there is one, is shown as early as each can: in its handshake. byEnter: it has none of its own.
const KINDS = {
  'pomelo-jsclient-websocket': { connect: (at, token) => JsClient.connect(at, { secure: true, user: token && { token } }) },
  'packages over TLS': { connect: (at, token) => TcpClient.connect(at, { secure: true, user: token && { token } }) },
};
for (const [version, transports] of [['0.9', ['websocket', 'xhr-polling']], ['2.5', ['websocket', 'polling']], ['4.8', ['websocket', 'polling']]]) {
  for (const transport of transports) {
    const byEnter = version !== '4.8';
    KINDS[`socket.io-client ${version} by ${transport}`] = { byEnter, connect: (at, token) => SioClient.connect(at, version, transport, token && !byEnter && { token }) };
  }
}

for (const [loops, login] of [[1, false], [3, false], [1, true], [3, true]]) {
  describe(`TLS, event loops: ${loops}${login ? ', login' : ''}`, { concurrency: 1 }, () => {
    let server;
    before(async () => {
      server = await Server.start({ loops, more: login ? [...TLS, '-auth', 'jwt', '-auth-key', keyFile(), '-sessions', '2'] : TLS });
    });
    after(() => server?.stop());

    const tokenOf = (sub) => (login ? mint({ sub }) : undefined);

    for (const [name, { connect, byEnter }] of Object.entries(KINDS)) {
      it(`${name} asks the gate, enters, and is heard without TLS`, { timeout: TEST_TIMEOUT_MS }, async () => {
        const atGate = await connect({ ...server.gateTLS, host: 'localhost' });
        const to = await atGate.request('gate.gateHandler.queryEntry', { uid: 'me' });
        assert.deepStrictEqual(to, { code: 200, host: 'localhost', port: server.connectorTLS.port });
        await atGate.leave();
        const room = `room of ${name}`;
        const plain = await JsClient.connect(server.connector);
        await plain.request('connector.entryHandler.enter', { username: 'plain', rid: room, token: tokenOf('plain') });
        const me = await connect(to, tokenOf('me'));
        const enter = { username: 'me', rid: room };
        if (byEnter && login) {
          assert.deepStrictEqual(await me.request('connector.entryHandler.enter', enter), { code: 401, error: true });
          assert.deepStrictEqual(await me.request('connector.entryHandler.enter', { ...enter, token: tokenOf('you') }), { code: 401, error: true });
          enter.token = tokenOf('me');
        }
        const { users } = await me.request('connector.entryHandler.enter', enter);
        assert.ok(users.includes('plain'), JSON.stringify(users));
        assert.deepStrictEqual((await plain.pushes.next('onAdd')).body.user, 'me');
        for (const content of ['over TLS', '王五 😀', 'x'.repeat(60_000)]) {
          await me.request('chat.chatHandler.send', { rid: room, content, from: 'me', target: '*' });
          assert.strictEqual((await plain.pushes.next('onChat')).body.msg, content);
        }
        await me.leave();
        assert.deepStrictEqual((await plain.pushes.next('onLeave')).body.user, 'me');
        await plain.leave();
      });
    }
  });
}
