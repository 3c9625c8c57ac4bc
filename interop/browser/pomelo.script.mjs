// A server that is a script: a WebSocket class whose other end is the test, and the packages it delivers. And a clock that the test turns.

const utf8 = (string) => new TextEncoder().encode(string);
export const text = (bytes) => new TextDecoder().decode(bytes);

export function pack(type, body) {
  return Uint8Array.from([type, body.length >> 16, body.length >> 8, body.length, ...body]);
}

export const data = (bytes) => pack(4, bytes);
export const push = (route, body) => data([3 << 1, route.length, ...utf8(route), ...utf8(JSON.stringify(body))]);
export const answer = (id, body) => data([2 << 1, ...varint(id), ...utf8(JSON.stringify(body))]);

const varint = (n) => (n < 128 ? [n] : [(n % 128) | 128, ...varint(n >> 7)]);

// request takes apart what a client without dictionary and definitions has sent: {id, route, body}.
export function request(bytes) {
  let at = 5; // behind head and flag
  let id = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    id |= (byte & 127) << shift;
    if (byte < 128) break;
  }
  const end = at + 1 + bytes[at];
  return { id, route: text(bytes.subarray(at + 1, end)), body: JSON.parse(text(bytes.subarray(end))) };
}

export class Script {
  url = "";
  sent = [];
  #socket;
  #refuses = false;
  #told = () => {};

  // handshake is what the server answers to the client's.
  constructor(handshake = { code: 200, sys: {} }) {
    const script = this;
    this.WebSocket = class {
      constructor(url) {
        script.url = this.url = url;
        script.#socket = this;
        queueMicrotask(() => (script.#refuses ? script.close() : this.onopen()));
      }
      send(bytes) {
        script.sent.push(bytes);
        if (bytes[0] === 1) script.deliver(pack(1, utf8(JSON.stringify(handshake))));
        script.#told();
      }
      close() {
        queueMicrotask(() => this.onclose({ code: 1000, reason: "", wasClean: true }));
      }
    };
  }

  // deliver sends the packages in one frame.
  deliver(...packages) {
    const frame = Uint8Array.from(packages.flatMap((pkg) => [...pkg]));
    this.#socket.onmessage({ data: frame.buffer });
  }

  // waitFor waits until what the client has sent is enough.
  waitFor(enough) {
    return new Promise((resolve) => {
      this.#told = () => enough() && resolve();
      this.#told();
    });
  }

  // refuse ends the connection, and takes no other.
  refuse() {
    this.#refuses = true;
    this.close();
  }

  close() {
    this.#socket.onclose({ code: 1006, reason: "", wasClean: false });
  }
}

// turn is over when everything has run that waits for promises, messages and timers of this moment, but not of Clock's.
const turn = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

// Clock is the time of a case that must not depend on how fast the machine is: timers run, and Date.now goes on, only as the case says.
// There may be no real connection meanwhile.
export class Clock {
  #now = Date.now();
  #timers = new Map(); // by id: {at, act}
  #lastId = 0;

  // stopped runs a case with a clock that stands still.
  static async stopped(run) {
    const clock = new Clock();
    const { setTimeout, clearTimeout } = globalThis;
    const { now } = Date;
    globalThis.setTimeout = (act, ms = 0) => clock.#set(act, ms);
    globalThis.clearTimeout = (id) => clock.#timers.delete(id) || clearTimeout(id);
    Date.now = () => clock.#now;
    try {
      await run(clock);
    } finally {
      Object.assign(globalThis, { setTimeout, clearTimeout });
      Date.now = now;
    }
  }

  // pass lets so much time go by.
  async pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (!next) break;
      const [id, { at, act }] = next;
      this.#timers.delete(id);
      this.#now = at;
      act();
      await turn();
    }
    this.#now = end;
    await turn();
  }

  #set(act, ms) {
    this.#timers.set(++this.#lastId, { at: this.#now + ms, act });
    return this.#lastId;
  }
}
