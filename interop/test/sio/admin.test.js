'use strict';

// What an operator does, as clients of socket.io see it, of every version and transport.

const assert = require('node:assert');
const { expectNothingMore, expectPushes, enter, onChat, onLeave, send } = require('../../lib/chat');
const { within } = require('../../lib/expect');
const { sioSuite } = require('../../lib/sio/suite');
const { tokensFile, operate } = require('../../lib/operator');

const onKick = (reason) => ({ route: 'onKick', body: { reason, route: 'onKick' } });

// told is what a client of socket.io is told by a kick: exactly that, and nothing behind it.
async function told(client, reason) {
  const { route, body } = await client.pushes.next('a kick');
  assert.deepStrictEqual({ route, body: { route, ...body } }, onKick(reason));
  await within(client.closed, 'the end of a kicked connection');
  assert.deepStrictEqual(client.pushes.unread, []);
}

sioSuite('what operators do', ({ scenario }) => {
  scenario('a kick is one onKick, and the end', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    await operate(cast.server, 'kick', { name: 'alice', room: cast.room, reason: 'please read the rules' });
    await told(alice, 'please read the rules');
    await expectPushes(bob, onLeave('alice'));
    await expectNothingMore(bob);
  });

  scenario('a mute says so, and a push of an operator comes in order', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    await operate(cast.server, 'mute', { name: 'alice', room: cast.room, for: '10m' });
    const { wait, ...answer } = await send(alice, 'can you hear me');
    assert.deepStrictEqual(answer, { code: 500, reason: 'mute' });
    assert.ok(wait > 500 && wait <= 600, String(wait)); // a busy machine takes its time
    await operate(cast.server, 'publish', { room: cast.room, route: 'onChat', body: { msg: 'hello', from: 'system', target: '*' } });
    for (const person of [alice, bob]) await expectPushes(person, onChat('hello', 'system'));
    await operate(cast.server, 'unmute', { name: 'alice', room: cast.room });
    await expectNothingMore(alice, bob);
  });

  scenario('a lock keeps others out, and closing sends all away', async (cast) => {
    const [alice] = await cast.gather(['alice']);
    await operate(cast.server, 'lock', { room: cast.room });
    const carol = await cast.connect();
    assert.deepStrictEqual(await enter(carol, 'carol', cast.room), { code: 500, error: true, reason: 'room_locked' });
    await operate(cast.server, 'close', { room: cast.room, reason: 'closed for today' });
    await told(alice, 'closed for today');
    await operate(cast.server, 'unlock', { room: cast.room });
    assert.deepStrictEqual(await enter(carol, 'carol', cast.room), { users: ['carol'] });
    await expectNothingMore(carol);
  });
}, { server: { more: ['-admin-token-file', tokensFile(), '-admin-socket', 'none'] } });
