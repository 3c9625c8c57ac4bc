'use strict';

// What one client says in JSON, the parsers of all others must take: encoding/json of Go, the json module of Python (told to refuse
// equal keys, numbers beyond a double, and bytes that are no UTF-8), jansson of libpomelo2, and JSON.parse. A program whose parser refuses something ends,
// which fails the test.

const assert = require('node:assert');
const { KINDS: HYBRID_KINDS } = require('../lib/cast');
const { ROUTES, enter, expectNothingMore, expectPushes, onAdd, onChat } = require('../lib/chat');
const { KINDS, PYTHON } = require('../lib/sio/kinds');
const { suite, VARIANTS } = require('../lib/suite');
const { packages } = require('../lib/wire');

// What is said, and what everybody hears.
const ODDITIES = [
  ['1e400', null],
  ['-1e400', null],
  ['[1e999,{"a":-1e999}]', [null, { a: null }]],
  ['1E+0000000000000000000308', 1e308],
  ['123456789012345678901234567890', 123456789012345678901234567890],
  ['-0.50', -0.5],
  ['{"a":1,"a":2}', { a: 2 }],
  ['{"a":{"b":1,"b":{"c":1,"c":[]}},"a":{"b":1,"b":{"c":1,"c":[]}}}', { a: { b: { c: [] } } }],
  ['{"\\u0061":1,"a":2}', { a: 2 }],
  ['"\\u0000\\u001f\\/"', '\u0000\u001f/'],
  ['"中\\ud83d\\ude00😀"', '中😀😀'],
  [' [ 1 , 2 ] ', [1, 2]],
];

// Jansson refuses half a surrogate pair in any form.
const HALVES = [
  ['"\\ud800"', '\ud800'],
  ['"a\\udfff b"', 'a\udfff b'],
  ['{"\\ud800":["\\udc00\\ud83d\\ude00"]}', { '\ud800': ['\udc00😀'] }],
];

const hybrid = (...names) => names.map((name) => HYBRID_KINDS[name]);
const LISTENERS = [...hybrid('ws', 'go', 'go page', 'python'), ...PYTHON, ...KINDS.filter(({ transport }) => transport === 'websocket')];

suite('odd JSON', ({ onWires }) => {
  onWires('is heard by strict parsers', (scene) => hearsAll(scene, [...LISTENERS, ...hybrid('libpomelo2', 'libpitaya')], ODDITIES), ['ws']);

  onWires('with half a surrogate pair is heard by strict parsers, but for those who refuse it', (scene) => hearsAll(scene, LISTENERS, HALVES), ['ws']);
}, { variants: VARIANTS.filter(({ config }) => !config) });

let rooms = 0;

// hearsAll has one of each kind hear what a member says.
async function hearsAll({ open, server }, kinds, sayings) {
  const room = `odd ${++rooms}`;
  const listeners = [];
  for (const [n, kind] of kinds.entries()) {
    const listener = await kind.connect(server.connector);
    await enter(listener, `${n}`, room);
    listeners.push(listener);
  }
  const wire = await open();
  await wire.toWorking();
  wire.onPackage = () => {};
  wire.send(packages.request(1, ROUTES.enter, { username: 'odd', rid: room }));
  for (const [n, listener] of listeners.entries()) {
    await expectPushes(listener, ...listeners.slice(n + 1).map((_, m) => onAdd(`${n + 1 + m}`)), onAdd('odd'));
  }
  for (const [said, heard] of sayings) {
    wire.send(packages.request(2, ROUTES.send, `{"content":${said},"target":"*"}`));
    for (const [n, listener] of listeners.entries()) {
      // Go has no half pairs, and reads the sign for what cannot be read.
      const isGo = hybrid('go', 'go page').includes(kinds[n]);
      await expectPushes(listener, onChat(isGo ? whole(heard) : heard, 'odd'));
    }
  }
  await expectNothingMore(...listeners);
  for (const listener of listeners) assert.deepStrictEqual(listener.faults, []);
  await Promise.all(listeners.map((listener) => listener.leave()));
}

// whole is a value in which halves of surrogate pairs are U+FFFD.
function whole(value) {
  return JSON.parse(JSON.stringify(value).replace(/\\ud[89a-f][0-9a-f]{2}/g, '\ufffd'));
}
