'use strict';

const assert = require('node:assert');
const { ROUTES, expectNothingMore, expectPushes, onChat, send } = require('../lib/chat');
const { sioSuite } = require('../lib/sio/suite');
const { suite } = require('../lib/suite');

const COUNT = 100;
const numbers = Array.from({ length: COUNT }, (_, n) => n);

const scenarios = ({ scenario }) => {
  scenario('holds for a hundred rapid sends and their answers', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    const [alice] = people;
    const answered = [];
    alice.trace.length = 0;
    await Promise.all(numbers.map((n) => send(alice, `message ${n}`).then((answer) => answered.push([n, answer]))));
    assert.deepStrictEqual(answered, numbers.map((n) => [n, {}]));
    expectPushAheadOfItsAnswer(alice.trace);
    const expected = numbers.map((n) => onChat(`message ${n}`, 'alice'));
    for (const person of people) await expectPushes(person, ...expected);
    await expectNothingMore(...people);
  });

  scenario('holds for answers of every sort in one burst', async (cast) => {
    const [alice] = await cast.gather(['alice', 'bob']);
    const answered = [];
    const burst = numbers.map((n) => {
      const route = [ROUTES.send, 'no.such.route', ROUTES.enter][n % 3];
      return alice.request(route, {}).then(() => answered.push(n));
    });
    await Promise.all(burst);
    assert.deepStrictEqual(answered, numbers);
    await expectNothingMore(alice);
  });

  scenario('holds between broadcasts and private messages', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    const [alice, bob, carol] = people;
    const targetOf = (n) => (n % 2 === 0 ? '*' : 'bob');
    alice.batch(() => numbers.forEach((n) => alice.notify(ROUTES.send, { content: `${n}`, target: targetOf(n) })));
    const all = numbers.map((n) => onChat(`${n}`, 'alice', targetOf(n)));
    await expectPushes(bob, ...all);
    const broadcasts = all.filter((push) => push.body.target === '*');
    for (const person of [alice, carol]) await expectPushes(person, ...broadcasts);
    await expectNothingMore(...people);
  });

  scenario('holds for each of three who speak at once', async (cast) => {
    const names = ['alice', 'bob', 'carol'];
    const people = await cast.gather(names);
    await Promise.all(people.flatMap((person) => numbers.map((n) => send(person, `${n}`))));
    for (const person of people) {
      const heard = { alice: [], bob: [], carol: [] };
      for (let i = 0; i < names.length * COUNT; i++) {
        const { body } = await person.pushes.next('a message of one of three');
        heard[body.from].push(body.msg);
      }
      for (const name of names) assert.deepStrictEqual(heard[name], numbers.map(String), `${name}'s words`);
    }
    await expectNothingMore(...people);
  });
};

suite('order', scenarios);
sioSuite('order', scenarios);

// The n-th answer has at least n pushes before it.
function expectPushAheadOfItsAnswer(trace) {
  let pushes = 0;
  let answers = 0;
  for (const arrival of trace) {
    if (arrival === 'answer') answers++;
    else pushes++;
    assert.ok(pushes >= answers, 'an answer came before its push');
  }
}
