'use strict';

const { within } = require('../expect');

// What a client does on its way from polling to websocket, and where a test may hold it.
const MOMENTS = {
  connected: 'it polls, and no websocket is open yet',
  opened: 'its websocket is open, and the probe is not sent yet',
  probed: 'the server has answered the probe, and it still polls',
  paused: 'it does not poll any more, and has not said yet that it upgrades',
};

// Upgrade holds the upgrade of one client at chosen moments, so that a test can let things happen in exactly that
// state. Between the moments the client goes on by itself.
class Upgrade {
  // transport is the websocket transport of the library, once there is one.
  transport = null;
  #gates = new Map(); // moment → {reached, released} and what resolves them

  // engine is that of a client which is about to connect.
  constructor(engine, moments) {
    for (const moment of moments) {
      if (!MOMENTS[moment]) throw new Error(`no such moment: ${moment}`);
      this.#gates.set(moment, { reached: signal(), released: signal() });
    }
    this.#arm(engine);
  }

  reaches(moment) {
    return within(this.#gates.get(moment).reached.promise, `an upgrade reaches ${moment}`);
  }

  release(moment) {
    this.#gates.get(moment).released.resolve();
  }

  #at(moment, goOn) {
    const gate = this.#gates.get(moment);
    if (!gate) return goOn();
    gate.reached.resolve();
    gate.released.promise.then(goOn);
  }

  // The steps are methods of the library, replaced on this one engine and its transport.
  #arm(engine) {
    const { createTransport } = engine;
    const start = engine.probe ? 'probe' : '_probe'; // until 4.7, and since
    const probe = engine[start];
    engine[start] = (...args) => this.#at('connected', () => probe.apply(engine, args));
    engine.createTransport = (...args) => {
      const transport = createTransport.apply(engine, args);
      if (transport.name === 'websocket') this.#armTransport(transport);
      return transport;
    };
  }

  #armTransport(transport) {
    this.transport = transport;
    const { send, onData } = transport;
    transport.send = (packets) => {
      const [{ type, data }] = packets;
      const moment = type === 'upgrade' ? 'paused' : type === 'ping' && data === 'probe' && 'opened';
      if (!moment || !this.#gates.has(moment)) return send.call(transport, packets);
      // The library must believe that this packet is on its way, or the next one would overtake it. When the websocket is
      // gone by the time, the packet is lost like any that is on its way.
      transport.writable = false;
      this.#at(moment, () => transport.readyState === 'open' && send.call(transport, packets));
    };
    transport.onData = (data) => {
      if (data !== '3probe') return onData.call(transport, data);
      this.#at('probed', () => onData.call(transport, data));
    };
  }
}

function signal() {
  const parts = {};
  parts.promise = new Promise((resolve) => (parts.resolve = resolve));
  return parts;
}

module.exports = { MOMENTS, Upgrade };
