'use strict';

// Sessions of every socket.io generation by hand: for the exact text on the wire, and for what no client would send.
// Each has
//   open(address)       up to and including the connect packet
//   send(...packets)    together, in one HTTP request where it polls; resolves with the response there
//   next()              the next packet, or what one poll brings where it polls
//   say(text)           the packet that carries a string of the connector
//   destroy()           breaks off

const assert = require('node:assert');
const { once } = require('node:events');
const http = require('node:http');
const WebSocket = require('ws');
const { Queue, within } = require('../expect');
const { fetch } = require('./http');

class ByWebSocket {
  // packets are the frames.
  packets = new Queue();

  async connect({ host, port }, path, protocols = []) {
    this.socket = new WebSocket(`ws://${host}:${port}${path}`, protocols, { perMessageDeflate: false });
    this.socket.on('message', (data, isBinary) => this.packets.put(isBinary ? data : data.toString()));
    this.closed = new Promise((resolve) => this.socket.once('close', (code) => resolve(code)));
    this.closed.then(() => this.packets.end('the connection is closed'));
    this.socket.on('error', () => {}); // 'close' follows
    await within(Promise.race([once(this.socket, 'open'), this.closed]), `connect to ${path}`);
  }

  async send(...packets) {
    for (const packet of packets) this.socket.send(packet);
  }

  next() {
    return this.packets.next('a packet');
  }

  close() {
    this.socket.close();
  }

  destroy() {
    this.socket.terminate();
  }
}

class ByPolling {
  #agent = new http.Agent({ keepAlive: true });
  #address;
  path;

  at(address) {
    this.#address = address;
  }

  fetch(path, options) {
    return fetch(this.#address, path, { agent: this.#agent, ...options });
  }

  poll() {
    return this.fetch(this.path);
  }

  post(body) {
    return this.fetch(this.path, { method: 'POST', body, headers: { 'Content-Type': 'text/plain;charset=UTF-8' } });
  }

  destroy() {
    this.#agent.destroy();
  }
}

// Both transports of 0.9 begin with a handshake by HTTP.
async function handshake09(address) {
  const { status, text } = await fetch(address, '/socket.io/1/?t=1360239218000');
  assert.strictEqual(status, 200);
  const [, sid] = text.match(/^([\w-]{20}):\d+:\d+:[a-z,-]*websocket[a-z,-]*$/) ?? assert.fail(`handshake: ${text}`);
  return sid;
}

const say09 = (text) => `3:::${text}`;
const sayEngine = (text) => `42${JSON.stringify(['message', text])}`;

class Old extends ByWebSocket {
  say = say09;

  async open(address, protocols) {
    await this.connect(address, `/socket.io/1/websocket/${await handshake09(address)}`, protocols);
    assert.strictEqual(await this.next(), '1::');
    return this;
  }
}

class OldPolling extends ByPolling {
  say = say09;

  async open(address) {
    this.at(address);
    this.path = `/socket.io/1/xhr-polling/${await handshake09(address)}?t=1360239219157`;
    assert.strictEqual(await this.next(), '1::');
    return this;
  }

  async next() {
    const { status, text } = await this.poll();
    assert.strictEqual(status, 200, text);
    return text;
  }

  // Packets that travel together are framed by their length in UTF-16 code units.
  send(...packets) {
    if (packets.length === 1) return this.post(packets[0]);
    return this.post(packets.map((packet) => `\ufffd${packet.length}\ufffd${packet}`).join(''));
  }
}

const enginePath = (version, transport) => `/socket.io/?EIO=${version}&transport=${transport}&t=abc`;

// Engine.IO 3 sends the connect packet by itself, Engine.IO 4 after the client's.
class Engine extends ByWebSocket {
  say = sayEngine;

  constructor(version) {
    super();
    this.version = version;
  }

  async open(address) {
    await this.connect(address, enginePath(this.version, 'websocket'));
    this.settings = JSON.parse((await this.next()).match(/^0(\{.*\})$/)[1]);
    if (this.version === 4) this.send('40');
    assert.match(await this.next(), this.version === 4 ? /^40\{"sid":"/ : /^40$/);
    return this;
  }
}

class EnginePolling extends ByPolling {
  say = sayEngine;
  #arrived = [];

  constructor(version) {
    super();
    this.version = version;
  }

  async open(address) {
    this.at(address);
    this.path = enginePath(this.version, 'polling') + (this.version === 3 ? '&b64=1' : '');
    this.settings = JSON.parse((await this.next()).match(/^0(\{.*\})$/)[1]);
    this.path += `&sid=${this.settings.sid}`;
    if (this.version === 4) await this.send('40');
    assert.match(await this.next(), this.version === 4 ? /^40\{"sid":"/ : /^40$/);
    return this;
  }

  async next() {
    while (this.#arrived.length === 0) {
      const { status, text } = await this.poll();
      assert.strictEqual(status, 200, text);
      this.#arrived.push(...this.#split(text));
    }
    return this.#arrived.shift();
  }

  send(...packets) {
    if (this.version === 4) return this.post(packets.join('\x1e'));
    return this.post(packets.map((packet) => `${packet.length}:${packet}`).join(''));
  }

  #split(text) {
    if (this.version === 4) return text.split('\x1e');
    const packets = [];
    while (text.length > 0) {
      const [head, length] = text.match(/^(\d+):/);
      packets.push(text.slice(head.length, head.length + Number(length)));
      text = text.slice(head.length + Number(length));
    }
    return packets;
  }
}

const BY_HAND = {
  '0.9 websocket': () => new Old(),
  '0.9 xhr-polling': () => new OldPolling(),
  'engine.io 3 websocket': () => new Engine(3),
  'engine.io 3 polling': () => new EnginePolling(3),
  'engine.io 4 websocket': () => new Engine(4),
  'engine.io 4 polling': () => new EnginePolling(4),
};

module.exports = { BY_HAND };
