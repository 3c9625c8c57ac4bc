'use strict';

const { once } = require('node:events');
const net = require('node:net');

// Relay carries the connections of one client, so that a test can take the network away from under any client
// library and transport in the same way. What the server sees is the relay's end of each connection.
class Relay {
  #server;
  #target;
  #pairs = new Set(); // {near, far}: towards the client, towards pomelod
  #stalled = false;
  #interrupted = false;

  static async to(target) {
    const relay = new Relay(target);
    await relay.#listen();
    return relay;
  }

  constructor(target) {
    this.#target = target;
    this.#server = net.createServer({ noDelay: true }, (near) => this.#join(near));
    this.#server.unref(); // a client that polls opens connections to its very end; nobody has to tell when that is
  }

  get address() {
    const { address, port } = this.#server.address();
    return { host: address, port };
  }

  // stall is a network that swallows everything: no connection ends, however long the client waits or goes away.
  stall() {
    this.#stalled = true;
    for (const { near, far } of this.#pairs) for (const socket of [near, far]) socket.unpipe().resume();
  }

  get isStalled() {
    return this.#stalled;
  }

  // interrupt breaks every connection off, and every new one until resume.
  interrupt() {
    this.#interrupted = true;
    this.#breakAll();
  }

  resume() {
    this.#interrupted = false;
  }

  // reset breaks every connection off, and lets no new one through.
  reset() {
    this.#server.close();
    this.#breakAll();
  }

  // end closes every connection in order, and lets no new one through.
  end() {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      far?.end();
      near.destroy();
    }
  }

  #breakAll() {
    for (const { near, far } of this.#pairs) {
      if (far) breakOff(far);
      near.destroy();
    }
  }

  async #listen() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  #join(near) {
    near.on('error', () => {}); // 'close' follows
    if (this.#interrupted) return near.destroy();
    const pair = { near, far: null };
    this.#pairs.add(pair);
    near.on('close', () => this.#stalled || (this.#pairs.delete(pair) && pair.far.destroy()));
    if (this.#stalled) return near.resume();

    const far = net.connect({ ...this.#target, noDelay: true });
    pair.far = far;
    far.on('error', () => {});
    far.on('close', () => this.#pairs.delete(pair) && near.destroy());
    near.pipe(far);
    far.pipe(near);
  }
}

// A connection that is not open yet, or closing already, can only be closed: Node 20 never gets over a reset then.
function breakOff(socket) {
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

module.exports = { Relay };
