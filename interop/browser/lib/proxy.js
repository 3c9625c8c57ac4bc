'use strict';

// A TCP proxy that stands for the network between page and server: it keeps its port while servers come and go, and it
// can be cut in every way a network can.

const { once } = require('node:events');
const net = require('node:net');

class Proxy {
  // target is {host, port}, or null while there is no server.
  target = null;
  #pairs = new Set();
  #listener = net.createServer((near) => this.#connected(near));

  static async start() {
    const proxy = new Proxy();
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  get host() {
    return '127.0.0.1';
  }

  get port() {
    return this.#listener.address().port;
  }

  // cut resets every connection at both ends.
  cut() {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  // abandon resets the clients' ends only: for the server they are still there, and silent.
  abandon() {
    for (const pair of this.#pairs) {
      pair.abandoned = true;
      this.#separate(pair);
      pair.far.resume(); // what the server says is lost
      pair.near.resetAndDestroy();
    }
  }

  // stall lets nothing through any more on the connections there are, and tells nobody.
  stall() {
    for (const pair of this.#pairs) this.#separate(pair);
  }

  stop() {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    this.#listener.close();
  }

  #separate({ near, far }) {
    near.unpipe(far);
    far.unpipe(near);
  }

  #connected(near) {
    near.on('error', () => {}); // 'close' follows
    if (!this.target) return near.resetAndDestroy();
    const far = net.connect({ ...this.target, noDelay: true });
    const pair = { near, far, abandoned: false };
    this.#pairs.add(pair);
    near.setNoDelay();
    near.pipe(far).pipe(near);
    near.on('close', () => pair.abandoned || far.destroy());
    far.on('error', () => {});
    far.on('close', () => {
      this.#pairs.delete(pair);
      near.destroy();
    });
  }
}

module.exports = { Proxy };
