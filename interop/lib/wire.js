'use strict';

// A wire carries packages and knows nothing of sessions. There is one over raw TCP and one over WebSocket; both are
// opened the same way and behave the same, so a test of the package layer runs on either.

const assert = require('node:assert');
const { once } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');
const { Message, Package } = require('pomelo-protocol');
const WebSocket = require('ws');
const { Queue, within } = require('./expect');

const HEAD_BYTES = 4;

class Wire {
  // packages are {type, body}, body a Buffer or null; unless somebody set onPackage.
  packages = new Queue();
  onPackage = (pkg) => this.packages.put(pkg);

  constructor() {
    this.closed = new Promise((resolve) => (this.ended = resolve));
    this.closed.then(() => this.packages.end('the wire is closed'));
  }

  // send writes the packages in one piece: one TCP write, one WebSocket frame.
  send(...packages) {
    this.write(Buffer.concat(packages));
  }

  // next is the next package, which must be of the given type.
  async next(type) {
    const pkg = await this.packages.next(`package of type ${type}`);
    assert.strictEqual(pkg.type, type, 'package type');
    return pkg.body;
  }

  // shakeHands returns the server's answer.
  async shakeHands(sys) {
    this.send(packages.handshake(sys));
    return JSON.parse(await this.next(Package.TYPE_HANDSHAKE));
  }

  // toWorking goes from a new connection to the server's first heartbeat.
  async toWorking() {
    const answer = await this.shakeHands();
    this.send(packages.ack());
    assert.strictEqual(await this.next(Package.TYPE_HEARTBEAT), null);
    return answer;
  }

  async message() {
    return Message.decode(await this.next(Package.TYPE_DATA));
  }

  // answer is the next package, which must be the response to that request. Bodies of responses are JSON.
  async answer(toId) {
    const { type, id, body } = await this.message();
    assert.deepStrictEqual({ type, id }, { type: Message.TYPE_RESPONSE, id: toId });
    return JSON.parse(body);
  }
}

class TcpWire extends Wire {
  #socket;
  #partial = Buffer.alloc(0);

  // secure: TLS, with whatever certificate.
  static async open({ host, port }, { secure = false } = {}) {
    const socket = secure ? tls.connect({ host, port, servername: net.isIP(host) ? '' : host, noDelay: true, rejectUnauthorized: false }) : net.connect({ host, port, noDelay: true });
    const wire = new TcpWire(socket);
    await within(once(socket, secure ? 'secureConnect' : 'connect'), `connect to port ${port}`);
    return wire;
  }

  constructor(socket) {
    super();
    this.#socket = socket;
    socket.on('data', (bytes) => this.#received(bytes));
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.ended({}));
  }

  // write resolves when the kernel has the bytes, so that two writes in a row need not travel together.
  write(bytes) {
    return new Promise((resolve) => this.#socket.write(bytes, resolve));
  }

  // drip sends every byte on its own.
  async drip(bytes) {
    for (const byte of bytes) await this.write(Buffer.of(byte));
  }

  end() {
    this.#socket.end();
    return this.closed;
  }

  destroy() {
    this.#socket.destroy();
    return this.closed;
  }

  reset() {
    this.#socket.resetAndDestroy();
    return this.closed;
  }

  #received(bytes) {
    let rest = Buffer.concat([this.#partial, bytes]);
    while (rest.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + rest.readUIntBE(1, 3);
      if (rest.length < end) break;
      this.onPackage(Package.decode(rest.subarray(0, end)));
      rest = rest.subarray(end);
    }
    this.#partial = rest;
  }
}

class WsWire extends Wire {
  #socket;

  static async open({ host, port }) {
    const socket = new WebSocket(`ws://${host}:${port}`);
    const wire = new WsWire(socket);
    await within(once(socket, 'open'), `connect to port ${port}`);
    return wire;
  }

  constructor(socket) {
    super();
    this.#socket = socket;
    socket.on('message', (data, isBinary) => this.#received(data, isBinary));
    socket.on('close', (code, reason) => this.ended({ code, reason: reason.toString() }));
  }

  // options are those of ws: binary: false for a text frame, fin: false for a fragment.
  write(bytes, options = {}) {
    return new Promise((resolve) => this.#socket.send(bytes, { binary: true, ...options }, resolve));
  }

  // drip sends one frame, every byte in a fragment of its own.
  async drip(bytes) {
    for (const [at, byte] of bytes.entries()) await this.write(Buffer.of(byte), { fin: at === bytes.length - 1 });
  }

  async ping(data) {
    this.#socket.ping(data);
    const [answer] = await within(once(this.#socket, 'pong'), 'pong');
    return answer.toString();
  }

  end() {
    this.#socket.close();
    return this.closed;
  }

  destroy() {
    this.#socket.terminate();
    return this.closed;
  }

  #received(data, isBinary) {
    if (!isBinary) throw new Error('the server sent a text frame');
    const pkgs = [Package.decode(data)].flat();
    // A family of Java clients reads the first package of a frame only.
    if (pkgs.length !== 1) throw new Error(`the server sent a frame with ${pkgs.length} packages`);
    this.onPackage(pkgs[0]);
  }
}

const WIRES = { tcp: TcpWire, ws: WsWire };

// Packages a client sends.

function bytesOf(body) {
  if (body === undefined || Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

const packages = {
  of: (type, body) => Package.encode(type, bytesOf(body)),
  handshake: (sys = {}, user = undefined) =>
    packages.of(Package.TYPE_HANDSHAKE, { sys: { type: 'interop', version: '1.0.0', ...sys }, user }),
  ack: () => packages.of(Package.TYPE_HANDSHAKE_ACK),
  heartbeat: () => packages.of(Package.TYPE_HEARTBEAT),
  data: (message) => packages.of(Package.TYPE_DATA, message),
  // route is text, or a number from the dictionary.
  message: (type, id, route, body) =>
    packages.data(Message.encode(id, type, typeof route === 'number', route, bytesOf(body))),
  request: (id, route, body) => packages.message(Message.TYPE_REQUEST, id, route, body),
  notify: (route, body) => packages.message(Message.TYPE_NOTIFY, 0, route, body),
};

module.exports = { WIRES, packages };
