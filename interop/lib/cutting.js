'use strict';

// Listeners in a room in which somebody speaks are cut off, and what they were told is judged. SEED has other cuts.

const assert = require('node:assert');
const { setTimeout: pause } = require('node:timers/promises');
const { Cutter, WAYS } = require('./cutter');
const { eventually } = require('./expect');
const { Speaker } = require('./speaker');

const SEED = Number(process.env.SEED ?? 1);
const PATIENCE_MS = 120_000; // a slow machine is no fault here
const RETRY_MS = 4_000;
const KEPT = 10_000; // messages: fifty seconds
const MORE = ['-history', String(KEPT), '-history-bytes', '16MiB', '-history-memory', '64MiB', '-grace', '5m'];
const FORGOTTEN_MOST = 0.01; // of all that was to be told, which nobody keeps any more as somebody was away for too long

// random is a number in [0, 1), the same ones in each run.
let state = SEED;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

// isBack is a check that a listener has entered again since it had so many entries.
const isBack = (listener, entries) => () => assert.ok(listener.entries > entries, `${listener.title} does not return, after ${entries} enters`);

// isWhole is a check that it has read what it missed.
const isWhole = (listener) => () => assert.ok(listener.isWhole, `${listener.title} has not read what it missed: it was told ${listener.told.at(-1)}, and read ${listener.paged.size}`);

// cutOften cuts a listener off again and again. Its network is frozen for as much as frozenMs before a cut: who is away for longer misses more than a room
// keeps.
async function cutOften(listener, cutter, { cuts, frozenMs: longest }) {
  let left = longest; // until it is back
  for (let cut = 0; cut < cuts; cut++) {
    await pause(300 * random());
    let way = WAYS[Math.floor(WAYS.length * random())];
    const waits = cut === cuts - 1 || random() < 0.8; // else it is cut again wherever it is on its way back
    let frozenMs = left * random() ** 2; // a third of it on average
    left = waits ? longest : left - frozenMs;
    const { entries } = listener;
    // A client that polls has moments when there is nothing to cut that it would miss.
    for (let patience = RETRY_MS; ; patience *= 2, way = 'reset', frozenMs = 0) {
      await cutter.cut(way, { frozenMs, speak: listener.speak });
      if (!waits) break;
      try {
        await eventually(() => listener, isBack(listener, entries), patience);
        break;
      } catch (err) {
        if (patience > PATIENCE_MS) throw err;
      }
    }
    // Cut in the middle of that it would begin anew, and fall behind by more than a room keeps.
    if (waits) await eventually(() => listener, isWhole(listener), PATIENCE_MS);
  }
}

// play has listeners in a room of a server, {connector}, while between cuts them off by their cutters, and judges what they were told. refusals are those that the
// speaker may get. It resolves with what happened in all.
async function play(listeners, server, between, refusals) {
  const { room } = listeners[0];
  const speaker = new Speaker(server, room, refusals);
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
    await Promise.race([between(speaker, cutters), speaker.failed]);
    await speaker.finish();
    const last = speaker.said - 1;
    for (const listener of listeners) {
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
  for (const listener of listeners) listener.verify(speaker.said, speaker.unsaid);
  return judge(listeners, cutters, speaker);
}

// judge adds up what happened, and judges what is no listener's own: whether too much was not kept any more when somebody came back for it.
function judge(listeners, cutters, speaker) {
  const sum = (list, what) => list.map(what).reduce((a, b) => a + b, 0);
  const extended = listeners.filter((listener) => listener.extended);
  const others = listeners.filter((listener) => !listener.extended);
  const due = extended.length * (speaker.said - speaker.unsaid.size);
  const forgotten = sum(extended, (listener) => listener.forgotten);
  assert.ok(forgotten <= FORGOTTEN_MOST * due, `${forgotten} of ${due} messages were kept by nobody any more`);
  const cuts = sum(cutters, (cutter) => cutter.cuts);
  const lines = listeners.map((listener) => {
    const { title, told, paged, entries, inFlight, tooMany } = listener;
    const how = listener.extended ? `${paged.size} read by pages, ${listener.forgotten} kept by nobody` : `${inFlight} lost on their way, ${tooMany} too many for an answer`;
    return `${title}: ${entries} enters, ${told.length} told, ${how}`;
  });
  lines.push(
    `In all: ${cuts} cuts and ${sum(listeners, ({ entries }) => entries - 1)} returns of ${listeners.length} clients; ${speaker.said} said, ${speaker.unsaid.size} of them refused. ` +
      `Extended clients: ${due} due, 0 missed, 0 told twice, ${forgotten} kept by nobody any more (at most ${Math.floor(FORGOTTEN_MOST * due)} may be). ` +
      `Unmodified ones: 0 told twice, ${sum(others, ({ inFlight }) => inFlight)} lost on their way, ${sum(others, ({ tooMany }) => tooMany)} too many for an answer`,
  );
  return { others: speaker.others, cuts, lines };
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

module.exports = { MORE, PATIENCE_MS, cutOften, explained, isBack, play };
