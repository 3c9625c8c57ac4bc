'use strict';

const assert = require('node:assert');
const { FAILED, REFUSED, ROUTES, enter, expectNothingMore, expectPushes, onAdd, onChat, send } = require('../lib/chat');
const { EVERYBODY } = require('../lib/sio/kinds');
const { sioSuite } = require('../lib/sio/suite');
const { suite } = require('../lib/suite');

const MAX_NAME_BYTES = 64;
const LONGEST_NAME = 'x'.repeat(MAX_NAME_BYTES);

const BAD_NAMES = [
  ...['', null, true, false, {}, [], ['alice']],
  ...['*', 'a*b', '*a', 'a*', 'line\nbreak', '\u0000', '\u007f'],
  ...[`${LONGEST_NAME}x`, '字'.repeat(22), '😀'.repeat(17)],
];

const scenarios = ({ scenario }) => {
  scenario('lists the members in order of entry and tells only the others', async (cast) => {
    const [alice, bob, carol] = await cast.gather(['alice', 'bob', 'carol']);
    await expectNothingMore(alice, bob, carol);
    assert.deepStrictEqual(carol.trace, ['answer', 'onChat', 'answer'], 'no onAdd of her own');
  });

  scenario('refuses a taken name and leaves the connection usable', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    const other = await cast.connect();
    assert.deepStrictEqual(await enter(other, 'alice', cast.room), REFUSED);
    assert.deepStrictEqual(await send(other, 'not in the room'), FAILED);
    assert.deepStrictEqual(await enter(other, 'bob', cast.room), { users: ['alice', 'bob'] });
    await expectPushes(alice, onAdd('bob'));
    await expectNothingMore(alice, other);
  });

  scenario('takes the same name in another room', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    const [namesake] = await cast.gather(['alice'], `${cast.room}-other`);
    await expectNothingMore(alice, namesake);
  });

  scenario('refuses a name or a room that is missing or bad', async (cast) => {
    const client = await cast.connect();
    const good = { username: 'alice', rid: cast.room };
    for (const member of ['username', 'rid']) {
      const { [member]: _, ...without } = good;
      assert.deepStrictEqual(await client.request(ROUTES.enter, without), REFUSED, `without ${member}`);
      for (const value of BAD_NAMES) {
        const answer = await client.request(ROUTES.enter, { ...good, [member]: value });
        assert.deepStrictEqual(answer, REFUSED, `${member} ${JSON.stringify(value)}`);
      }
    }
    assert.deepStrictEqual(await client.request(ROUTES.enter, {}), REFUSED);
    assert.deepStrictEqual(await enter(client, LONGEST_NAME, cast.room), { users: [LONGEST_NAME] });
  });

  scenario('is in force for a send that travels with it', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    const bob = await cast.connect();
    const answers = [];
    bob.batch(() => answers.push(enter(bob, 'bob', cast.room), send(bob, 'hello'), send(bob, 'psst', 'alice')));
    assert.deepStrictEqual(await Promise.all(answers), [{ users: ['alice', 'bob'] }, {}, {}]);
    assert.deepStrictEqual(bob.trace, ['answer', 'onChat', 'answer', 'answer']);
    await expectPushes(alice, onAdd('bob'), onChat('hello', 'bob'), onChat('psst', 'bob', 'alice'));
    await expectPushes(bob, onChat('hello', 'bob'));
    await expectNothingMore(alice, bob);
  });

  scenario('lets exactly one of a hundred have the name', async (cast) => {
    const crowd = await Promise.all(Array.from({ length: 100 }, () => cast.connect()));
    const answers = await Promise.all(crowd.map((client) => enter(client, 'alice', cast.room)));
    const winners = crowd.filter((client) => client.user);
    assert.strictEqual(winners.length, 1);
    assert.deepStrictEqual(answers[crowd.indexOf(winners[0])], { users: ['alice'] });
    assert.deepStrictEqual(answers.filter((answer) => !answer.users), Array(99).fill(REFUSED));
    await expectNothingMore(...crowd);
  });
};

// More names are tried than people would.
const server = { more: ['-enter-rate', '1000:1000'] };

suite('enter', scenarios, { server });
sioSuite('enter', scenarios, { leads: [EVERYBODY], server });
