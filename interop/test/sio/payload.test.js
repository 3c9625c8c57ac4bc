'use strict';

const assert = require('node:assert');
const { ROUTES, enter, expectNothingMore, expectPushes, onAdd, onChat } = require('../../lib/chat');
const { JsClient } = require('../../lib/jsclient');
const { BY_HAND } = require('../../lib/sio/byhand');
const { encode } = require('../../lib/sio/format');
const { sioSuite } = require('../../lib/sio/suite');

const TEXTS = ['plain', 'é', '中文', '😀 e\u0301', 'new\nline \\n \\\\n', '\u2028 100% + & ='];

// Every way in which some client writes its packets into a POST. A session is polling by hand.
const TEXT = 'text/plain;charset=UTF-8';
const FORM = 'application/x-www-form-urlencoded';

const lengthened = (packet) => `${packet.length}:${packet}`;
const doubled = (packet) => Buffer.from(packet).toString('latin1');
const binary = (packet) => {
  const bytes = Buffer.from(packet);
  return Buffer.concat([Buffer.of(0, ...String(bytes.length).split('').map(Number), 255), bytes]);
};
const form = (value) => `d=${encodeURIComponent(value)}`;
const framed = (packet) => `\ufffd${packet.length}\ufffd${packet}`;

const PAYLOADS = [
  { name: 'text of 2.x', kind: 'engine.io 3 polling', type: TEXT, body: (packets) => packets.map(lengthened).join('') },
  {
    name: 'text of 1.x',
    kind: 'engine.io 3 polling',
    type: TEXT,
    body: (packets) => packets.map(doubled).map(lengthened).join(''),
  },
  {
    name: 'binary',
    kind: 'engine.io 3 polling',
    type: 'application/octet-stream',
    body: (packets) => Buffer.concat(packets.map(binary)),
  },
  // A line break is escaped by the client, and one that was escaped already once more.
  {
    name: 'JSONP form of 2.x',
    kind: 'engine.io 3 polling',
    type: FORM,
    query: '&j=0',
    body: (packets) => form(packets.map(lengthened).join('').replace(/\\n/g, '\\\\n')),
  },
  { name: 'engine.io 4', kind: 'engine.io 4 polling', type: TEXT, body: (packets) => packets.join('\x1e') },
  { name: '0.9', kind: '0.9 xhr-polling', type: TEXT, body: (packets) => packets.map(framed).join('') },
  { name: '0.9, one by one', kind: '0.9 xhr-polling', type: TEXT, body: ([packet]) => packet, single: true },
];

async function post(session, { type, query = '', body }, packets) {
  const request = { method: 'POST', body: body(packets), headers: { 'Content-Type': type } };
  const { status } = await session.fetch(session.path + query, request);
  assert.strictEqual(status, 200);
}

sioSuite('payload', ({ scenario }) => {
  scenario('of a POST is read as it is meant', async (cast) => {
    const host = await cast.connectAs(JsClient, cast.server.connector);
    await enter(host, 'host', cast.room);
    const payload = cast.lead;
    const session = await BY_HAND[payload.kind]().open(cast.server.connector);
    // Big ids: each of their bytes is a character, and no character of its own in UTF-8.
    const packet = (n, route, body) => session.say(encode(0x00c8e9f0 + n, route, JSON.stringify(body)));
    await post(session, payload, [packet(0, ROUTES.enter, { username: 'é中😀', rid: cast.room })]);
    await expectPushes(host, onAdd('é中😀'));
    const packets = TEXTS.map((content, n) => packet(n + 1, ROUTES.send, { content, target: '*' }));
    if (payload.single) for (const one of packets) await post(session, payload, [one]);
    else await post(session, payload, packets);
    await expectPushes(host, ...TEXTS.map((text) => onChat(text, 'é中😀')));
    await expectNothingMore(host);
    session.destroy();
  }, PAYLOADS);

  // Before a browser posts binary across origins, or anything with a header of its own.
  scenario('may be asked for by a page of another origin', async (cast) => {
    const session = await BY_HAND[cast.lead.name]().open(cast.server.connector);
    const origin = 'http://chat.example:3001';
    const asked = { Origin: origin, 'Access-Control-Request-Method': 'POST' };
    asked['Access-Control-Request-Headers'] = 'content-type';
    const { status, headers } = await session.fetch(session.path, { method: 'OPTIONS', headers: asked });
    assert.ok(status === 200 || status === 204, `status ${status}`);
    assert.strictEqual(headers['access-control-allow-origin'], origin);
    assert.strictEqual(headers['access-control-allow-credentials'], cast.lead.credentials);
    assert.match(headers['access-control-allow-headers'], /\bcontent-type\b/i);
    assert.match(headers['access-control-allow-methods'], /\bPOST\b/);
    const posted = { method: 'POST', body: cast.lead.nothing, headers: { Origin: origin, 'Content-Type': TEXT } };
    const { headers: allowed } = await session.fetch(session.path, posted);
    assert.strictEqual(allowed['access-control-allow-origin'], origin);
    assert.strictEqual(allowed['access-control-allow-credentials'], cast.lead.credentials);
    session.destroy();
  }, [
    { name: '0.9 xhr-polling', nothing: '2::', credentials: 'true' },
    { name: 'engine.io 3 polling', nothing: '1:2', credentials: 'true' },
    { name: 'engine.io 4 polling', nothing: '3' }, // asks without credentials, unless its page wants them
  ]);
});
