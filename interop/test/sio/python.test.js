'use strict';

// python-socketio on python-engineio, by WebSocket, polling, and from one to the other: a whole visit to the chat. Its parser reads at most 16
// packets of an answer and gives the session up beyond that.

const assert = require('node:assert');
const { FAILED, REFUSED, ROUTES, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../../lib/chat');
const { JsClient } = require('../../lib/jsclient');
const { PYTHON } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

const TEXTS = ['', 'plain', 'é ÿ', '你好，世界', 'a😀b🎉中c', '"\\\n\r\t\u0000\u001f', '\u2028\u2029\ufeff\u{10ffff}', '字'.repeat(10_000)];
const BURST = 200;

async function withHost(cast) {
  const host = await cast.connectAs(JsClient, cast.server.connector);
  await enter(host, 'host', cast.room);
  return host;
}

async function comeIn(cast, host, name, options) {
  const visitor = await cast.connectAs(cast.lead, cast.server.connector, options);
  const { users } = await enter(visitor, name, cast.room);
  assert.strictEqual(users.at(-1), name);
  await expectPushes(host, onAdd(name));
  return visitor;
}

sioSuite('python-socketio', ({ scenario }) => {
  scenario('goes from the gate to its connector', async (cast) => {
    const visitor = await cast.connectAs(cast.lead, cast.server.gate);
    assert.deepStrictEqual(await visitor.request(ROUTES.query, {}), FAILED);
    const { code, host, port } = await visitor.request(ROUTES.query, { uid: 'alice' });
    assert.strictEqual(code, 200);
    await visitor.leave();
    const alice = await cast.connectAs(cast.lead, { host, port });
    assert.deepStrictEqual(await enter(alice, 'alice', cast.room), { users: ['alice'] });
    await expectNothingMore(alice);
  });

  scenario('chats both ways, in every script', async (cast) => {
    const host = await withHost(cast);
    const python = await comeIn(cast, host, '王五😀');
    for (const text of TEXTS) {
      assert.deepStrictEqual(await send(python, text), {});
      assert.deepStrictEqual(await send(host, text), {});
      assert.deepStrictEqual(await send(host, text, '王五😀'), {});
      for (const one of [host, python]) await expectPushes(one, onChat(text, '王五😀'), onChat(text, 'host'));
      await expectPushes(python, onChat(text, 'host', '王五😀'));
      assert.deepStrictEqual(await send(python, text, 'host'), {});
      await expectPushes(host, onChat(text, '王五😀', 'host'));
    }
    await expectNothingMore(host, python);
  });

  scenario(`has each of ${BURST} messages that come while it asks`, async (cast) => {
    const host = await withHost(cast);
    const python = await comeIn(cast, host, 'alice');
    const texts = Array.from({ length: BURST }, (_, n) => `${n}`);
    host.batch(() => texts.forEach((content) => host.notify(ROUTES.send, { content, target: '*' })));
    for (const one of [python, host]) await expectPushes(one, ...texts.map((text) => onChat(text, 'host')));
    await expectNothingMore(host, python);
  });

  scenario('is refused, and goes on', async (cast) => {
    const host = await withHost(cast);
    const python = await cast.connectAs(cast.lead, cast.server.connector);
    assert.deepStrictEqual(await send(python, 'too early'), FAILED);
    assert.deepStrictEqual(await enter(python, 'host', cast.room), REFUSED);
    assert.deepStrictEqual(await python.request('no.such.route', {}), FAILED);
    assert.deepStrictEqual(await enter(python, 'alice', cast.room), { users: ['host', 'alice'] });
    await expectPushes(host, onAdd('alice'));
    await expectNothingMore(host, python);
  });

  scenario('leaves, and its name is free', async (cast) => {
    const host = await withHost(cast);
    const python = await comeIn(cast, host, 'alice');
    await python.leave();
    await expectPushes(host, onLeave('alice'));
    const again = await comeIn(cast, host, 'alice');
    await expectNothingMore(host, again);
  });

  // A client that polls has no connection to lose.
  scenario('comes back by itself and takes its name back', async (cast) => {
    const host = await withHost(cast);
    const python = await comeIn(cast, host, 'alice', { reconnects: true });
    python.drop();
    await expectPushes(host, onLeave('alice'));
    await python.reconnects.next('the second connect');
    assert.deepStrictEqual(await enter(python, 'alice', cast.room), { users: ['host', 'alice'] });
    await expectPushes(host, onAdd('alice'));
    await expectNothingMore(host, python);
  }, PYTHON.filter(({ name }) => !name.endsWith('polling')));
}, { leads: PYTHON });
