'use strict';

const { once } = require('node:events');
const net = require('node:net');
const { setTimeout: pause } = require('node:timers/promises');
const { eventually } = require('./expect');

// The ways in which connections are cut, each as a network or a machine does it. Before the end, which both ends are told by a reset, nothing passes for a
// while; what either end says then waits, and is lost.
//   reset          nothing else
//   half sent      the last that the server gets is the first half of what the client says next, a frame or a request
//   half received  the last that the client gets is the first half of what the server says next
const WAYS = ['reset', 'half sent', 'half received'];

const HALF_MS = 20; // at least, for the half to be read before the end is told
// The longest time for which a cutter that buffers keeps something. A client that polls gets 16 messages an answer, and two hundred are said a second: with a
// round trip of more than 80 ms it falls behind for ever.
const BUFFER_MS = 10;

// Cutter carries one client's connections to a server, which may change, and cuts them all at once.
class Cutter {
  target; // {host, port}, or null while there is no server
  next = null; // the target from the next cut on; null: the same
  onCut = () => {}; // told when connections have been cut
  cuts = 0; // that were made by cut
  #buffers;
  #server;
  #pairs = new Set();
  #frozen = false;
  #half = null; // {way, passed()} of the next piece that passes

  // buffers: it is a proxy that passes on what it has read only after a while, so more may be lost than the kernel's buffers hold.
  static async to(target, { buffers = false } = {}) {
    const cutter = new Cutter();
    cutter.target = target;
    cutter.#buffers = buffers;
    cutter.#server = net.createServer({ noDelay: true }, (near) => cutter.#join(near));
    cutter.#server.unref();
    cutter.#server.listen(0, '127.0.0.1');
    await once(cutter.#server, 'listening');
    return cutter;
  }

  get address() {
    const { address, port } = this.#server.address();
    return { host: address, port };
  }

  // cut cuts all connections in one of WAYS, as soon as there are any, and resolves when that has been done: nothing passes for frozenMs first. A half
  // takes something to be said: speak has the client say something.
  async cut(way, { frozenMs = 0, speak = () => {} } = {}) {
    await eventually(() => this.#pairs.size, (n) => { if (n === 0) throw new Error('the client does not connect'); }, 120_000);
    if (way === 'reset') {
      this.#freeze();
    } else {
      await new Promise((passed) => {
        this.#half = { way, passed };
        if (way === 'half sent') speak();
      });
    }
    await pause(way === 'reset' ? frozenMs : Math.max(HALF_MS, frozenMs));
    this.cuts++;
    this.cutNow();
  }

  cutNow() {
    this.#half = null;
    this.#frozen = false;
    for (const pair of [...this.#pairs]) this.#break(pair);
    this.target = this.next ?? this.target;
    this.next = null;
    this.onCut();
  }

  close() {
    this.#server.close();
    for (const pair of [...this.#pairs]) this.#break(pair);
  }

  #break(pair) {
    this.#pairs.delete(pair);
    for (const socket of [pair.near, pair.far]) {
      if (socket.connecting || socket.writableEnded) socket.destroy(); // Node 20 never gets over a reset then
      else socket.resetAndDestroy();
    }
  }

  #freeze() {
    this.#frozen = true;
    for (const { near, far } of this.#pairs) for (const socket of [near, far]) socket.pause();
  }

  #join(near) {
    near.on('error', () => {}); // 'close' follows
    if (!this.target) return near.destroy();
    const far = net.connect({ ...this.target, noDelay: true });
    far.on('error', () => {});
    const pair = { near, far };
    this.#pairs.add(pair);
    for (const [socket, other] of [[near, far], [far, near]]) {
      socket.on('close', (hadError) => {
        if (hadError && this.#pairs.has(pair)) this.#break(pair);
        else other.end(); // after what has yet to be written to it
        if (other.destroyed) this.#pairs.delete(pair);
      });
    }
    this.#carry(near, far, 'half sent');
    this.#carry(far, near, 'half received');
    if (this.#frozen) this.#freeze();
  }

  #carry(from, to, half) {
    const write = (data) => {
      if (to.destroyed || to.write(data)) return;
      from.pause();
      to.once('drain', () => this.#frozen || from.resume());
    };
    let kept = [];
    const flush = () => {
      const data = Buffer.concat(kept);
      kept = [];
      if (data.length > 0 && !this.#frozen) write(data); // what is frozen will be lost
    };
    from.on('data', (data) => {
      if (this.#half?.way === half) {
        const { passed } = this.#half;
        this.#half = null;
        flush();
        write(data.subarray(0, data.length >> 1));
        this.#freeze();
        passed();
      } else if (!this.#buffers) {
        write(data);
      } else if (kept.push(data) === 1) {
        setTimeout(flush, BUFFER_MS);
      }
    });
    from.on('end', () => {
      flush();
      to.end();
    });
  }
}

module.exports = { Cutter, WAYS };
