'use strict';

const http = require('node:http');
const { Client } = require('../client');
const { Queue, within } = require('../expect');
const { encode } = require('./format');
const { Relay } = require('./relay');
const { Upgrade } = require('./upgrade');

// PageClient does what the page of chatofpomelo does with its socket.io client, the page of 2013 and today's: it
// numbers requests from 2 on, notifies among them, adds a timestamp, and reads pushes in all their forms. It holds
// the server to more than the page does: what the page would only log, or not notice, is a fault.
class PageClient extends Client {
  // connects tells every connect; a page that may reconnect sees several.
  connects = new Queue();
  // unasked are the answers to notifies, {id, body}: the page has no callback for them.
  unasked = new Queue();
  // socket is the library's own.
  socket = null;
  // upgrade is an Upgrade for a test to hold, see connect.
  upgrade = null;

  #kind;
  #options;
  #agent;
  #relay = null;
  #lastId = 1;
  #waiting = new Map(); // id → answered, null for a notify
  #upgraded;

  // options: relay       the client is behind a Relay, which vanish, cut, freeze and interrupt need
  //          hold        the moments at which its upgrade is held (upgrade.js)
  //          reconnects  the library may connect again by itself
  static async connect(kind, address, options = {}) {
    const client = new PageClient(kind, options);
    await client.#connect(address);
    return client;
  }

  constructor(kind, options) {
    super();
    this.#kind = kind;
    this.#options = options;
    // Connections that stay, as browsers keep them; without an agent engine.io opens one for each request.
    if (kind.agent) this.#agent = new http.Agent(kind.agent);
    this.closed.then(() => {
      this.connects.end('the connection is closed');
      this.unasked.end('the connection is closed');
    });
  }

  get kind() {
    return this.#kind;
  }

  get engine() {
    return this.#kind.driver.engineOf(this.socket);
  }

  // upgraded resolves when the library has gone from polling to websocket, and settled when the server knows it, too.
  get upgraded() {
    return within(this.#upgraded, 'upgrade');
  }

  async settled() {
    if (!this.#kind.upgrades) return;
    await this.upgraded;
    await this.request('no.such.route', {});
  }

  sendRequest(route, body, answered) {
    this.#waiting.set(this.sendText(route, JSON.stringify({ ...body, timestamp: Date.now() })), answered);
  }

  notify(route, body) {
    this.sendRequest(route, body, null);
  }

  // sendText sends a request whose body is this text, whatever it is. Its id is returned; the answer is a fault unless
  // somebody waits for it.
  sendText(route, text) {
    const id = ++this.#lastId;
    this.socket.send(encode(id, route, text));
    return id;
  }

  requestText(route, text) {
    const answer = new Promise((resolve) => this.#waiting.set(this.sendText(route, text), resolve));
    return within(answer, `answer of ${route} with ${text.slice(0, 40)}`);
  }

  // What one turn sends, the library sends together.
  batch(fill) {
    fill();
  }

  // leave is over at once for the page; the library sends its goodbye in its own time.
  async leave() {
    this.socket.disconnect();
    this.ended({ reason: 'left' });
    if (this.#relay?.isStalled) this.#relay.end(); // there is nobody to say goodbye to
  }

  vanish() {
    this.#relay.end();
    return this.#gone();
  }

  cut() {
    this.#relay.reset();
    return this.#gone();
  }

  freeze() {
    this.#relay.stall();
  }

  // interrupt breaks the connections off; when the library has noticed, it may connect again.
  async interrupt() {
    const noticed = new Promise((resolve) => this.socket.on('disconnect', resolve));
    this.#relay.interrupt();
    await within(noticed, 'the library notices that it is disconnected');
    this.#relay.resume();
  }

  // closeWebSocket closes it with a close frame and without the socket.io goodbye.
  closeWebSocket() {
    this.#kind.driver.websocketOf(this.socket).close();
    return this.#gone();
  }

  // stopPolling: the client, which polls, does not ask again and sends nothing more.
  stopPolling() {
    this.#kind.driver.silence(this.socket);
  }

  // abandonPoll: besides, the request that is open is broken off.
  abandonPoll() {
    this.#kind.driver.abandon(this.socket, this.#agent);
  }

  // moveTo is how a page goes from the gate to its connector: disconnect and connect in one breath; the numbers of the
  // requests go on.
  moveTo(address) {
    const { socket } = this;
    this.socket = null; // its disconnect is not ours any more
    socket.disconnect();
    return this.#connect(address);
  }

  async #connect(target) {
    if (this.#options.relay) this.#relay = await Relay.to(target);
    const { host, port } = this.#relay?.address ?? target;
    const { driver, transport } = this.#kind;
    const { reconnects = false } = this.#options;
    const socket = driver.open(`http://${host}:${port}`, { transport, agent: this.#agent, reconnects });
    this.socket = socket;
    if (this.#kind.upgrades) this.#watchUpgrade();
    const connected = new Promise((resolve, reject) => {
      socket.on('connect', resolve);
      for (const failure of ['connect_error', 'connect_failed', 'error']) {
        socket.on(failure, (err) => reject(new Error(`${failure}: ${err?.message ?? err}`, { cause: err })));
      }
    });
    socket.on('connect', () => this.connects.put(socket));
    socket.on('message', (...args) => this.#received(...args));
    let because; // engine.io alone knows more than a reason: the status of the request that failed, for one
    driver.engineOf(socket).on('error', (err) => (because = `${err?.message}: ${err?.description}`));
    socket.on('disconnect', (reason) => {
      if (this.socket === socket && !reconnects) this.ended({ reason, because });
    });
    await within(connected, `${this.#kind.name} connects to port ${target.port}`);
  }

  #watchUpgrade() {
    const { engine } = this;
    if (this.#options.hold) this.upgrade = new Upgrade(engine, this.#options.hold);
    this.#upgraded = new Promise((resolve, reject) => {
      engine.on('upgrade', resolve);
      engine.on('upgradeError', reject);
    });
    this.#upgraded.catch(() => {}); // for those who ask
  }

  #gone() {
    return within(this.closed, 'close');
  }

  #received(text, ...more) {
    if (typeof text !== 'string' || more.length > 0) return this.fault(`a message that is no string: ${text}`);
    const message = JSON.parse(text);
    // The server of 2013 put everything into arrays, today's sends one at a time; every page reads both.
    if (Array.isArray(message) !== this.#kind.arrays) this.fault(`not the form of ${this.#kind.name}: ${text}`);
    for (const element of [message].flat()) this.#process(element);
  }

  #process(message) {
    if (message.id) return this.#answered(message);
    const wrapped = Boolean(message.body);
    if (message.route !== 'onKick' && wrapped === this.#kind.arrays) this.fault(`a push in the wrong form: ${JSON.stringify(message)}`);
    let { route, body } = message;
    if (route && wrapped) body = body.body || body;
    else if (route) body = message;
    else route = body.route;
    this.#push(route, body);
  }

  // Both flavours name the route in the payload once more. Hybrid clients are told it for onAdd and onLeave only, and
  // a scenario expects the same of everybody.
  #push(route, { ...body }) {
    if (body.route !== route) this.fault(`a push ${route} whose payload says ${body.route}`);
    if (route === 'onChat') delete body.route;
    this.pushed(route, body);
  }

  #answered({ id, body, ...more }) {
    if (!this.#waiting.has(id)) return this.fault(`an answer to ${id}, which nobody waits for: ${JSON.stringify(body)}`);
    if (Object.keys(more).length > 0) this.fault(`an answer with ${Object.keys(more)}`);
    const answered = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (answered) answered(body);
    else this.unasked.put({ id, body });
  }
}

module.exports = { PageClient };
