'use strict';

const assert = require('node:assert');
const { KINDS: HYBRID_KINDS, namesOf } = require('../../lib/cast');
const { enter, expectNothingMore, expectPushes, onAdd, send } = require('../../lib/chat');
const { everybodyWith } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');
const { VARIANTS } = require('../../lib/suite');

// Hybrid kinds are there twice.
const membersOf = (variant) => [...everybodyWith(variant), ...namesOf(variant).map((name) => HYBRID_KINDS[name])];
const MESSAGES = 12;
const TEXTS = ['plain', '中文', '😀🎉', 'é e\u0301 ÿ', '\u2028\u2029\ufeff', '👨‍👩‍👧‍👦', '"\\\n\r\t\u0001', '\u{10ffff}'];

const KIB = 1024;
// Few enough that they fit twice into what the server holds for a slow reader; escaped, the last two are 120 KB.
const BIG_TEXTS = ['x'.repeat(60 * KIB), '字'.repeat(20 * KIB), '😀'.repeat(7 * KIB) + 'x'.repeat(32 * KIB)];
const BIG_SENDERS = [2, 9, 17];
const BIG_AT = 5;

// textOf says by itself who sent it and when.
function textOf(sender, n) {
  const big = BIG_SENDERS.indexOf(sender);
  const text = n === BIG_AT && big >= 0 ? BIG_TEXTS[big] : TEXTS[(sender + n) % TEXTS.length];
  return `${sender}/${n}/${text}`;
}

async function gatherEverybody(cast) {
  const members = [];
  const names = [];
  for (const [n, kind] of membersOf(cast.server.options).entries()) {
    const client = await cast.connectAs(kind, cast.server.connector);
    const name = `${n} ${kind.name} 😀é`;
    names.push(name);
    assert.deepStrictEqual(await enter(client, name, cast.room), { users: names });
    for (const other of members) await expectPushes(other, onAdd(name));
    members.push(client);
  }
  return members;
}

// sendAll: every other member sends all it has at once, the rest wait for each answer.
async function sendAll(client, sender) {
  const texts = Array.from({ length: MESSAGES }, (_, n) => textOf(sender, n));
  if (sender % 2 === 0) {
    for (const text of texts) assert.deepStrictEqual(await send(client, text), {});
    return;
  }
  const answers = [];
  client.batch(() => answers.push(...texts.map((text) => send(client, text))));
  assert.deepStrictEqual(await Promise.all(answers), Array(MESSAGES).fill({}));
}

async function receive(client, count) {
  const messages = [];
  while (messages.length < count) {
    const what = `${client.user.name} waits for message ${messages.length} of ${count}`;
    const { route, body } = await client.pushes.next(what);
    assert.strictEqual(route, 'onChat');
    assert.strictEqual(body.target, '*');
    messages.push([body.from, body.msg]);
  }
  return messages;
}

sioSuite('mixed room', ({ once }) => {
  once('has every message once, in one order for everybody', async (cast) => {
    const members = await gatherEverybody(cast);
    const received = members.map((client) => receive(client, MESSAGES * members.length));
    await Promise.all([...received, ...members.map(sendAll)]);
    const [first, ...others] = await Promise.all(received);

    for (const [sender, { user }] of members.entries()) {
      const sent = Array.from({ length: MESSAGES }, (_, n) => textOf(sender, n));
      assert.deepStrictEqual(first.filter(([from]) => from === user.name).map(([, msg]) => msg), sent, user.name);
    }
    for (const [n, other] of others.entries()) assert.deepStrictEqual(other, first, members[n + 1].user.name);
    await expectNothingMore(...members);
  });

  once('carries private messages from everybody to everybody', async (cast) => {
    const members = await gatherEverybody(cast);
    const expected = members.map(() => []);
    for (const [n, sender] of members.entries()) {
      // Two neighbours, so that every pair of neighbouring kinds talks in both directions, and oneself.
      for (const to of [n, (n + 1) % members.length, (n + members.length - 1) % members.length]) {
        const text = `${n} to ${to} 中😀`;
        assert.deepStrictEqual(await send(sender, text, members[to].user.name), {});
        expected[to].push({ msg: text, from: sender.user.name, target: members[to].user.name });
      }
    }
    for (const [n, member] of members.entries()) {
      await expectPushes(member, ...expected[n].map((body) => ({ route: 'onChat', body })));
    }
    await expectNothingMore(...members);
  });
}, { variants: VARIANTS, concurrency: 1 });
