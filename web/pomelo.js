/**
 * pomelo.js: a client of Pomelo's hybrid connector (WebSocket) for browsers and Node.js 18 or later.
 *
 *     import { pomelo } from "./pomelo.js";
 *     await pomelo.init({ host: "127.0.0.1", port: 3050 });
 *     pomelo.on("onChat", ({ from, msg }) => console.log(from, msg));
 *     const { users } = await pomelo.request("connector.entryHandler.enter", { username: "alice", rid: "lobby" });
 *
 * Methods and events are those of pomelo-jsclient-websocket; new are promises, the gate by HTTP and the automatic
 * return after a cut. pomelo.d.ts has the types and says what each member does, docs/WEB.md how to use them.
 * MIT licence, like pomelod.
 */

import {
  DATA, HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, KICK,
  decodeMessage, decodePackages, encodeMessage, encodePackage, fromJSON, own, protobuf, toJSON,
} from "./pomelo-codec.js";

export { protobuf };

// The type decides how the server writes text: every type but js-websocket gets standard UTF-8.
const CLIENT = { type: "pomelo-module", version: "1.0.0" };

/** The reason of the kick that tells: a new session with the same secret took this one's place. */
export const REPLACED = "replaced by a new session of yours";
// The one kick that asks the client to come back: the server could not keep its promise that every message arrives.
const INVITATION = "messages were lost; please enter again";

const ENTER = "connector.entryHandler.enter";
const MEMBERS = "chat.chatHandler.members";
const CONNECT_TIMEOUT_MS = 10_000; // of the gate; then again of socket and handshake
const BACKOFF = { min: 1_000, max: 30_000 };
const STABLE_MS = 10_000; // a connection that did not last as long does not start the back-off anew
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

/** A secret for the handshake's user, by which the server knows that a new session and an old one have one owner. */
export function newSecret() {
  if (!globalThis.crypto) {
    throw new PomeloError("UNSUPPORTED", "there is no global crypto to make a secret with: use Node.js 20 or later, or choose a random string of 16 to 128 bytes");
  }
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

/** Asks the gate by HTTP which connector takes uid. */
export async function queryEntry(gate, uid, { signal } = {}) {
  const url = new URL("gate/queryEntry", gate.endsWith("/") ? gate : `${gate}/`);
  url.searchParams.set("uid", uid);
  const patience = new AbortController();
  const giveUp = () => patience.abort();
  const timer = setTimeout(giveUp, CONNECT_TIMEOUT_MS);
  signal?.addEventListener("abort", giveUp);
  try {
    const response = await fetch(url, { signal: patience.signal, cache: "no-store" });
    const { code, host, port } = await response.json();
    if (code !== 200) throw new PomeloError("REFUSED", `the gate answers with code ${code}`);
    return { host: host || url.hostname, port };
  } catch (cause) {
    if (cause instanceof PomeloError) throw cause;
    throw new PomeloError("UNREACHABLE", `the gate does not answer: ${url.origin}`, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/** A client. One of them has one connection at a time. */
export class Pomelo {
  #listeners = new Map(); // event → functions
  #life = null; // of the connection and of those that replace it, from init to disconnect
  #connection = null;
  #place = null; // what enter was given, and seq: how far the room's stream was told

  get connected() {
    return this.#connection?.working ?? false;
  }

  init(params, callback) {
    this.disconnect();
    const lacking = lacks(params);
    if (lacking && callback) throw lacking; // it hears of success only, and nothing else would tell
    if (lacking) return Promise.reject(lacking);
    const life = new Life(params, callback);
    this.#life = life;
    const wake = () => {
      if (globalThis.document?.hidden) return;
      life.wake();
      this.#connection?.probe();
    };
    globalThis.addEventListener?.("online", wake, { signal: life.signal });
    globalThis.document?.addEventListener("visibilitychange", wake, { signal: life.signal });

    const first = this.#connect(life);
    if (!callback) return first;
    first.catch(() => {}); // a callback hears of success only; events tell the rest
  }

  request(route, message, callback) {
    if (typeof message === "function") return this.request(route, undefined, message);
    if (callback) {
      if (this.connected) this.#connection.request(route, message, { answered: (body) => attempt(callback, body) });
      return;
    }
    return new Promise((answered, failed) => {
      if (!this.connected) throw new PomeloError("NOT_CONNECTED", `${route}: there is no connection`);
      this.#connection.request(route, message, { answered, failed });
    });
  }

  notify(route, message) {
    if (this.connected) this.#connection.notify(route, message);
    return this.connected;
  }

  get extended() {
    return this.connected && this.#connection.extended;
  }

  async enter({ history, ...place }) {
    const answer = await this.request(ENTER, { ...place, history });
    if (answer.users) this.#place = { ...place, seq: answer.seq };
    return answer;
  }

  members({ rid, after, limit } = {}) {
    return this.request(MEMBERS, { rid, after, limit });
  }

  async reenter() {
    const place = this.#place;
    if (!place) throw new PomeloError("NOT_CONNECTED", "there is no room to enter again: call enter first");
    const { seq, ...message } = place;
    const answer = await this.request(ENTER, { ...message, since: seq });
    // What was missed follows the answer. Until it has come, the client has seen what it had before.
    if (answer.users && !(seq && answer.complete)) place.seq = answer.seq;
    return answer;
  }

  disconnect() {
    this.#life?.end();
    this.#connection?.end(ending("disconnect was called", 1000));
  }

  returnNow() {
    this.#life?.wake();
  }

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
    return this;
  }

  once(event, listener) {
    const only = (argument) => {
      this.off(event, only);
      listener(argument);
    };
    only.listener = listener;
    return this.on(event, only);
  }

  off(event, listener) {
    const left = (this.#listeners.get(event) ?? []).filter((l) => l !== listener && l.listener !== listener);
    if (listener && left.length > 0) this.#listeners.set(event, left);
    else this.#listeners.delete(event);
    return this;
  }

  removeListener(event, listener) {
    return this.off(event, listener);
  }

  emit(event, argument) {
    const listeners = this.#listeners.get(event) ?? [];
    for (const listener of listeners) attempt(listener, argument);
    return listeners.length > 0;
  }

  async #connect(life) {
    const { params, signal } = life;
    const { host, port } = params.gate ? await queryEntry(params.gate, params.uid, { signal }) : params;
    if (signal.aborted) throw new PomeloError("CLOSED", "disconnect was called");
    const connection = new Connection(address(host, port, params.secure), params, {
      emit: (event, argument) => this.emit(event, argument),
      opened: () => life.returning && this.emit("reconnect"),
      told: (body) => this.#told(body),
      kicked: (reason) => this.#kicked(life, connection, reason),
      ended: (event) => this.#ended(life, event),
    });
    this.#connection = connection;
    const user = await connection.ready;
    life.since = Date.now();
    params.handshakeCallback?.(user);
    if (life.callback) attempt(life.callback, connection.socket);
    return user;
  }

  // told notes how far the room's stream has come, before listeners hear of it.
  #told(body) {
    if (this.#place && body?.seq && body.rid === this.#place.rid) this.#place.seq = body.seq;
  }

  #kicked(life, connection, reason) {
    const { returnAfterKick = (why) => why === INVITATION } = life.params;
    if (!returnAfterKick(reason)) life.end();
    this.emit("onKick", { reason });
    connection.end(ending(reason, 1000)); // the server closes too, but need not be waited for
  }

  #ended(life, event) {
    this.emit("close", event);
    this.emit("disconnect", event);
    const { onReturn, reconnect = Boolean(onReturn || this.#place) } = life.params;
    if (reconnect && life.since && !life.returning && !life.signal.aborted) this.#comeBack(life);
  }

  async #comeBack(life) {
    const { onReturn, maxReconnectAttempts = Infinity } = life.params;
    life.returning = true;
    if (Date.now() - life.since > STABLE_MS) life.attempts = 0;
    while (life.attempts < maxReconnectAttempts && !life.signal.aborted) {
      const delay = backoff(life.attempts++);
      this.emit("returning", { attempt: life.attempts, delay });
      await life.pause(delay);
      if (life.signal.aborted) return;
      try {
        await this.#connect(life);
        const answer = await this.#return(onReturn);
        if (!this.connected) continue; // lost again, and the hook did not notice
        life.returning = false;
        this.emit("returned", answer);
        return;
      } catch (error) {
        if (life.signal.aborted) return;
        this.#connection.end(ending(`the return failed: ${error.message}`, 1000));
      }
    }
    if (life.signal.aborted) return;
    life.end();
    this.emit("error", new PomeloError("UNREACHABLE", `no return in ${maxReconnectAttempts} attempts`));
  }

  // return enters the room again, or has the program do so.
  async #return(onReturn) {
    if (onReturn) return void (await onReturn(this));
    if (!this.#place) return;
    const answer = await this.reenter();
    if (!answer.users) throw new PomeloError("REFUSED", `the room cannot be entered again: ${answer.reason ?? `code ${answer.code}`}`);
    return answer;
  }
}

/** The client of programs that need only one, like Pomelo's own. */
export const pomelo = new Pomelo();
export default pomelo;

// Life is what lasts from init to disconnect, while connections come and go.
class Life {
  attempts = 0; // to return, since a connection was stable
  since = 0; // when the latest connection began to work
  returning = false;
  wake = () => {}; // ends a pause
  #controller = new AbortController();

  constructor(params, callback) {
    // In Node.js 22 and later touching localStorage warns; only pages have a use for it.
    const { storage = globalThis.window && pageStorage(), WebSocket = globalThis.WebSocket } = params;
    this.params = { ...params, storage, WebSocket };
    this.callback = callback;
  }

  get signal() {
    return this.#controller.signal;
  }

  end() {
    this.#controller.abort();
    this.wake();
  }

  async pause(ms) {
    let timer;
    await new Promise((over) => {
      timer = setTimeout(over, ms);
      this.wake = over;
    });
    clearTimeout(timer);
    this.wake = () => {};
  }
}

// lacks is the error that tells what a program must do where the runtime has no WebSocket.
function lacks({ WebSocket = globalThis.WebSocket }) {
  if (typeof WebSocket === "function") return null;
  return new PomeloError(
    "UNSUPPORTED",
    "there is no WebSocket here: use Node.js 22 or later, or install the package ws and give init its class: " +
      'import WebSocket from "ws"; init({ ..., WebSocket })',
  );
}

function pageStorage() {
  try {
    return window.localStorage;
  } catch {
    return undefined; // the user forbids it
  }
}

// backoff doubles, and spreads over its upper half those who lost the same server at the same moment.
function backoff(attempts) {
  const ceiling = Math.min(BACKOFF.max, BACKOFF.min * 2 ** attempts);
  return Math.round(ceiling * (0.5 + Math.random() / 2));
}

function address(host, port, secure = globalThis.location?.protocol === "https:") {
  const name = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host; // IPv6
  return `${secure ? "wss" : "ws"}://${name}${port ? `:${port}` : ""}/`;
}

// attempt keeps what a listener throws away from the connection: it surfaces as an error that nobody caught.
function attempt(listener, argument) {
  try {
    listener(argument);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

// ---- One connection -------------------------------------------------------------------------------------------------

// later runs work as a task of its own, after everything that waits for a promise now. Unlike timers, messages to
// oneself are not slowed down in a page that is out of sight.
const later =
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
// owner has emit(event, argument), opened(), told(body of a push), kicked(reason) and ended(event).
class Connection {
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
    if (!id) {
      this.#owner.told(content);
      return void this.#owner.emit(about, content);
    }
    request.answered(content);
    return Boolean(request.failed);
  }
}

// ending is a close event of our own making, for an end that the socket does not tell, or not soon enough.
const ending = (reason, code = 1006) => ({ code, reason, wasClean: code === 1000 });
const why = ({ code, reason }) => reason || `code ${code}`;
