'use strict';

// Unmodified clients over TLS: wss and https. What they do is what they do without; here it is that they can.

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const { JsClient } = require('../lib/jsclient');
const { Queue, within } = require('../lib/expect');
const { Server } = require('../lib/server');

const TEST_TIMEOUT_MS = 60_000;
const TLS = ['-tls-self', '-tls-listen', '127.0.0.1:0', '-tls-gate', '127.0.0.1:0'];
const NOBODY_KNOWS_IT = { rejectUnauthorized: false }; // the certificate was made at the start

// SioClient is socket.io-client with Pomelo's string format: id, length of the route, route, JSON.
class SioClient {
  #socket;
  #answers = new Queue();
  #id = 0;
  pushes = new Queue();

  static async connect({ host, port }, version, transport) {
    const client = new SioClient();
    const { io } = { io: require(`sio-${version}`) };
    client.#socket = io.connect(`https://${host}:${port}`, { ...NOBODY_KNOWS_IT, forceNew: true, reconnection: false, transports: [transport] });
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

const KINDS = { 'pomelo-jsclient-websocket': (at) => JsClient.connect(at, { secure: true }) };
for (const version of ['2.5', '4.8']) {
  for (const transport of ['websocket', 'polling']) KINDS[`socket.io-client ${version} by ${transport}`] = (at) => SioClient.connect(at, version, transport);
}

for (const loops of [1, 3]) {
  describe(`TLS, event loops: ${loops}`, { concurrency: 1 }, () => {
    let server;
    before(async () => {
      server = await Server.start({ loops, more: TLS });
    });
    after(() => server?.stop());

    for (const [name, connect] of Object.entries(KINDS)) {
      it(`${name} asks the gate, enters, and is heard without TLS`, { timeout: TEST_TIMEOUT_MS }, async () => {
        const atGate = await connect({ ...server.gateTLS, host: 'localhost' });
        const to = await atGate.request('gate.gateHandler.queryEntry', { uid: 'me' });
        assert.deepStrictEqual(to, { code: 200, host: 'localhost', port: server.connectorTLS.port });
        await atGate.leave();
        const room = `room of ${name}`;
        const plain = await JsClient.connect(server.connector);
        await plain.request('connector.entryHandler.enter', { username: 'plain', rid: room });
        const me = await connect(to);
        const { users } = await me.request('connector.entryHandler.enter', { username: 'me', rid: room });
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
