// One connection of pomelo.js: a WebSocket with its handshake, its heartbeats and its requests.

import {
  DATA, HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, KICK,
  decodeMessage, decodePackages, encodeMessage, encodePackage, fromJSON, own, protobuf, toJSON,
} from "./pomelo-codec.js";

// The type decides how the server writes text: every type but js-websocket gets standard UTF-8.
const CLIENT = { type: "pomelo-module", version: "1.0.0" };
export const CONNECT_TIMEOUT_MS = 10_000; // of the gate; then again of socket and handshake
const PROBE_MS = 5_000; // patience with a connection that may have died while the page or the machine slept
const OVERSLEPT_MS = 1_000; // a timer as late as this slept itself, and what came meanwhile may be unread

/** What init, request and queryEntry reject with. */
export class PomeloError extends Error {
  name = "PomeloError";

  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}

// later runs work as a task of its own, after everything that waits for a promise now. Unlike timers, messages to
// oneself are not slowed down in a page that is out of sight.
export const later =
  globalThis.setImmediate ??
  ((work) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      work();
    };
    port2.postMessage(null);
  });

const recall = (storage, key) => {
  try {
    return JSON.parse(storage.getItem(key)) ?? {};
  } catch {
    return {}; // no storage, or nothing of ours in it: the server then sends everything
  }
};

const remember = (storage, key, value) => {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or forbidden: the next handshake is longer, nothing else.
  }
};

// Connection is one WebSocket from its opening to its end, with its timers and its requests: nothing outlives it.
// owner has emit(event, argument), opened(), pushed(route, body), kicked(reason) and ended(event).
export class Connection {
  working = false; // between handshake and end
  extended = false; // the server tells places and times with pushes
  socket;
  ready; // with the user member of the server's handshake
  #opened;
  #failed;
  #owner;
  #params;
  #known; // {dict, dictVersion, protos} of this server, kept from one connection to the next
  #key;
  #routes = new Map(); // of codes
  #ended = false;
  #inbox = []; // packages that wait for their turn
  #next = 0; // in inbox
  #paused = false;
  #requests = new Map(); // by id
  #lastId = 0;
  #heartbeatMs = 0;
  #beatDue = Infinity;
  #deadline = 0; // by then the server must have said something
  #connectTimer;
  #beatTimer;
  #silenceTimer;

  constructor(url, params, owner) {
    this.#owner = owner;
    this.#params = params;
    this.#key = `pomelo ${new URL(url).host}`;
    this.#known = recall(params.storage, this.#key);
    this.ready = new Promise((resolve, reject) => {
      this.#opened = resolve;
      this.#failed = reject;
    });
    this.ready.catch(() => {}); // whoever waits for it is told; nobody needs to wait
    this.socket = new params.WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.#ended || this.#shakeHands();
    this.socket.onmessage = ({ data }) => this.#ended || this.#received(new Uint8Array(data));
    this.socket.onerror = (event) => this.#ended || owner.emit("io-error", event);
    this.socket.onclose = (event) => this.#queue({ event });
    this.#connectTimer = setTimeout(() => this.end(ending("the server takes too long")), CONNECT_TIMEOUT_MS);
  }

  // request calls answered(body), or failed(error) where a promise waits.
  request(route, message, { answered, failed }) {
    this.#send(DATA, this.#encode(++this.#lastId, route, message));
    this.#requests.set(this.#lastId, { route, answered, failed });
  }

  notify(route, message) {
    this.#send(DATA, this.#encode(0, route, message));
  }

  // probe finds out soon whether the connection is still alive.
  probe() {
    if (this.working && this.#heartbeatMs) this.#beat(PROBE_MS);
  }

  end(event) {
    if (this.#ended) return;
    this.#ended = true;
    this.working = false;
    for (const timer of [this.#connectTimer, this.#beatTimer, this.#silenceTimer]) clearTimeout(timer);
    this.socket.close();
    this.#failed(event.error ?? new PomeloError("UNREACHABLE", `no connection to ${this.socket.url}: ${why(event)}`));
    for (const { route, failed } of this.#requests.values()) {
      failed?.(new PomeloError("CLOSED", `${route}: the connection ended before the answer: ${why(event)}`));
    }
    this.#owner.ended(event);
  }

  #send(type, body) {
    this.socket.send(encodePackage(type, body));
  }

  #encode(id, route, message = {}) {
    const protos = this.#known.protos?.client;
    const body = own(protos, route) ? protobuf.encode(protos, route, message) : toJSON(message);
    return encodeMessage(id, route, own(this.#known.dict, route), body);
  }

  #decode(route, body) {
    const protos = this.#known.protos?.server;
    return own(protos, route) ? protobuf.decode(protos, route, body) : fromJSON(body);
  }

  #shakeHands() {
    this.#owner.opened();
    const { dictVersion, protos } = this.#known;
    const { extended } = this.#params;
    const sys = { ...CLIENT, rsa: {}, dictVersion, protoVersion: protos?.version ?? 0, extended: extended ? 1 : undefined };
    this.#send(HANDSHAKE, toJSON({ sys, user: this.#params.user }));
  }

  #received(bytes) {
    if (Date.now() >= this.#beatDue) this.#beat(); // its timer is late: browsers slow them down
    try {
      for (const pkg of decodePackages(bytes)) this.#queue(pkg);
    } catch (error) {
      this.#queue({ event: ending(error.message) });
    }
  }

  #queue(item) {
    this.#inbox.push(item);
    this.#work();
  }

  // work takes what has arrived in its order, the end of the connection last. After the answer to a promise it lets
  // those who wait for it go first: otherwise pushes that came in the same frame would overtake the answer.
  #work() {
    while (!this.#paused && !this.#ended && this.#next < this.#inbox.length) {
      if (!this.#take(this.#inbox[this.#next++])) continue;
      this.#paused = true;
      later(() => {
        this.#paused = false;
        this.#work();
      });
    }
    if (this.#next === this.#inbox.length) {
      this.#inbox.length = 0;
      this.#next = 0;
    }
  }

  // take tells whether a promise waits for what it took.
  #take({ type, body, event }) {
    if (event) return this.end(event);
    this.#deadline = Date.now() + 2 * this.#heartbeatMs;
    try {
      switch (type) {
        case HANDSHAKE:
          return this.#settings(fromJSON(body));
        case HEARTBEAT:
          return this.#heartbeat();
        case DATA:
          return this.#message(decodeMessage(body));
        case KICK:
          return this.#owner.kicked(fromJSON(body).reason);
        default:
          throw new Error(`a server does not send packages of type ${type}`);
      }
    } catch (cause) {
      this.#owner.emit("error", new PomeloError("MALFORMED", `what the server sent: ${cause.message}`, { cause }));
      this.end(ending("the server sent what cannot be read"));
    }
  }

  #settings({ code, sys = {}, user }) {
    if (code !== 200) {
      const error = new PomeloError("REFUSED", `the server refused the handshake with code ${code}`);
      this.#owner.emit("error", error);
      return this.end({ ...ending(error.message), error });
    }
    this.extended = sys.extended === 1;
    this.#heartbeatMs = (sys.heartbeat ?? 0) * 1000;
    // What the server leaves out it need not repeat, provided that it uses such a thing at all.
    const dictionary = sys.dict ? sys : sys.useDict ? this.#known : {};
    const protos = sys.protos ?? (sys.useProto ? this.#known.protos : undefined);
    this.#known = { dict: dictionary.dict, dictVersion: dictionary.dictVersion, protos };
    this.#routes = new Map(Object.entries(this.#known.dict ?? {}).map(([route, routeCode]) => [routeCode, route]));
    if (sys.dict || sys.protos) remember(this.#params.storage, this.#key, this.#known);
    clearTimeout(this.#connectTimer);
    this.#send(HANDSHAKE_ACK);
    this.working = true;
    this.#heartbeat(); // the server's first follows, but a connection that dies before it must be noticed too
    this.#opened(user);
    return true;
  }

  // The server answers each heartbeat at once, and the next is due an interval after the answer. The timer is set when
  // a message arrives, not by another timer: browsers slow down chains of timers in pages out of sight to one a minute.
  #heartbeat() {
    clearTimeout(this.#silenceTimer);
    if (!this.#heartbeatMs || this.#beatDue !== Infinity) return;
    this.#beatDue = Date.now() + this.#heartbeatMs;
    this.#beatTimer = setTimeout(() => this.#beat(), this.#heartbeatMs);
  }

  #beat(patienceMs = 2 * this.#heartbeatMs) {
    clearTimeout(this.#beatTimer);
    this.#beatDue = Infinity;
    this.#send(HEARTBEAT);
    this.#deadline = Date.now() + patienceMs;
    this.#awaitAnswer();
  }

  // Any package puts the deadline off, but only the answer ends the wait: a connection may die behind other packages.
  #awaitAnswer() {
    const due = this.#deadline;
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      if (Date.now() < this.#deadline) return this.#awaitAnswer();
      if (Date.now() > due + OVERSLEPT_MS) return this.#beat(PROBE_MS);
      this.#owner.emit("heartbeat timeout");
      this.end(ending("the server is silent"));
    }, due - Date.now());
  }

  #message({ id, route, code, body }) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    const about = request?.route ?? route ?? this.#routes.get(code);
    let content;
    try {
      if (about === undefined) throw new Error(id ? `nobody made request ${id}` : `route code ${code} is unknown`);
      content = this.#decode(about, body);
    } catch (cause) {
      // One message is lost, and somebody is told; the next one may be fine.
      const error = new PomeloError("MALFORMED", `${about ?? "a message"}: ${cause.message}`, { cause });
      this.#owner.emit("error", error);
      return void request?.failed?.(error);
    }
    if (!id) return void this.#owner.pushed(about, content);
    request.answered(content);
    return Boolean(request.failed);
  }
}

// ending is a close event of our own making, for an end that the socket does not tell, or not soon enough.
export const ending = (reason, code = 1006) => ({ code, reason, wasClean: code === 1000 });
const why = ({ code, reason }) => reason || `code ${code}`;
