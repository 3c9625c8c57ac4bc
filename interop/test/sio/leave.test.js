'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const { once: event } = require('node:events');
const { enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../../lib/chat');
const { within } = require('../../lib/expect');
const { JsClient } = require('../../lib/jsclient');
const { KINDS } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

const HOLDER = require.resolve('../../lib/sio/holder');

// Most of the time is waiting for timeouts; but who connects all at once makes a slow machine too slow to answer pings: it has five seconds.
const CONCURRENCY = 56;

const POLLING = KINDS.filter((kind) => kind.polls);
const BY_XHR = POLLING.filter(({ transport }) => !transport.includes('jsonp')); // a script cannot be broken off
const WEBSOCKET = KINDS.filter((kind) => !kind.polls);

// Every way to go, and who can go like this.
const WAYS = [
  { way: 'client.disconnect()', go: (client) => client.leave(), kinds: KINDS },
  { way: 'closed without a word', go: (client) => client.vanish(), kinds: KINDS },
  { way: 'connection reset', go: (client) => client.cut(), kinds: KINDS },
  { way: 'websocket close', go: (client) => client.closeWebSocket(), kinds: WEBSOCKET },
  { way: 'silence', go: (client) => client.freeze(), kinds: KINDS },
  { way: 'no more polls', go: (client) => client.stopPolling(), kinds: POLLING },
  { way: 'poll broken off', go: (client) => client.abandonPoll(), kinds: BY_XHR },
];

async function join(cast, kind, name, room, host, options = { relay: true }) {
  const client = await cast.connectAs(kind, cast.server.connector, options);
  assert.ok((await enter(client, name, room)).users?.includes(name), `${name} may not enter`);
  await expectPushes(host, onAdd(name));
  await client.settled();
  return client;
}

async function hostOf(cast, room) {
  const host = await cast.connectAs(JsClient, cast.server.connector);
  assert.deepStrictEqual(await enter(host, 'host', room), { users: ['host'] });
  return host;
}

async function expectGone(host, ...names) {
  const expected = names.map(onLeave);
  const pushes = [];
  for (const _ of expected) {
    pushes.push(await host.pushes.next(`host waits for ${names} to go, has ${JSON.stringify(pushes)}`));
  }
  assert.deepStrictEqual(sorted(pushes), sorted(expected));
}

// expectGoneQuietly: a message for everybody answers the request that a client has open. As long as one is open a client
// of 0.9 is there, and the server is right to wait.
async function expectGoneQuietly(host, ...names) {
  assert.deepStrictEqual(await send(host, 'anybody there?'), {});
  const early = [];
  for (;;) {
    const push = await host.pushes.next('the question');
    if (push.route === 'onChat') break;
    early.push(push.body.user);
    assert.deepStrictEqual(push, onLeave(push.body.user));
  }
  const late = names.filter((name) => !early.includes(name));
  assert.strictEqual(early.length + late.length, names.length, `early: ${early}`);
  await expectGone(host, ...late);
}

const sorted = (pushes) => pushes.map((push) => JSON.stringify(push)).sort();

sioSuite('leave', ({ scenario, once }) => {
  for (const { way, go, kinds } of WAYS) {
    // The last one falls silent after the guest has gone, so every timer of the guest runs out before his: a second
    // onLeave would come before the end.
    scenario(`is told once: ${way}`, async (cast) => {
      const host = await hostOf(cast, cast.room);
      const guest = await join(cast, cast.lead, 'guest', cast.room, host);
      const last = await join(cast, cast.lead, 'last', cast.room, host);
      await expectPushes(guest, onAdd('last'));
      await go(guest);
      last.freeze();
      await expectGoneQuietly(host, 'guest', 'last');

      const again = await join(cast, cast.lead, 'guest', cast.room, host, {});
      await again.leave();
      await expectGone(host, 'guest');
      await expectNothingMore(host);
      for (const client of [guest, last]) client.pushes.drain(); // what they still heard is nobody's promise
    }, kinds);
  }

  once('is told once for each client of a process that is killed', async (cast) => {
    const host = await hostOf(cast, cast.room);
    const last = await join(cast, KINDS[0], 'last', cast.room, host);
    const members = KINDS.map((kind, n) => ({ name: `guest ${n}`, kind: kind.name }));
    const holder = fork(HOLDER, [JSON.stringify({ address: cast.server.connector, room: cast.room, members })]);
    try {
      await within(event(holder, 'message'), 'the clients of the other process', 45_000);
      await expectPushes(host, ...members.map(({ name }) => onAdd(name)));
    } finally {
      holder.kill('SIGKILL');
    }
    last.freeze();
    await expectGoneQuietly(host, ...members.map(({ name }) => name), 'last');
    await expectNothingMore(host);
    last.pushes.drain();
  });
}, { server: { hasty: true }, concurrency: CONCURRENCY });
