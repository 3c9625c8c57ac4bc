'use strict';

const assert = require('node:assert');
const { REFUSED, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { sioSuite } = require('../lib/sio/suite');
const { suite } = require('../lib/suite');

const scenarios = ({ scenario }) => {
  scenario('are isolated from each other', async (cast) => {
    const other = `${cast.room}-other`;
    const here = await cast.gather(['alice', 'bob']);
    const there = await cast.gather(['alice'], other);
    assert.deepStrictEqual(await send(here[0], 'here'), {});
    assert.deepStrictEqual(await send(there[0], 'there'), {});
    for (const person of here) await expectPushes(person, onChat('here', 'alice'));
    await expectPushes(there[0], onChat('there', 'alice'));
    await expectNothingMore(...here, ...there);
  });

  scenario('can be switched without a new connection', async (cast) => {
    const other = `${cast.room}-other`;
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [carol] = await cast.gather(['carol'], other);
    assert.deepStrictEqual(await enter(alice, 'alice', other), { users: ['carol', 'alice'] });
    await expectPushes(bob, onLeave('alice'));
    await expectPushes(carol, onAdd('alice'));

    assert.deepStrictEqual(await send(alice, 'I am here now'), {});
    for (const person of [alice, carol]) await expectPushes(person, onChat('I am here now', 'alice'));
    assert.deepStrictEqual(await send(bob, 'alone'), {});
    await expectPushes(bob, onChat('alone', 'bob'));

    const late = await cast.connect();
    assert.deepStrictEqual(await enter(late, 'alice', cast.room), { users: ['bob', 'alice'] });
    await expectPushes(bob, onAdd('alice'));
    await alice.leave();
    await expectPushes(carol, onLeave('alice'));
    await expectNothingMore(bob, carol, late);
  });

  scenario('can be switched and spoken in within one breath', async (cast) => {
    const other = `${cast.room}-other`;
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [carol] = await cast.gather(['carol'], other);
    const answers = [];
    alice.trace.length = 0;
    alice.batch(() => answers.push(send(alice, 'bye'), enter(alice, 'alice', other), send(alice, 'hello')));
    assert.deepStrictEqual(await Promise.all(answers), [{}, { users: ['carol', 'alice'] }, {}]);
    assert.deepStrictEqual(alice.trace, ['onChat', 'answer', 'answer', 'onChat', 'answer']);
    await expectPushes(alice, onChat('bye', 'alice'), onChat('hello', 'alice'));
    await expectPushes(bob, onChat('bye', 'alice'), onLeave('alice'));
    await expectPushes(carol, onAdd('alice'), onChat('hello', 'alice'));
    await expectNothingMore(alice, bob, carol);
  });

  scenario('can be walked through there and back', async (cast) => {
    const rooms = [`${cast.room}-a`, `${cast.room}-b`, `${cast.room}-c`];
    const hosts = [];
    for (const room of rooms) hosts.push(...(await cast.gather(['host'], room)));
    const walker = await cast.connect();
    for (const n of [0, 1, 2, 1, 0, 2]) {
      const before = rooms.indexOf(walker.user?.room);
      assert.deepStrictEqual(await enter(walker, 'walker', rooms[n]), { users: ['host', 'walker'] });
      await expectPushes(hosts[n], onAdd('walker'));
      if (before >= 0) await expectPushes(hosts[before], onLeave('walker'));
    }
    await expectNothingMore(walker, ...hosts);
  });

  scenario('are kept when a switch is refused', async (cast) => {
    const other = `${cast.room}-other`;
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [namesake] = await cast.gather(['alice'], other);
    for (const [name, room] of [['alice', other], ['bob', cast.room], ['', other], ['a*b', other], ['alice', '']]) {
      assert.deepStrictEqual(await enter(alice, name, room), REFUSED);
    }
    assert.deepStrictEqual(await send(bob, 'still here?'), {});
    assert.deepStrictEqual(await send(alice, 'yes'), {});
    for (const person of [alice, bob]) await expectPushes(person, onChat('still here?', 'bob'), onChat('yes', 'alice'));
    await expectNothingMore(alice, bob, namesake);
  });

  scenario('see the old name leave before the new one comes', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    assert.deepStrictEqual(await enter(alice, 'ann', cast.room), { users: ['bob', 'ann'] });
    await expectPushes(bob, onLeave('alice'), onAdd('ann'));
    assert.deepStrictEqual(await send(alice, 'new name'), {});
    for (const person of [alice, bob]) await expectPushes(person, onChat('new name', 'ann'));
    await expectNothingMore(alice, bob);
    await alice.leave();
    await expectPushes(bob, onLeave('ann'));
    await expectNothingMore(bob);
  });

  scenario('refuse who is in already, and keep them', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    assert.deepStrictEqual(await enter(alice, 'alice', cast.room), REFUSED);
    assert.deepStrictEqual(await send(bob, 'still here?'), {});
    for (const person of [alice, bob]) await expectPushes(person, onChat('still here?', 'bob'));
    await expectNothingMore(alice, bob);
  });
};

suite('rooms', scenarios);
sioSuite('rooms', scenarios);
