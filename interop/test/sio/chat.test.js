'use strict';

const assert = require('node:assert');
const { FAILED, ROUTES, enter, expectNothingMore, expectPushes, onChat, send } = require('../../lib/chat');
const { sioSuite } = require('../../lib/sio/suite');

const BAD_ROUTES = [
  'no.such.server',
  'connector.entryHandler.noSuchMethod',
  'chat.noSuchHandler.send',
  'chat.chatHandler.constructor',
  'gate.gateHandler.queryEntry', // exists, but not at a connector
  'nodots',
  'chat.chatHandler.send.more',
  '..',
  '中文.路线.名',
  'x'.repeat(255),
];

const BAD_BODIES = ['', '{', 'no json', '{"content":"cut off', '{"content":"twice"}{"target":"*"}', '\u0000'];

const BURST = 30;

sioSuite('chat', ({ scenario }) => {
  scenario('reaches everybody, the sender before the answer', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol', 'dave']);
    for (const name of ['alice', 'carol']) {
      const sender = people.find(({ user }) => user.name === name);
      sender.trace.length = 0;
      assert.deepStrictEqual(await send(sender, `I am ${name}`), {});
      assert.deepStrictEqual(sender.trace, ['onChat', 'answer']);
      for (const person of people) await expectPushes(person, onChat(`I am ${name}`, name));
    }
    await expectNothingMore(...people);
  });

  scenario('takes sender and room from the session, not from the message', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [stranger] = await cast.gather(['mallory'], `${cast.room}-other`);
    const forged = { from: 'bob', rid: `${cast.room}-other`, route: 'onAdd', body: { a: 1 }, id: 7 };
    assert.deepStrictEqual(await alice.request(ROUTES.send, { ...forged, content: 'it was bob', target: '*' }), {});
    for (const person of [alice, bob]) await expectPushes(person, onChat('it was bob', 'alice'));
    await expectNothingMore(alice, bob, stranger);
  });

  scenario('carries a private message to one member only', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    const [alice, bob, carol] = people;
    alice.trace.length = 0;
    assert.deepStrictEqual(await send(alice, 'psst', 'bob'), {});
    assert.deepStrictEqual(await send(alice, 'psst too', 'carol'), {});
    assert.deepStrictEqual(alice.trace, ['answer', 'answer'], 'the sender gets no copy');
    await expectPushes(bob, onChat('psst', 'alice', 'bob'));
    await expectPushes(carol, onChat('psst too', 'alice', 'carol'));

    alice.trace.length = 0;
    assert.deepStrictEqual(await send(alice, 'note', 'alice'), {});
    assert.deepStrictEqual(alice.trace, ['onChat', 'answer'], 'one copy to herself');
    await expectPushes(alice, onChat('note', 'alice', 'alice'));
    assert.deepStrictEqual(await send(alice, 'anybody?', 'nobody'), FAILED);
    assert.deepStrictEqual(await alice.request(ROUTES.send, { content: 'no target' }), FAILED);
    await expectNothingMore(...people);
  });

  // On this wire a notify has an id and is answered; the page has no callback.
  scenario('answers a notify as well', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    alice.trace.length = 0;
    alice.notify(ROUTES.send, { content: 'never mind', target: '*' });
    alice.notify(ROUTES.send, { content: 'never mind', target: 'nobody' });
    alice.notify('no.such.route', {});
    for (const body of [{}, FAILED, FAILED]) assert.deepStrictEqual((await alice.unasked.next('an answer')).body, body);
    for (const person of [alice, bob]) await expectPushes(person, onChat('never mind', 'alice'));
    await expectNothingMore(alice, bob);
    assert.deepStrictEqual(alice.unasked.unread, []);
  });

  scenario('keeps the order of what is sent without waiting', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    const texts = Array.from({ length: BURST }, (_, n) => `alice ${n}`);
    const [alice] = people;
    alice.trace.length = 0;
    const order = [];
    const answers = [];
    // Three at once, as a page may; the rest as fast as the client takes them.
    alice.batch(() => {
      for (const text of texts) answers.push(send(alice, text).then((answer) => order.push(text) && answer));
    });
    assert.deepStrictEqual(await Promise.all(answers), Array(BURST).fill({}));
    assert.deepStrictEqual(order, texts, 'answers come in the order of the requests');
    assert.deepStrictEqual(alice.trace, Array(BURST).fill(['onChat', 'answer']).flat());
    for (const person of people) await expectPushes(person, ...texts.map((text) => onChat(text, 'alice')));
    await expectNothingMore(...people);
  });

  scenario('may follow the enter at once', async (cast) => {
    const client = await cast.connect();
    const answers = [];
    client.batch(() => {
      answers.push(enter(client, 'alice', cast.room));
      for (const text of ['one', 'two', 'three']) answers.push(send(client, text));
    });
    assert.deepStrictEqual(await Promise.all(answers), [{ users: ['alice'] }, {}, {}, {}]);
    await expectPushes(client, ...['one', 'two', 'three'].map((text) => onChat(text, 'alice')));
    await expectNothingMore(client);
  });

  scenario('answers every request to a bad route once and stays', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const answers = await Promise.all(BAD_ROUTES.map((route) => alice.request(route, { content: 'x', target: '*' })));
    assert.deepStrictEqual(answers, Array(BAD_ROUTES.length).fill(FAILED));
    await expectNothingMore(alice, bob);
  });

  scenario('answers every request with a bad body once and stays', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    for (const route of [ROUTES.send, ROUTES.enter, ROUTES.query]) {
      for (const body of BAD_BODIES) assert.deepStrictEqual(await alice.requestText(route, body), FAILED, body);
    }
    await expectNothingMore(alice, bob);
  });

  scenario('carries content that is missing or no string', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    const contents = [undefined, 42, true, { route: 'onAdd', body: { deep: ['é', null] } }, [1, '2']];
    for (const content of contents) assert.deepStrictEqual(await send(people[0], content), {});
    for (const person of people) await expectPushes(person, ...contents.map((msg = '') => onChat(msg, 'alice')));
    await expectNothingMore(...people);
  });
});
