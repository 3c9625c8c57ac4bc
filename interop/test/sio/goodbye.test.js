'use strict';

const assert = require('node:assert');
const { ROUTES, enter, expectNothingMore, expectPushes, onAdd, onLeave } = require('../../lib/chat');
const { within } = require('../../lib/expect');
const { BY_HAND } = require('../../lib/sio/byhand');
const { encode } = require('../../lib/sio/format');
const { sioSuite } = require('../../lib/sio/suite');

const ALL = Object.keys(BY_HAND);
const ENGINE = ALL.filter((name) => name.startsWith('engine'));
const POLLING = ALL.filter((name) => name.endsWith('polling'));

// What a client may say or do to go, one at a time: real clients do several of these at once. After the disconnect of
// socket.io alone the transport below is the client's to close.
const GOODBYES = [
  { how: 'socket.io disconnect', kinds: ENGINE, go: (session) => session.send('41'), close: (session) => session.send('1') },
  { how: 'socket.io disconnect', kinds: ['0.9 websocket', '0.9 xhr-polling'], go: (session) => session.send('0::') },
  { how: 'engine close', kinds: ENGINE, go: (session) => session.send('1') },
  { how: 'both in one', kinds: ENGINE, go: (session) => session.send('41', '1') },
  { how: 'GET ?disconnect', kinds: ['0.9 xhr-polling'], go: (session) => session.fetch(`${session.path}&disconnect=1`) },
  { how: 'an unknown packet', kinds: ENGINE, go: (session) => session.send('9') },
  { how: 'a payload that is none', kinds: ['engine.io 3 polling'], go: (session) => session.post('no payload') },
  { how: 'a websocket close', kinds: ALL.filter((name) => !POLLING.includes(name)), go: (session) => session.close() },
  { how: 'a dead connection', kinds: ALL.filter((name) => !POLLING.includes(name)), go: (session) => session.destroy() },
];

async function enterByHand(kind, address, name, room) {
  const session = await BY_HAND[kind]().open(address);
  await session.send(session.say(encode(2, ROUTES.enter, JSON.stringify({ username: name, rid: room }))));
  assert.ok((await session.next()).includes(name), `${name} may not enter`);
  return session;
}

sioSuite('goodbye', ({ scenario }) => {
  for (const { how, kinds, go, close } of GOODBYES) {
    const leads = kinds.map((name) => ({ name }));
    scenario(`is told once: ${how}`, async (cast) => {
      const { connector } = cast.server;
      const [host] = await cast.gather(['host']);
      const session = await enterByHand(cast.lead.name, connector, 'guest', cast.room);
      await expectPushes(host, onAdd('guest'));
      await go(session);
      await expectPushes(host, onLeave('guest'));
      await close?.(session);
      await expectIsOver(session);

      const again = await enterByHand(cast.lead.name, connector, 'guest', cast.room);
      await expectPushes(host, onAdd('guest'));
      await go(again);
      await go(again)?.catch?.(() => {}); // who says goodbye twice has gone once
      await expectPushes(host, onLeave('guest'));
      await expectNothingMore(host);
      session.destroy();
      again.destroy();
    }, leads);
  }
});

// expectIsOver: nothing can be done any more with a session that has ended.
async function expectIsOver(session) {
  if (session.closed) return within(session.closed, 'the server closes');
  const { status, text } = await session.poll();
  if (session.version) assert.deepStrictEqual([status, JSON.parse(text).code], [400, 1], text);
  else assert.deepStrictEqual([status, text], [200, '7:::1+0']);
}
