'use strict';

const assert = require('node:assert');
const { enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../../lib/chat');
const { within } = require('../../lib/expect');
const { JsClient } = require('../../lib/jsclient');
const { KINDS } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');
const { MOMENTS } = require('../../lib/sio/upgrade');

const UPGRADING = KINDS.filter((kind) => kind.upgrades);
const POLLS_AT = ['connected', 'opened', 'probed'];
const BURST = 10;
const BIG = 'x'.repeat(60 * 1024);
// The server gives up on an upgrade that does not end after 10 s.
const GIVES_UP_MS = 45_000;

// arrive brings alice, who is held at the moment, and bob, who upgrades nothing, into the room.
async function arrive(cast, moment, options = {}) {
  const bob = await cast.connectAs(JsClient, cast.server.connector);
  await enter(bob, 'bob', cast.room);
  // She is held from the very start, or she would be past the moment before she is in the room.
  const hold = ['connected', moment];
  const alice = await cast.connectAs(cast.lead, cast.server.connector, { hold, ...options });
  assert.deepStrictEqual(await enter(alice, 'alice', cast.room), { users: ['bob', 'alice'] });
  await expectPushes(bob, onAdd('alice'));
  if (moment !== 'connected') alice.upgrade.release('connected');
  await alice.upgrade.reaches(moment);
  return { alice, bob };
}

const textsOf = (name, stage) => Array.from({ length: BURST }, (_, n) => `${name} ${stage} ${n} é😀`);

// say sends all at once. It resolves when the server has answered.
async function say(client, texts) {
  const answers = [];
  client.batch(() => answers.push(...texts.map((text) => send(client, text))));
  assert.deepStrictEqual(await Promise.all(answers), texts.map(() => ({})));
}

const hear = (client, name, texts) => expectPushes(client, ...texts.map((text) => onChat(text, name)));

sioSuite('upgrade', ({ scenario }) => {
  // First, because it takes longest.
  scenario('that never ends is given up, and the client polls on', async (cast) => {
    const { alice, bob } = await arrive(cast, 'probed');
    const failed = new Promise((resolve) => alice.engine.on('upgradeError', resolve));
    const given = within(failed, 'the server gives up', GIVES_UP_MS);
    await say(bob, textsOf('bob', 'meanwhile'));
    await given;
    await say(bob, textsOf('bob', 'after'));
    for (const person of [alice, bob]) {
      await hear(person, 'bob', [...textsOf('bob', 'meanwhile'), ...textsOf('bob', 'after')]);
    }
    await expectNothingMore(alice, bob);
  });

  for (const moment of Object.keys(MOMENTS)) {
    scenario(`loses nothing that comes while ${MOMENTS[moment]}`, async (cast) => {
      const { alice, bob } = await arrive(cast, moment);
      const texts = [...textsOf('bob', moment), BIG, 'after the big one'];
      await say(bob, texts);
      await hear(bob, 'bob', texts);
      // What can be heard before the upgrade is heard before it: polling goes on until the client stops.
      if (POLLS_AT.includes(moment)) await hear(alice, 'bob', texts);
      alice.upgrade.release(moment);
      if (!POLLS_AT.includes(moment)) await hear(alice, 'bob', texts);
      await alice.upgraded;
      await say(bob, textsOf('bob', 'upgraded'));
      for (const person of [alice, bob]) await hear(person, 'bob', textsOf('bob', 'upgraded'));
      await expectNothingMore(alice, bob);
    });

    scenario(`loses nothing that is sent while ${MOMENTS[moment]}`, async (cast) => {
      const { alice, bob } = await arrive(cast, moment);
      const texts = textsOf('alice', moment);
      const said = say(alice, texts);
      if (POLLS_AT.includes(moment)) await said; // else the client itself keeps it until it has upgraded
      alice.upgrade.release(moment);
      const more = say(alice, textsOf('alice', 'released'));
      await Promise.all([said, more, alice.upgraded]);
      for (const person of [alice, bob]) await hear(person, 'alice', [...texts, ...textsOf('alice', 'released')]);
      await expectNothingMore(alice, bob);
    });

    scenario(`is told once when a client says goodbye while ${MOMENTS[moment]}`, async (cast) => {
      const { alice, bob } = await arrive(cast, moment);
      // In the middle of its pause the library waits for the upgrade before it goes.
      const gone = alice.leave();
      alice.upgrade.release(moment);
      await gone;
      await expectPushes(bob, onLeave('alice'));
      await cameBack(cast, bob);
    });
  }

  // Straight after the change: the packet that says so and the pushes meet on the way.
  scenario('loses nothing that comes right after it', async (cast) => {
    const { alice, bob } = await arrive(cast, 'paused');
    alice.upgrade.release('paused');
    await alice.upgraded;
    const texts = textsOf('bob', 'at once');
    await Promise.all([say(bob, texts), say(alice, ['me too'])]);
    const heard = [];
    for (let n = 0; n <= texts.length; n++) heard.push(await alice.pushes.next('a message'));
    await expectPushes(bob, ...heard);
    assert.deepStrictEqual(heard.filter(({ body }) => body.from === 'bob'), texts.map((text) => onChat(text, 'bob')));
    assert.ok(heard.some(({ body }) => body.msg === 'me too'));
    await expectNothingMore(alice, bob);
  });

  for (const moment of ['opened', 'probed']) {
    scenario(`that breaks off while ${MOMENTS[moment]} leaves the client polling`, async (cast) => {
      const { alice, bob } = await arrive(cast, moment);
      await say(bob, textsOf('bob', 'before'));
      alice.upgrade.transport.ws.close();
      await assert.rejects(alice.upgraded, /probe error|websocket|closed/);
      alice.upgrade.release(moment);
      await say(bob, textsOf('bob', 'after'));
      await say(alice, textsOf('alice', 'after'));
      for (const person of [alice, bob]) {
        await hear(person, 'bob', [...textsOf('bob', 'before'), ...textsOf('bob', 'after')]);
        await hear(person, 'alice', textsOf('alice', 'after'));
      }
      await expectNothingMore(alice, bob);
      assert.strictEqual(alice.engine.transport.name, 'polling');
    });
  }
}, { leads: UPGRADING, concurrency: 24 });

// Between two polls nobody but a timer notices that a client is gone.
sioSuite('upgrade cut off', ({ scenario }) => {
  for (const moment of Object.keys(MOMENTS)) {
    scenario(`is told once while ${MOMENTS[moment]}`, async (cast) => {
      const { alice, bob } = await arrive(cast, moment, { relay: true });
      await say(bob, textsOf('bob', moment));
      await hear(bob, 'bob', textsOf('bob', moment));
      await alice.cut();
      await expectPushes(bob, onLeave('alice'));
      alice.upgrade.release(moment);
      alice.pushes.drain();
      await cameBack(cast, bob);
    });
  }
}, { leads: UPGRADING, concurrency: 24, server: { hasty: true } });

// cameBack: the name is free, and whoever takes it is told of once. Nothing else is on its way.
async function cameBack(cast, host) {
  const again = await cast.connectAs(cast.lead, cast.server.connector);
  assert.deepStrictEqual(await enter(again, 'alice', cast.room), { users: ['bob', 'alice'] });
  await expectPushes(host, onAdd('alice'));
  await expectNothingMore(host, again);
}
