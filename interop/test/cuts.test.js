'use strict';

// Listeners of many kinds are cut off again and again while somebody speaks. Extended clients are told everything exactly once, in order; unmodified ones
// nothing twice, nothing out of order, and all but what was on its way. Nobody else notices, but for who is in the room.
//
// CUTS is how many cuts there are in all. With more than in the short form, which is that of each run of the tests, there are several listeners of a kind, half of
// them behind a proxy that buffers, and networks are frozen for up to 40 s.

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { MORE, cutOften, explained, play } = require('../lib/cutting');
const { listenersOf } = require('../lib/returning');
const { Server } = require('../lib/server');

const SHORT = 20;
const CUTS = Number(process.env.CUTS ?? SHORT);
const LONG = CUTS > SHORT;
const COPIES = LONG ? 3 : 1;
const RESTARTS = LONG ? 10 : 2;
const FROZEN_MS = LONG ? 40_000 : 1_000; // the longest that a network is frozen between two returns

test(`who is cut off ${CUTS} times returns without a gap, and nobody else notices`, async (t) => {
  const server = await Server.start({ loops: 2, limits: 'off', more: MORE });
  const listeners = listenersOf('cuts', COPIES);
  const each = Math.ceil(CUTS / listeners.length);
  await explained(() => server, async () => {
    const { others, cuts, lines } = await play(listeners, server, async (speaker, cutters) => {
      const speaking = speaker.speak();
      await Promise.all(listeners.map((listener, i) => cutOften(listener, cutters[i], { cuts: each, frozenMs: FROZEN_MS })));
      speaker.stop();
      await speaking;
    });
    assert.deepStrictEqual(others, [], 'others were told');
    assert.ok(cuts >= CUTS, `there were ${cuts} cuts`);
    for (const line of lines) t.diagnostic(line);
  });
  await server.stop();
});

test('who returns after a restart has what was said before it, where messages are on disk', async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pomelod-cuts-'));
  const options = { loops: 2, limits: 'off', drain: '200ms', more: [...MORE, '-history-dir', dir] };
  let server = await Server.start(options);
  const listeners = listenersOf('restart', COPIES).filter(({ extended }) => extended);
  await explained(() => server, async () => {
    const { lines } = await play(listeners, server, async (speaker, cutters) => {
      for (let restart = 0; restart < RESTARTS; restart++) {
        const speaking = speaker.speak();
        await Promise.all(listeners.map((listener, i) => cutOften(listener, cutters[i], { cuts: 1, frozenMs: FROZEN_MS })));
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
    });
    for (const line of lines) t.diagnostic(line);
  });
  await server.stop();
  fs.rmSync(dir, { recursive: true });
});
