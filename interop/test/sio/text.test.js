'use strict';

const assert = require('node:assert');
const { REFUSED, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../../lib/chat');
const { KINDS } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

const TEXTS = [
  '',
  'é ÿ ߿ \u0080\u00ff',
  '你好，世界 中文房间',
  'a😀b🎉中c \u{10ffff}\u{10000}',
  '👨‍👩‍👧‍👦 🇨🇳',
  'e\u0301 n\u0303 \u0928\u093f', // combining
  '\u2028\u2029\ufeff\uffff\ufffd\u200b',
  '"quoted" \\back\\ /slash/ <tag> & % + = ; \\u00e9 \\n \\\\n',
  'line\nbreak\r\nreturn\rtab\t \u0000\u0001\u001e\u001f\u007f',
  '3:::x 42["message","x"] \ufffd3\ufffd2:: 5:42[1]', // the framing of the transports
];

// Reads as UTF-8 when taken for bytes, and is meant as it stands. A 2.x client that polls sends exactly what a 1.x
// client would send for other text, and nothing tells the two apart; everywhere else the text is safe.
const LOOKS_ENCODED = 'Ã© ð\u009f\u0098\u0080';
const isAmbiguous = ({ version, transport }) => ['2.0', '2.5'].includes(version) && transport !== 'websocket';

const KIB = 1024;
const BIG_TEXTS = {
  ASCII: 'x'.repeat(60 * KIB),
  Chinese: '字'.repeat(20 * KIB),
  // No more emoji: escaped for the hybrid page they are twelve characters each, and it decodes 120,000 at most.
  emoji: '😀'.repeat(7 * KIB) + 'x'.repeat(32 * KIB),
  'line breaks': '\n\\\r\n'.repeat(6 * KIB),
};

sioSuite('text', ({ scenario }) => {
  scenario('arrives intact', async (cast) => {
    const names = ['alice', 'bob', 'carol'];
    const people = await cast.gather(names);
    for (const [n, person] of people.entries()) {
      for (const text of TEXTS) assert.deepStrictEqual(await send(person, text), {});
      for (const listener of people) await expectPushes(listener, ...TEXTS.map((text) => onChat(text, names[n])));
    }
    await expectNothingMore(...people);
  });

  scenario('that looks like encoded text arrives intact', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    for (const person of people) assert.deepStrictEqual(await send(person, LOOKS_ENCODED), {});
    const expected = ['alice', 'bob'].map((name) => onChat(LOOKS_ENCODED, name));
    for (const person of people) await expectPushes(person, ...expected);
    await expectNothingMore(...people);
  }, KINDS.filter((kind) => !isAmbiguous(kind)));

  scenario('works in names and rooms', async (cast) => {
    const room = `${cast.room} é房间🏠e\u0301\u2028`;
    const names = ['王五', '😀\u2028alice', 'é🎉中', 'e\u0301'];
    const people = await cast.gather(names, room);
    for (const [n, person] of people.entries()) {
      for (const target of names) assert.deepStrictEqual(await send(person, '给你', target), {});
      for (const [m, listener] of people.entries()) await expectPushes(listener, onChat('给你', names[n], names[m]));
    }
    const other = await cast.connect();
    for (const name of names) assert.deepStrictEqual(await enter(other, name, room), REFUSED, name);
    // Looks the same and is another name.
    assert.deepStrictEqual((await enter(other, '\u00e9', room)).users, [...names, '\u00e9']);
    for (const person of people) await expectPushes(person, onAdd('\u00e9'));
    await people[1].leave();
    const rest = [people[0], people[2], people[3], other];
    for (const person of rest) await expectPushes(person, onLeave(names[1]));
    await expectNothingMore(...rest);
  });

  scenario('may be 60 KB long', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    const [alice, bob] = people;
    for (const [script, text] of Object.entries(BIG_TEXTS)) {
      assert.deepStrictEqual(await send(alice, text), {}, script);
      for (const person of people) await expectPushes(person, onChat(text, 'alice'));
    }
    assert.deepStrictEqual(await send(bob, BIG_TEXTS.Chinese, 'alice'), {});
    await expectPushes(alice, onChat(BIG_TEXTS.Chinese, 'bob', 'alice'));
    await expectNothingMore(...people);
  });
}, { server: { more: ['-names', 'original'] } }); // names that Pomelo takes, and look alike
