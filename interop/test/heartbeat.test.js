'use strict';

const assert = require('node:assert');
const { setTimeout: pause } = require('node:timers/promises');
const { Package } = require('pomelo-protocol');
const { ROUTES, enter, expectNothingMore, expectPushes, onChat, onLeave, send } = require('../lib/chat');
const { within } = require('../lib/expect');
const { suite } = require('../lib/suite');
const { packages } = require('../lib/wire');

// A busy machine must not be late with an answer by itself: one interval is how long a client, or this process, may stand still.
const INTERVAL_MS = 3000;
const TIMEOUT_MS = 2 * INTERVAL_MS;
// How much earlier or later than the timeout a connection may be dropped. The server gives a second more, as its seconds are whole; of what it counts, one
// second may have begun before, and three may be counted at once when it is late. The tests of router hold the time exactly.
const EARLY_MS = 3000;
const LATE_MS = 20_000;
const SAYS_MS = 500; // between what a client says that sends no heartbeats

// expectDroppedInTime: since is a moment before the last thing was sent that the server has had from it.
async function expectDroppedInTime(closed, since) {
  await within(closed, 'the silent client is still connected', TIMEOUT_MS + LATE_MS);
  const silentMs = Date.now() - since;
  assert.ok(silentMs >= TIMEOUT_MS - EARLY_MS, `dropped after only ${silentMs} ms`);
}

suite('heartbeats', ({ scenario, onWires }) => {
  scenario('keep a silent client connected', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    for (const person of people) {
      for (let n = 0; n < 5; n++) await person.heartbeats.next(`heartbeat ${n}`);
    }
    await expectNothingMore(...people);
  });

  scenario('that stop end the connection, and the others hear of it', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    alice.freeze();
    const since = Date.now();
    await expectNothingMore(alice);
    await expectDroppedInTime(alice.closed, since);
    await expectPushes(bob, onLeave('alice'));
    await expectNothingMore(bob);
    const again = await cast.connect();
    assert.deepStrictEqual((await enter(again, 'alice', `${cast.room}-again`)).users, ['alice']);
  });

  scenario('are not needed while the client sends data', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    alice.freeze();
    let since;
    for (const until = Date.now() + 2 * TIMEOUT_MS; Date.now() < until; await pause(SAYS_MS)) {
      since = Date.now();
      assert.deepStrictEqual(await send(alice, `${since}`), {});
      await expectPushes(alice, onChat(`${since}`, 'alice'));
    }
    await expectDroppedInTime(alice.closed, since);
  });

  onWires('are sent once after the ack and then only in answer', async ({ open }) => {
    const wire = await open();
    const { sys } = await wire.toWorking();
    assert.strictEqual(sys.heartbeat, INTERVAL_MS / 1000);
    const since = Date.now();
    wire.send(packages.heartbeat(), packages.heartbeat(), packages.request(1, ROUTES.send, {}));
    for (let n = 0; n < 2; n++) assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
    await wire.answer(1);
    await expectDroppedInTime(wire.closed, since);
    assert.deepStrictEqual(wire.packages.unread, [], 'sent on its own initiative');
  });
}, { server: { heartbeat: `${INTERVAL_MS / 1000}s` }, concurrency: true });
