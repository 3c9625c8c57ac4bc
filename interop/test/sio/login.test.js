'use strict';

const assert = require('node:assert');
const { FAILED, REFUSED, ROUTES, enter, expectNothingMore, expectPushes, onAdd, send } = require('../../lib/chat');
const { sioSuite } = require('../../lib/sio/suite');

const NO_UIDS = [{}, { uid: '' }, { uid: 0 }, { uid: null }, { uid: false }];
const BAD_NAMES = ['', null, true, {}, ['alice'], '*', 'a*b', 'line\nbreak', 'x'.repeat(65), '😀'.repeat(17)];

sioSuite('login', ({ scenario }) => {
  scenario('asks the gate, with uid and without', async (cast) => {
    const visitor = await cast.connect(cast.server.gate);
    const { host, port } = cast.server.connector;
    for (const body of NO_UIDS) assert.deepStrictEqual(await visitor.request(ROUTES.query, body), FAILED);
    for (const uid of ['alice', '王五', 'é😀']) {
      assert.deepStrictEqual(await visitor.request(ROUTES.query, { uid }), { code: 200, host, port });
    }
    await expectNothingMore(visitor);
  });

  // The page: ask, disconnect, connect in the same breath, enter.
  scenario('goes from gate to connector with one page', async (cast) => {
    const page = await cast.connect(cast.server.gate);
    const { host, port } = await page.request(ROUTES.query, { uid: 'alice' });
    await page.moveTo({ host, port });
    assert.deepStrictEqual(await enter(page, 'alice', cast.room), { users: ['alice'] });
    await expectNothingMore(page);
  });

  scenario('lists the members and tells only the others', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol', 'dave']);
    await expectNothingMore(...people);
    assert.deepStrictEqual(people[2].trace, ['answer', 'onAdd', 'onChat', 'answer'], 'no onAdd of her own');
  });

  scenario('refuses a taken name and leaves the connection usable', async (cast) => {
    const people = await cast.gather(['alice', 'bob']);
    const other = await cast.connect();
    for (const taken of ['alice', 'bob']) assert.deepStrictEqual(await enter(other, taken, cast.room), REFUSED);
    assert.deepStrictEqual(await send(other, 'not in the room'), FAILED);
    assert.deepStrictEqual(await enter(other, 'carol', cast.room), { users: ['alice', 'bob', 'carol'] });
    for (const person of people) await expectPushes(person, onAdd('carol'));
    await expectNothingMore(...people, other);
  });

  scenario('refuses a name or a room that is missing or bad', async (cast) => {
    const client = await cast.connect();
    const good = { username: 'alice', rid: cast.room };
    for (const member of ['username', 'rid']) {
      for (const value of [undefined, ...BAD_NAMES]) {
        const answer = await client.request(ROUTES.enter, { ...good, [member]: value });
        assert.deepStrictEqual(answer, REFUSED, `${member} ${JSON.stringify(value)}`);
      }
    }
    await enter(client, 'alice', cast.room);
    await expectNothingMore(client);
  });

  scenario('fails to send before it, and works after', async (cast) => {
    const client = await cast.connect();
    for (const target of ['*', 'alice']) assert.deepStrictEqual(await send(client, 'too early', target), FAILED);
    assert.deepStrictEqual(await enter(client, 'alice', cast.room), { users: ['alice'] });
    await expectNothingMore(client);
  });

  scenario('changes the room with a second enter', async (cast) => {
    const [alice, bob] = await cast.gather(['alice', 'bob']);
    const [carol] = await cast.gather(['carol'], `${cast.room}-other`);
    assert.deepStrictEqual(await enter(alice, 'alice', `${cast.room}-other`), { users: ['carol', 'alice'] });
    await expectPushes(bob, { route: 'onLeave', body: { route: 'onLeave', user: 'alice' } });
    await expectPushes(carol, onAdd('alice'));
    assert.deepStrictEqual(await enter(alice, 'alice', `${cast.room}-other`), REFUSED, 'where she is already');
    assert.deepStrictEqual(await send(bob, 'still there?', 'alice'), FAILED);
    await expectNothingMore(alice, bob, carol);
  });
}, { server: { more: ['-enter-rate', '1000:1000'] } }); // more names are tried than people would
