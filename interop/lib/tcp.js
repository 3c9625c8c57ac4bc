'use strict';

const { Message, Package } = require('pomelo-protocol');
const { Client } = require('./client');
const { within } = require('./expect');
const { load } = require('./npm');
const { WIRES, packages } = require('./wire');

// TcpClient is a raw TCP client in the manner of the native Pomelo clients: its own session over pomelo-protocol and
// the main entry of pomelo-protobuf.
class TcpClient extends Client {
  #wire;
  #protobuf = load('pomelo-protobuf');
  #serverProtos = {};
  #dict = {};
  #routeOfCode = {};
  #lastId = 0;
  #waiting = new Map(); // id → {route, answered}
  #batch = null;
  #heartbeatMs = 0;
  #heartbeatTimer = null;
  #frozen = false;
  #handshaken;

  // options: sys and user of the handshake, and secure, as for the wire.
  static async connect(address, { sys, user, secure } = {}) {
    const client = new TcpClient(await WIRES.tcp.open(address, { secure }));
    await client.#shakeHands(sys, user);
    return client;
  }

  constructor(wire) {
    super();
    this.#wire = wire;
    wire.onPackage = (pkg) => this.#received(pkg);
    wire.closed.then((how) => {
      clearTimeout(this.#heartbeatTimer);
      this.ended(how);
    });
  }

  sendRequest(route, body, answered) {
    const id = ++this.#lastId;
    this.#waiting.set(id, { route, answered });
    this.#send(packages.request(id, this.#dict[route] ?? route, body));
  }

  notify(route, body) {
    this.#send(packages.notify(this.#dict[route] ?? route, body));
  }

  batch(fill) {
    this.#batch = [];
    fill();
    this.#wire.send(...this.#batch);
    this.#batch = null;
  }

  leave() {
    return within(this.#wire.end(), 'close');
  }

  vanish() {
    return within(this.#wire.destroy(), 'close');
  }

  cut() {
    return within(this.#wire.reset(), 'close');
  }

  freeze() {
    this.#frozen = true;
  }

  #send(pkg) {
    if (this.#batch) this.#batch.push(pkg);
    else this.#wire.send(pkg);
  }

  async #shakeHands(sys, user) {
    const answer = new Promise((resolve) => (this.#handshaken = resolve));
    this.#wire.send(packages.handshake(sys, user));
    const { code, sys: settings } = await within(answer, 'handshake');
    if (code !== 200) throw new Error(`handshake: code ${code}`);
    this.#dict = settings.dict ?? {};
    this.#routeOfCode = settings.codeToRoute ?? {};
    this.#serverProtos = settings.protos?.server ?? {};
    this.#heartbeatMs = (settings.heartbeat ?? 0) * 1000;
    this.#protobuf.init({ encoderProtos: settings.protos?.client, decoderProtos: this.#serverProtos });
    this.#wire.send(packages.ack());
  }

  #received({ type, body }) {
    switch (type) {
      case Package.TYPE_HANDSHAKE:
        return this.#handshaken(JSON.parse(body));
      case Package.TYPE_HEARTBEAT:
        return this.#heartbeat();
      case Package.TYPE_DATA:
        return this.#message(Message.decode(body));
      case Package.TYPE_KICK:
        return this.pushed('onKick', JSON.parse(body));
    }
    throw new Error(`the server sent a package of type ${type}`);
  }

  // Every heartbeat is answered one interval later.
  #heartbeat() {
    this.heartbeats.put(true);
    if (this.#heartbeatMs === 0) return;
    clearTimeout(this.#heartbeatTimer);
    this.#heartbeatTimer = setTimeout(() => this.#frozen || this.#send(packages.heartbeat()), this.#heartbeatMs);
  }

  #message({ type, id, compressRoute, route, body }) {
    if (type === Message.TYPE_PUSH) {
      const name = compressRoute ? this.#routeOfCode[route] : route;
      return this.pushed(name, this.#decode(name, body));
    }
    const waiting = this.#waiting.get(id);
    if (type !== Message.TYPE_RESPONSE || !waiting) throw new Error(`a message of type ${type} with id ${id}`);
    this.#waiting.delete(id);
    waiting.answered(this.#decode(waiting.route, body));
  }

  #decode(route, body) {
    return this.#serverProtos[route] ? this.#protobuf.decode(route, body) : JSON.parse(body);
  }
}

module.exports = { TcpClient };
