'use strict';

const assert = require('node:assert');
const { FAILED, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { suite } = require('../lib/suite');

suite('leave', ({ scenario }) => {
  for (const how of ['leave', 'vanish', 'cut']) {
    scenario(`is told once and frees the name: ${how}`, async (cast) => {
      const [alice, bob, carol] = await cast.gather(['alice', 'bob', 'carol']);
      await alice[how]();
      for (const person of [bob, carol]) await expectPushes(person, onLeave('alice'));
      assert.deepStrictEqual(await send(bob, 'still there?', 'alice'), FAILED);
      await expectNothingMore(bob, carol);

      const again = await cast.connect();
      assert.deepStrictEqual(await enter(again, 'alice', cast.room), { users: ['bob', 'carol', 'alice'] });
      for (const person of [bob, carol]) await expectPushes(person, onAdd('alice'));
      await expectNothingMore(again, bob, carol);
    });

    scenario(`of the last one leaves an empty room: ${how}`, async (cast) => {
      const [alice] = await cast.gather(['alice']);
      await alice[how]();
      await becomesFree(cast, 'alice', cast.room);
    });

    scenario(`before any enter concerns nobody: ${how}`, async (cast) => {
      const [alice] = await cast.gather(['alice']);
      const passerBy = await cast.connect();
      await passerBy[how]();
      await expectNothingMore(alice);
    });
  }

  scenario('comes after what was said just before', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    const bob = await cast.connect();
    bob.batch(() => {
      enter(bob, 'bob', cast.room).catch(() => {});
      send(bob, 'hello and goodbye').catch(() => {});
    });
    await Promise.all([bob.closed, bob.leave()]);
    await expectPushes(alice, onAdd('bob'), onChat('hello and goodbye', 'bob'), onLeave('bob'));
    await expectNothingMore(alice);
    bob.pushes.drain(); // whether he heard himself is nobody's promise
  });

  scenario('of many at once is told once each', async (cast) => {
    const [host] = await cast.gather(['host']);
    const guests = await Promise.all(Array.from({ length: 20 }, () => cast.connect()));
    for (const [n, guest] of guests.entries()) await enter(guest, `guest${n}`, cast.room);
    await expectPushes(host, ...guests.map((_, n) => onAdd(`guest${n}`)));
    await Promise.all(guests.map((guest, n) => (n % 2 === 0 ? guest.leave() : guest.cut())));

    const left = [];
    for (const _ of guests) left.push((await host.pushes.next('an onLeave')).body.user);
    assert.deepStrictEqual(left.sort(), guests.map((_, n) => `guest${n}`).sort());
    await expectNothingMore(host);
    for (const guest of guests) guest.pushes.drain();
  });
}, { server: { more: ['-enter-rate', '1000:1000'] } }); // a name is asked for again and again until it is free

// Nobody is left to see the onLeave; the server hears of a cut a moment after us.
async function becomesFree(cast, name, room) {
  const next = await cast.connect();
  let answer;
  do {
    answer = await enter(next, name, room);
  } while (answer.error);
  assert.deepStrictEqual(answer, { users: [name] });
}
