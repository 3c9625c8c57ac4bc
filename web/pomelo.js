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

import { protobuf } from "./pomelo-codec.js";
import { CONNECT_TIMEOUT_MS, Connection, PomeloError, ending, later } from "./pomelo-connection.js";

export { PomeloError, protobuf };

/** The reason of the kick that tells: a new session with the same secret took this one's place. */
export const REPLACED = "replaced by a new session of yours";
// Kicks that ask the client to come back end so: the server could not keep its promise that every message arrives, or does not know what became of a room.
const INVITATION = "; please enter again";

const ENTER = "connector.entryHandler.enter";
const HISTORY = "chat.chatHandler.history";
const MEMBERS = "chat.chatHandler.members";
const MISSED_PAGES = 10; // are read after a return: what comes meanwhile waits
const PAGE = 200; // messages, as many as there are on one at most
const BACKOFF = { min: 1_000, max: 30_000 };
const STABLE_MS = 10_000; // a connection that did not last as long does not start the back-off anew

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
  #held = null; // pushes that wait for what was missed before them

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

  history({ rid, before, limit } = {}) {
    return this.request(HISTORY, { rid, before, limit });
  }

  async reenter() {
    const place = this.#place;
    if (!place) throw new PomeloError("NOT_CONNECTED", "there is no room to enter again: call enter first");
    const { seq, ...message } = place;
    const answer = await this.request(ENTER, { ...message, since: seq });
    // What was missed follows the answer. Until it has come, the client has seen what it had before.
    if (answer.users && !(seq && answer.seq)) place.seq = answer.seq;
    else if (answer.users && !answer.complete) await this.#readMissed(place, answer);
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
      pushed: (route, body) => this.#pushed(route, body),
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

  // pushed tells a push, or has it wait.
  #pushed(route, body) {
    if (this.#held) return void this.#held.push([route, body]);
    this.#told(body);
    this.emit(route, body);
  }

  // readMissed reads by pages what does not follow the answer, as that has the newest only. All of it is told in order when those who wait for the answer
  // have gone first. If the connection ends before, nothing is, and the next return asks for the same.
  async #readMissed(place, answer) {
    const held = (this.#held = []);
    const { signal } = this.#life;
    let missed = [];
    try {
      for (let pages = 0; pages < MISSED_PAGES; pages++) {
        const { messages, more } = await this.history({ rid: place.rid, before: missed[0]?.seq ?? answer.seq, limit: PAGE });
        if (!messages) break; // too many pages for now
        const behind = messages.filter(({ seq }) => !isUpTo(seq, place.seq));
        missed = [...behind, ...missed];
        const reached = behind.length < messages.length;
        answer.complete = reached && answer.rest === true; // else something is lost in between
        if (reached || !more) break;
      }
    } catch (error) {
      this.#held = null;
      throw error;
    }
    place.seq = answer.seq; // all before it is here
    for (const [, body] of held) this.#told(body);
    const following = new Set(held.map(([, body]) => body?.seq));
    const before = missed.filter(({ seq }) => !following.has(seq)).map((message) => ["onChat", { ...message, rid: place.rid }]);
    later(() => {
      this.#held = null;
      if (signal.aborted) return;
      for (const push of [...before, ...held]) this.#pushed(...push);
    });
  }

  #kicked(life, connection, reason) {
    const { returnAfterKick = (why) => String(why).endsWith(INVITATION) } = life.params;
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

// isUpTo tells whether a place in a room's stream is another one of the same numbering, or before it.
function isUpTo(seq, other) {
  const [incarnation, number] = seq.split(".");
  const [same, last] = other.split(".");
  return incarnation === same && Number(number) <= Number(last);
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
