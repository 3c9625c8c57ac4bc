'use strict';

const { Package } = require('pomelo-protocol');
const { Client } = require('./client');
const { within } = require('./expect');
const { Page } = require('./page');

// What the client emits about its connection; all else it emits is a push.
const LIFE_EVENTS = ['error', 'io-error', 'close', 'disconnect', 'reconnect', 'heartbeat timeout'];

// JsClient drives pomelo-jsclient-websocket from npm, each instance in a page of its own.
class JsClient extends Client {
  #page;
  #connectFailed = () => {};

  // options: storage and protobuf of the page, user of the handshake.
  static async connect(address, options = {}) {
    const client = new JsClient(options);
    await client.#connect(address, options);
    return client;
  }

  constructor(options) {
    super();
    this.#page = new Page({ ...options, observe: (event, argument) => this.#observe(event, argument) });
  }

  // pomelo is the npm client itself.
  get pomelo() {
    return this.#page.pomelo;
  }

  sendRequest(route, body, answered) {
    this.pomelo.request(route, body, answered);
  }

  notify(route, body) {
    this.pomelo.notify(route, body);
  }

  batch(fill) {
    this.#page.tcp.cork();
    fill();
    this.#page.tcp.uncork();
  }

  leave() {
    this.pomelo.disconnect();
    return this.#gone();
  }

  vanish() {
    this.#page.tcp.destroy();
    return this.#gone();
  }

  cut() {
    this.#page.tcp.resetAndDestroy();
    return this.#gone();
  }

  freeze() {
    this.#page.freeze();
  }

  // moveTo is how a page goes from the gate to its connector: the same instance, a new connection.
  moveTo(address) {
    this.pomelo.disconnect();
    return this.#connect(address, {});
  }

  #connect(address, { user }) {
    const connected = new Promise((resolve, reject) => {
      this.#connectFailed = reject;
      this.pomelo.init({ ...address, user }, resolve);
    });
    this.#page.websocket.on('message', (data) => this.#countHeartbeats(data));
    return within(connected, `connect to port ${address.port}`);
  }

  // The client keeps heartbeats to itself.
  #countHeartbeats(data) {
    for (const pkg of [Package.decode(Buffer.from(data))].flat()) {
      if (pkg.type === Package.TYPE_HEARTBEAT) this.heartbeats.put(true);
    }
  }

  // The client does not stop its timers when the server closes; only disconnect does that.
  #gone() {
    return within(this.closed, 'close').then(() => this.pomelo.disconnect());
  }

  #observe(event, argument) {
    if (!LIFE_EVENTS.includes(event)) this.pushed(event, argument);
    if (event === 'error' || event === 'io-error') this.#connectFailed(new Error(String(argument?.message ?? argument)));
    if (event === 'disconnect' && argument.target === this.#page.websocket) this.ended({ code: argument.code });
  }
}

module.exports = { JsClient };
