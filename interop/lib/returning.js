'use strict';

// Listeners that return to their room after each cut, by the libraries that their users have, and what they were told there.

const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const WebSocket = require('ws');
const { ROUTES } = require('./chat');
const { JsClient } = require('./jsclient');
const { kindNamed } = require('./sio/kinds');

const HISTORY = 'chat.chatHandler.history';
const PAGE = 200; // messages that follow an enter at most, and those of a page
const AGAIN_MS = 50; // between two tries
const IDLE = 'no.such.route'; // for what is said only to say something

// Listener is what stays the same: a name, a room, a secret, and what was told. What is said are numbers, one after the other; said() is how many there have
// been, of which the room keeps the last kept. play(address, {said, kept}) keeps it in its room until end().
//
// An extended listener says how far it has come when it returns, so it misses nothing that the room still keeps then. One that is not misses what was on its way when it was cut off, and what
// does not fit into the answer to an enter; all else that it misses is a fault.
class Listener {
  told = []; // the numbers that were pushed, in order
  paged = new Set(); // those that were read by pages
  entries = 0; // enters that were answered with a list
  inFlight = 0; // numbers that were missed, as they were on their way
  tooMany = 0; // those that did not fit
  faults = [];
  ended = false;
  lateNotice = false; // the server may take its connection for alive after that has ended: until it is back, all that is said may be on its way
  speak = () => {}; // has its client say something, if it is connected
  #forgotten = new Set(); // what an extended listener was away for too long to be told
  #said;
  #kept;
  #seq; // the place of the last push, for an extended listener
  #chat; // the same of its last onChat
  #hole; // {seq, number} of an onChat behind which something may be missing
  #asked = false; // it has asked to enter since it was cut off last
  #cut = null; // how much had been said when it was cut off last; null: it was not since it has entered
  #gap = null; // {cut, entered}: what it is told next may leave something out
  #lost = []; // {from, to, why} of numbers that an unmodified listener should have been told, if they were said

  constructor(title, name, room, { extended, play }) {
    Object.assign(this, { title, name, room, extended, polls: title.includes('polling') });
    this.secret = randomBytes(12).toString('hex');
    this.entered = new Promise((resolve) => (this.isIn = resolve));
    this.play = (address, { said, kept }) => {
      this.#said = said;
      this.#kept = kept;
      return play(this, address);
    };
  }

  // cut notes that its connection was cut: all that is said from now on it misses only because of that, and is to be told when it is back.
  // Who was cut off again before it has asked to enter had nothing on its way since.
  cut() {
    if (this.#cut === null || this.#asked) this.#cut = this.#said();
    this.#asked = false;
  }

  // disconnected notes that its library has noticed a cut, or has given up by itself.
  disconnected() {
    this.#cut ??= this.#said();
  }

  hear(route, body) {
    if (body.seq) this.#seq = body.seq;
    if (route !== 'onChat') return;
    if (body.seq) this.#chat = body.seq;
    this.#look(body.msg);
    this.told.push(body.msg);
  }

  // look judges what an unmodified listener was not told before a number.
  #look(number) {
    const next = (this.told.at(-1) ?? -1) + 1;
    const gap = this.#gap;
    this.#gap = null;
    if (this.extended || number <= next) return; // what comes twice or too late is for verify
    if (!gap) return void this.#lost.push({ from: next, to: number - 1, why: 'it had not been cut off' });
    const inFlight = Math.max(0, Math.min(gap.cut, number) - next);
    const others = number - next - inFlight;
    this.inFlight += inFlight;
    this.tooMany += others;
    if (others > 0 && gap.entered - number < PAGE - 1) {
      this.#lost.push({ from: next + inFlight, to: number - 1, why: `it was cut off at ${gap.cut}, and back at ${gap.entered}` });
    }
  }

  // ask is the body of an enter that is sent now.
  ask() {
    this.#asked = true;
    const more = this.extended ? { seq: true, since: this.#seq } : {};
    return { username: this.name, rid: this.room, secret: this.secret, ...more };
  }

  // answered takes the answer to an enter before anything that follows it, and tells whether it was one. request asks by the same connection, and rejects when
  // that has ended.
  answered({ users, seq, complete }, request) {
    if (!users) return false;
    this.entries++;
    const cut = this.lateNotice ? this.#said() : this.#cut ?? 0;
    this.#gap = { cut: Math.max(cut, this.#gap?.cut ?? 0), entered: this.#said() };
    this.#cut = null;
    this.isIn();
    if (complete === false) this.#hole ??= { seq: this.#chat, number: this.told.at(-1) ?? -1 };
    this.#seq ??= seq; // what follows the answer says how far it has come
    if (this.#hole) this.#fill(request).catch(() => {}); // with the next return
    return true;
  }

  // fill reads what is missing, page by page, backwards from now.
  async #fill(request) {
    const hole = this.#hole;
    let oldest = this.#said(); // of those that were read; while they were, older ones may have gone
    for (let before; ;) {
      const { messages, more } = await request(HISTORY, { before, limit: PAGE });
      if (!messages) {
        await pause(AGAIN_MS); // the server is busy
        continue;
      }
      for (const { msg } of messages) this.paged.add(msg);
      if (messages.some(({ seq }) => seq === hole.seq)) break;
      oldest = messages[0]?.msg ?? oldest;
      if (!more) {
        this.#forget(hole.number + 1, oldest);
        break;
      }
      before = messages[0].seq;
    }
    if (this.#hole === hole) this.#hole = undefined;
  }

  // forget excuses that it is not told the numbers from one on up to the oldest that the room has, if that has as many as it keeps.
  #forget(from, oldest) {
    if (this.#said() - oldest < this.#kept) return;
    for (let n = from; n < oldest; n++) this.#forgotten.add(n);
  }

  get forgotten() {
    return this.#forgotten.size;
  }

  get isWhole() {
    return !this.#hole;
  }

  // verify holds what it was told against the numbers below said, of which those unsaid may be missing.
  verify(said, unsaid) {
    assert.deepStrictEqual(this.faults, [], this.title);
    for (const { from, to, why } of this.#lost) {
      const missing = Array.from({ length: to + 1 - from }, (_, i) => from + i).filter((n) => !unsaid.has(n));
      assert.deepStrictEqual(missing, [], `${this.title} was not told ${missing.length} numbers: ${why}`);
    }
    for (const [i, n] of this.told.entries()) {
      if (i > 0) assert.ok(n > this.told[i - 1], `${this.title} was told ${this.told.slice(Math.max(0, i - 3), i + 2)}`);
    }
    if (!this.extended) return;
    const all = new Set([...this.told, ...this.paged, ...this.#forgotten, ...unsaid]);
    const missing = Array.from({ length: said }, (_, n) => n).filter((n) => !all.has(n));
    assert.deepStrictEqual(missing, [], `${this.title} was never told ${missing.length} of ${said}`);
  }
}

// socket.io: the library connects again by itself, and the page enters then. What is sent meanwhile the library would keep for later, so nothing is.
const socketIO = (kind) => async (listener, address) => {
  const client = await kindNamed(kind).connect(address, { reconnects: true });
  client.pushes = { put: ({ route, body }) => listener.hear(route, body), end() {} };
  let connection = {};
  const lost = new Set(); // what tells those who wait for an answer
  const request = (of, route, body, take = (answer) => answer) =>
    new Promise((resolve, reject) => {
      if (of !== connection || !connection) throw new Error('disconnected');
      lost.add(reject);
      client.sendRequest(route, body, (answer) => lost.delete(reject) && resolve(take(answer)));
    });
  const enter = async (of) => {
    const by = (route, body) => request(of, route, body);
    while (!(await request(of, ROUTES.enter, listener.ask(), (answer) => listener.answered(answer, by)))) await pause(AGAIN_MS);
  };
  const begin = () => {
    connection = {};
    enter(connection).catch(() => {}); // cut again: there will be another connect
  };
  client.socket.on('disconnect', () => {
    connection = null;
    listener.disconnected();
    for (const reject of lost) reject(new Error('disconnected'));
    lost.clear();
  });
  client.socket.on('connect', begin);
  begin();
  listener.speak = () => connection && client.notify(IDLE, {});
  listener.end = async () => {
    listener.faults.push(...client.faults);
    await client.leave();
  };
};

// pomelo.js returns and enters by itself.
const byModule = async (listener, address) => {
  const { Pomelo } = await import(path.join(__dirname, '..', '..', 'web', 'pomelo.js'));
  const pomelo = new Pomelo();
  const request = (route, body) => pomelo.request(route, body);
  pomelo.on('onChat', (body) => listener.hear('onChat', body));
  pomelo.on('disconnect', () => listener.disconnected());
  pomelo.on('returning', () => setTimeout(() => pomelo.returnNow(), AGAIN_MS));
  pomelo.on('returned', (answer) => listener.answered(answer, request));
  pomelo.on('error', (err) => listener.faults.push(String(err)));
  await pomelo.init({ ...address, WebSocket, extended: true, user: { secret: listener.secret } });
  listener.answered(await pomelo.enter({ username: listener.name, rid: listener.room }), request);
  listener.speak = () => pomelo.notify(IDLE, {});
  listener.end = async () => pomelo.disconnect();
};

// The client of old does not return by itself; its page connects anew.
const original = async (listener, address) => {
  let client = null;
  const enter = () =>
    new Promise((resolve, reject) => {
      client.closed.then(() => reject(new Error('disconnected')));
      const { username, rid } = listener.ask();
      client.sendRequest(ROUTES.enter, { username, rid }, (answer) => resolve(listener.answered(answer)));
    });
  const connect = async () => {
    while (!listener.ended) {
      try {
        client = await JsClient.connect(address, { user: { secret: listener.secret } });
        client.pushes = { put: ({ route, body }) => listener.hear(route, body), end() {} };
        while (!(await enter())) await pause(AGAIN_MS);
        await client.closed;
      } catch {
        // cut on the way
      }
      listener.disconnected();
      client?.pomelo.disconnect();
      client = null;
      await pause(AGAIN_MS);
    }
  };
  connect();
  listener.speak = () => client?.notify(IDLE, {});
  listener.end = async () => client?.pomelo.disconnect();
};

const extended = true;
const KINDS = {
  'pomelo.js': { extended, play: byModule },
  ...Object.fromEntries(
    ['1.7.4', '2.5', '4.7'].flatMap((version) =>
      ['websocket', 'polling'].map((transport) => [`${version} ${transport}`, { extended, play: socketIO(`${version} ${transport}`) }]),
    ),
  ),
  'pomelo-jsclient-websocket, unmodified': { extended: false, play: original },
  '0.9 websocket, unmodified': { extended: false, play: socketIO('0.9 websocket') },
  '2.5 polling, unmodified': { extended: false, play: socketIO('2.5 polling') },
  '4.7 websocket, unmodified': { extended: false, play: socketIO('4.7 websocket') },
};

// listenersOf is so many of each kind, in a room.
const listenersOf = (room, copies) =>
  Array.from({ length: copies }, () => Object.entries(KINDS)).flat().map(([title, kind], i) => new Listener(title, `listener ${i}`, room, kind));

module.exports = { listenersOf };
