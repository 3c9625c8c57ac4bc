'use strict';

const assert = require('node:assert');
const { FAILED, ROUTES, enter, expectNothingMore, expectPushes, onChat, send } = require('../lib/chat');
const { suite } = require('../lib/suite');

const BAD_ROUTES = [
  'no.such.server',
  'connector.noSuchHandler.enter',
  'connector.entryHandler.noSuchMethod',
  'connector.entryHandler.constructor',
  'chat.noSuchHandler.send',
  'chat.chatHandler.noSuchMethod',
  'chat.chatHandler.constructor',
  'gate.gateHandler.queryEntry', // exists, but not at a connector
  'nodots',
  'two.parts',
  'chat.chatHandler.send.more',
  '..',
];

suite('chat', ({ scenario, variant }) => {
  scenario('reaches everybody in the room, the sender too, before the answer', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    const [alice] = people;
    alice.trace.length = 0;
    assert.deepStrictEqual(await send(alice, 'hello'), {});
    assert.deepStrictEqual(alice.trace, ['onChat', 'answer']);
    for (const person of people) await expectPushes(person, onChat('hello', 'alice'));
    await expectNothingMore(...people);
  });

  scenario('takes sender and room from the session, not from the message', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [stranger] = await cast.gather(['mallory'], `${cast.room}-other`);
    const forged = { from: 'bob', rid: `${cast.room}-other`, route: 'onAdd', timestamp: 1 };
    assert.deepStrictEqual(await alice.request(ROUTES.send, { ...forged, content: 'it was bob', target: '*' }), {});
    for (const person of [alice, bob]) await expectPushes(person, onChat('it was bob', 'alice'));
    await expectNothingMore(alice, bob, stranger);
  });

  scenario('carries a private message to one member only', async (cast) => {
    const [alice, bob, carol] = await cast.gather(['alice', 'bob', 'carol']);
    alice.trace.length = 0;
    assert.deepStrictEqual(await send(alice, 'psst', 'bob'), {});
    assert.deepStrictEqual(alice.trace, ['answer'], 'the sender gets no copy');
    await expectPushes(bob, onChat('psst', 'alice', 'bob'));

    assert.deepStrictEqual(await send(alice, 'note', 'alice'), {});
    await expectPushes(alice, onChat('note', 'alice', 'alice'));
    await expectNothingMore(alice, bob, carol);
  });

  scenario('fails for a target that is not in the room', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    const strangers = await cast.gather(['carol'], `${cast.room}-other`);
    const [alice] = people;
    assert.deepStrictEqual(await send(alice, 'anybody?', 'nobody'), FAILED);
    assert.deepStrictEqual(await send(alice, 'anybody?', 'carol'), FAILED);
    assert.deepStrictEqual(await alice.request(ROUTES.send, { content: 'no target' }), FAILED);
    await expectNothingMore(...people, ...strangers);
  });

  scenario('fails before enter, and works after', async (cast) => {
    const client = await cast.connect();
    assert.deepStrictEqual(await send(client, 'too early'), FAILED);
    assert.deepStrictEqual(await enter(client, 'alice', cast.room), { users: ['alice'] });
    await expectNothingMore(client);
  });

  scenario('answers every request to a bad route once and stays', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    for (const client of [alice, await cast.connect()]) {
      const answers = await Promise.all(BAD_ROUTES.map((route) => client.request(route, {})));
      assert.deepStrictEqual(answers, Array(BAD_ROUTES.length).fill(FAILED));
      await expectNothingMore(client);
    }
    await expectNothingMore(bob);
  });

  scenario('never answers a notify', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    alice.trace.length = 0;
    alice.notify(ROUTES.send, { content: 'no answer wanted', target: '*' });
    alice.notify(ROUTES.send, { content: 'nor here', target: 'nobody' });
    for (const route of BAD_ROUTES) alice.notify(route, {});
    alice.notify(ROUTES.enter, {});
    assert.deepStrictEqual(await send(alice, 'last'), {});
    assert.deepStrictEqual(alice.trace, ['onChat', 'onChat', 'answer']);
    for (const person of [alice, bob]) {
      await expectPushes(person, onChat('no answer wanted', 'alice'), onChat('last', 'alice'));
    }
    await expectNothingMore(alice, bob);
  });

  // JSON carries every type; the protobuf definition has strings only.
  scenario('carries content that is missing or no string', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    const [alice] = people;
    const seen = variant.config ? ['', '42', 'true', '{"a":1}'] : ['', 42, true, { a: 1 }];
    for (const content of [undefined, 42, true, { a: 1 }]) assert.deepStrictEqual(await send(alice, content), {});
    for (const person of people) await expectPushes(person, ...seen.map((msg) => onChat(msg, 'alice')));
    await expectNothingMore(...people);
  });
});
