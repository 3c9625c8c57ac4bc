'use strict';

// Every kind of client through a proxy, and what is tried with them.

const assert = require('node:assert');
const { KINDS: HYBRID_KINDS } = require('../lib/cast');
const { enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { eventually } = require('../lib/expect');
const { KINDS: SIO_KINDS } = require('../lib/sio/kinds');

// kindsFor are the kinds of clients that can go by a proxy, each with the way it goes (site.js).
function kindsFor({ raw }) {
  return [
    { name: 'hybrid WebSocket', connect: HYBRID_KINDS.ws.connect, way: 'toConnector' },
    ...(raw ? [{ name: 'raw TCP', connect: HYBRID_KINDS.tcp.connect, way: 'toRaw' }] : []),
    ...SIO_KINDS.map(({ name, connect }) => ({ name, connect, way: 'toConnector' })),
  ];
}

// gather brings alice and bob into the room, by a way each.
async function gather(site, kind, room) {
  const people = [];
  for (const name of ['alice', 'bob']) {
    const client = await kind.connect(await site[kind.way]());
    await client.settled?.();
    people.push(client);
    assert.deepStrictEqual(await enter(client, name, room), { users: ['alice', 'bob'].slice(0, people.length) });
  }
  await expectPushes(people[0], onAdd('bob'));
  return people;
}

async function talk([alice, bob], turns) {
  for (let i = 0; i < turns; i++) {
    assert.deepStrictEqual(await send(alice, `question ${i}`), {});
    assert.deepStrictEqual(await send(bob, `answer ${i}`), {});
    for (const client of [alice, bob]) {
      await expectPushes(client, onChat(`question ${i}`, 'alice'), onChat(`answer ${i}`, 'bob'));
    }
  }
  await expectNothingMore(alice, bob);
}

async function part([alice, bob]) {
  // A 0.9 client forgets its goodbye while the answer to its last POST is under way, and by a proxy that takes longer.
  await eventually(() => bob.socket?.socket?.doBuffer, (waits) => assert.ok(!waits, 'the last POST was never answered'));
  await bob.leave();
  await expectPushes(alice, onLeave('bob'));
  await alice.leave();
  for (const client of [alice, bob]) assert.deepStrictEqual(client.faults, []);
}

module.exports = { kindsFor, gather, talk, part };
