'use strict';

const assert = require('node:assert');
const { REFUSED, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { JsClient } = require('../lib/jsclient');
const { mainProtobuf } = require('../lib/page');
const { suite } = require('../lib/suite');

const TEXTS = [
  '',
  'plain',
  'é ÿ ߿',
  '你好，世界',
  '中文房间',
  '😀',
  'a😀b🎉中c',
  '👨‍👩‍👧‍👦 🇨🇳',
  '"quoted" \\back\\ /slash/ <tag> & %',
  'line\nbreak\r\ttab \u0000\u0001\u001f\u007f',
  '\u2028\u2029\ufeff\uffff\u{10ffff}',
];

const KIB = 1024;
// Texts that differ enough to be no bombs when a client compresses them.
const long = (first, many, count) =>
  Array.from({ length: count }, (_, n) => String.fromCodePoint(first + ((Math.imul(n, 0x9e3779b1) >>> 9) % many))).join('');
const BIG_TEXTS = { ASCII: long(0x23, 53, 60 * KIB), Chinese: long(0x4e00, 1009, 20 * KIB), emoji: long(0x1f300, 509, 10 * KIB) };

suite('text', ({ scenario }) => {
  scenario('arrives intact at every kind of client', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    for (const [n, person] of people.entries()) {
      const name = ['alice', 'bob', 'carol'][n];
      for (const text of TEXTS) assert.deepStrictEqual(await send(person, text), {});
      for (const listener of people) await expectPushes(listener, ...TEXTS.map((text) => onChat(text, name)));
    }
    await expectNothingMore(...people);
  });

  scenario('works in names and rooms', async (cast) => {
    const room = `${cast.room}房间🏠`;
    const names = ['王五', '😀alice', 'é🎉中'];
    const people = await cast.gather(names, room);
    for (const [n, person] of people.entries()) {
      for (const target of names) assert.deepStrictEqual(await send(person, '给你', target), {});
      for (const [m, listener] of people.entries()) await expectPushes(listener, onChat('给你', names[n], names[m]));
    }
    await people[1].leave();
    for (const listener of [people[0], people[2]]) await expectPushes(listener, onLeave('😀alice'));
    await expectNothingMore(people[0], people[2]);
  });

  scenario('is the same name however a client encodes it', async (cast) => {
    const [first] = await cast.gather(['😀']);
    const second = await cast.connect();
    assert.deepStrictEqual(await enter(second, '😀', cast.room), REFUSED);
    assert.deepStrictEqual(await enter(second, '😁', cast.room), { users: ['😀', '😁'] });
    await expectPushes(first, onAdd('😁'));
    await expectNothingMore(first, second);
  });

  scenario('may be 60 KB long', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol']);
    for (const [script, text] of Object.entries(BIG_TEXTS)) {
      assert.deepStrictEqual(await send(people[0], text), {}, script);
      for (const person of people) await expectPushes(person, onChat(text, 'alice'));
    }
    await expectNothingMore(...people);
  });

  // Outside a browser the npm client is used with the main entry of pomelo-protobuf, which decodes standard UTF-8.
  scenario('reaches the npm client with the main entry of pomelo-protobuf', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    const node = await cast.connectAs(JsClient, cast.server.connector, { protobuf: mainProtobuf });
    assert.deepStrictEqual(await enter(node, '王五', cast.room), { users: ['alice', '王五'] });
    assert.deepStrictEqual(await send(alice, 'hello 你好'), {});
    await expectPushes(node, onChat('hello 你好', 'alice'));
    await expectPushes(alice, onAdd('王五'), onChat('hello 你好', 'alice'));
    await expectNothingMore(alice, node);
  });
});
