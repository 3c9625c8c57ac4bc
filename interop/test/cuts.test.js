'use strict';

// Listeners of many kinds are cut off again and again while somebody speaks. Extended clients are told everything exactly once, in order; unmodified ones
// nothing twice, nothing out of order, and all but what was on its way. Nobody else notices, but for who is in the room.
//
// CUTS is how many cuts there are in all. With more than in the short form, which is that of each run of the tests, there are two listeners of a kind, one of
// them behind a proxy that buffers, and networks are frozen for up to 40 s. SEED has other cuts.

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const { ROUTES, enter } = require('../lib/chat');
const { Cutter, WAYS } = require('../lib/cutter');
const { eventually } = require('../lib/expect');
const { listenersOf } = require('../lib/returning');
const { Server } = require('../lib/server');
const { TcpClient } = require('../lib/tcp');

const SHORT = 20;
const CUTS = Number(process.env.CUTS ?? SHORT);
const SEED = Number(process.env.SEED ?? 1);
const LONG = CUTS > SHORT;
const COPIES = LONG ? 2 : 1;
const RESTARTS = LONG ? 10 : 2;
const FROZEN_MS = LONG ? 40_000 : 1_000; // the longest that a network is frozen between two returns
const PER_SECOND = 200; // messages
const PATIENCE_MS = 120_000; // a slow machine is no fault here
const RETRY_MS = 4_000;
const KEPT = 10_000; // messages: fifty seconds
const MORE = ['-history', String(KEPT), '-history-bytes', '16MiB', '-history-memory', '64MiB', '-grace', '5m'];

// random is a number in [0, 1), the same ones in each run.
let state = SEED;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

// Speaker says numbers, so many a second, from speak to stop.
class Speaker {
  said = 0;
  others = []; // what it was told of who came and went
  faults = [];
  #stopped = false;

  constructor(server, room) {
    Object.assign(this, { server, room });
  }

  async begin() {
    this.client = await TcpClient.connect(this.server.connector);
    this.client.pushes = { put: ({ route, body }) => route !== 'onChat' && this.others.push(`${route} ${body.user}`), end() {} };
    await enter(this.client, 'speaker', this.room);
  }

  // say says the next number, and resolves when that was answered.
  async say() {
    const number = this.said++;
    const answer = await this.client.request(ROUTES.send, { content: number, target: '*' });
    if (Object.keys(answer).length > 0) this.faults.push(`${number} is answered ${JSON.stringify(answer)}`);
  }

  async speak() {
    let answers = [];
    let due = performance.now();
    for (this.#stopped = false; !this.#stopped; await pause(1000 / PER_SECOND)) {
      due = Math.max(due, performance.now() - 100); // after a stall it does not say everything at once
      for (; due <= performance.now(); due += 1000 / PER_SECOND) answers.push(this.say());
      if (answers.length >= 1000) await Promise.all(answers.splice(0)); // so much may be on its way
    }
    await Promise.all(answers);
  }

  stop() {
    this.#stopped = true;
  }
}

async function cutOften(listener, cutter, cuts) {
  let left = FROZEN_MS; // until it is back: who is away for longer misses more than a room keeps
  for (let cut = 0; cut < cuts; cut++) {
    await pause(300 * random());
    let way = WAYS[Math.floor(WAYS.length * random())];
    const waits = cut === cuts - 1 || random() < 0.8; // else it is cut again wherever it is on its way back
    let frozenMs = left * random() ** 2; // a third of it on average
    left = waits ? FROZEN_MS : left - frozenMs;
    const { entries } = listener;
    // It has read what it missed, too: else it falls behind by more than a room keeps.
    const isBack = (now) => assert.ok(now > entries && listener.isWhole, `${listener.title} does not return`);
    // A client that polls has moments when there is nothing to cut that it would miss.
    for (let patience = RETRY_MS; ; patience *= 2, way = 'reset', frozenMs = 0) {
      await cutter.cut(way, { frozenMs, speak: listener.speak });
      if (!waits) break;
      try {
        await eventually(() => listener.entries, isBack, patience);
        break;
      } catch (err) {
        if (patience > PATIENCE_MS) throw err;
      }
    }
  }
}

// play has listeners in a room while between cuts them off, and judges what they were told.
async function play(listeners, server, between) {
  const { room } = listeners[0];
  const speaker = new Speaker(server, room);
  await speaker.begin();
  const cutters = await Promise.all(listeners.map((_, i) => Cutter.to(server.connector, { buffers: i % 2 === 1 })));
  try {
    for (const [i, listener] of listeners.entries()) {
      cutters[i].onCut = () => listener.cut();
      await listener.play(cutters[i].address, { said: () => speaker.said, kept: KEPT });
    }
    await Promise.all(listeners.map(({ entered }) => entered));
    await eventually(() => speaker.others.length, (n) => assert.strictEqual(n, listeners.length));
    speaker.others.length = 0;
    await between(speaker, cutters);
    for (const listener of listeners) {
      const last = speaker.said - 1;
      const isThere = ({ told, paged, isWhole }) => assert.ok(isWhole && (told.at(-1) === last || paged.has(last)), `${listener.title} has ${told.at(-1)} of ${last}`);
      await eventually(() => listener, isThere, PATIENCE_MS);
    }
  } finally {
    for (const listener of listeners) {
      listener.ended = true;
      await listener.end?.();
    }
    for (const cutter of cutters) cutter.close();
  }
  assert.deepStrictEqual(speaker.faults, []);
  for (const listener of listeners) listener.verify(speaker.said);
  return speaker;
}

// explained has an error tell the seed, and the log of the server that there is then.
async function explained(server, run) {
  try {
    return await run();
  } catch (err) {
    err.message = `SEED=${SEED}: ${err.message}`;
    const explained = server().explain(err);
    await server().stop().catch(() => {}); // or this process would wait for it
    throw explained;
  }
}

test(`who is cut off ${CUTS} times returns without a gap, and nobody else notices`, async (t) => {
  const server = await Server.start({ loops: 2, limits: 'off', more: MORE });
  const listeners = listenersOf('cuts', COPIES);
  const each = Math.ceil(CUTS / listeners.length);
  await explained(() => server, async () => {
    const speaker = await play(listeners, server, async (speaker, cutters) => {
      const speaking = speaker.speak();
      await Promise.all(listeners.map((listener, i) => cutOften(listener, cutters[i], each)));
      speaker.stop();
      await speaking;
      await speaker.say(); // whoever is still away is told something when it is back
      assert.deepStrictEqual(speaker.others, [], 'others were told');
    });
    for (const { title, told, paged, forgotten, entries, inFlight, tooMany, extended } of listeners) {
      const how = extended ? `${paged.size} read by pages, ${forgotten} not kept any more` : `${inFlight} lost on their way, ${tooMany} too many for an answer`;
      t.diagnostic(`${title}: ${entries} enters, ${speaker.said} said, ${told.length} told, ${how}`);
    }
  });
  await server.stop();
});

test('who returns after a restart has what was said before it, where messages are on disk', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pomelod-cuts-'));
  const options = { loops: 2, limits: 'off', drain: '200ms', more: [...MORE, '-history-dir', dir] };
  let server = await Server.start(options);
  const listeners = listenersOf('restart', COPIES).filter(({ extended }) => extended);
  await explained(() => server, () =>
    play(listeners, server, async (speaker, cutters) => {
      for (let restart = 0; restart < RESTARTS; restart++) {
        const speaking = speaker.speak();
        await Promise.all(listeners.map((listener, i) => cutOften(listener, cutters[i], 1)));
        speaker.stop();
        await speaking;
        for (const cutter of cutters) { // what the server says to them now is lost
          cutter.target = null;
          cutter.cutNow();
        }
        await speaker.say();
        await speaker.client.leave();
        await server.stop();
        server = await Server.start(options);
        speaker.server = server;
        await speaker.begin();
        for (const cutter of cutters) cutter.target = server.connector;
      }
      await speaker.say();
    }),
  );
  await server.stop();
  fs.rmSync(dir, { recursive: true });
});
