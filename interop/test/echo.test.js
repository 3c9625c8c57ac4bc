'use strict';

// Clients that answer each heartbeat at once, as a family of Java clients does: on loopback that is as fast as the two can.

const assert = require('node:assert');
const { setTimeout: pause } = require('node:timers/promises');
const { Message, Package } = require('pomelo-protocol');
const { ROUTES } = require('../lib/chat');
const { suite, VARIANTS } = require('../lib/suite');
const { packages } = require('../lib/wire');

// Longer than any timeout of a server whose heartbeats come every three seconds.
const ALIVE_MS = 10_000;
const ASK_MS = 500;

// echo answers every heartbeat, counts them, and leaves the rest to whoever asks.
function echo(wire) {
  const heard = { heartbeats: 0 };
  const { onPackage } = wire;
  wire.onPackage = (pkg) => {
    if (pkg.type !== Package.TYPE_HEARTBEAT) return onPackage(pkg);
    heard.heartbeats++;
    wire.send(packages.heartbeat());
  };
  return heard;
}

const defined = ({ onWires }) => {
  onWires('is served as long as it likes', async ({ open }) => {
    const wire = await open();
    await wire.shakeHands();
    const heard = echo(wire);
    const since = Date.now();
    wire.send(packages.ack());
    wire.send(packages.request(1, ROUTES.enter, { username: 'echo', rid: `echo ${Math.random()}` }));
    assert.deepStrictEqual(await wire.answer(1), { users: ['echo'] });
    for (let id = 2; id < 2 + ALIVE_MS / ASK_MS; id++) {
      await pause(ASK_MS);
      const before = heard.heartbeats;
      wire.send(packages.request(id, ROUTES.send, { content: `${id}`, target: '*' }));
      assert.strictEqual((await wire.message()).type, Message.TYPE_PUSH);
      assert.deepStrictEqual(await wire.answer(id), {});
      if (id % 4 === 0) assert.ok(before > 0, 'no heartbeat at all');
    }
    // Ten a second are answered, and one is owed; all else would be a loop without end.
    const most = (10 * (Date.now() - since)) / 1000 + 30; // a busy machine takes longer than it is told to
    assert.ok(heard.heartbeats >= ALIVE_MS / 1000, `only ${heard.heartbeats} heartbeats`);
    assert.ok(heard.heartbeats <= most, `${heard.heartbeats} heartbeats, more than ${most}`);
  });
};

const variants = VARIANTS.filter(({ loops, config }) => loops === 1 && config);

suite('who echoes heartbeats every three seconds', defined, { server: { heartbeat: '3s' }, variants, concurrency: true });
suite('who echoes heartbeats of the default', defined, { variants, concurrency: true });
