'use strict';

const assert = require('node:assert');
const { enter, expectNothingMore, expectPushes, onAdd, onChat, send } = require('../../lib/chat');
const { KINDS } = require('../../lib/sio/kinds');
const { expectCounts, readCounts } = require('../../lib/sio/metrics');
const { sioSuite } = require('../../lib/sio/suite');

const CLIENTS = 3;
const MESSAGES = 3;

// talk lets everybody send and everybody read, so that an upgrade would have had its time.
async function talk(people) {
  for (let n = 0; n < MESSAGES; n++) {
    for (const person of people) {
      assert.deepStrictEqual(await send(person, `${n}`), {});
      for (const listener of people) await expectPushes(listener, onChat(`${n}`, person.user.name));
    }
  }
  await expectNothingMore(...people);
}

async function gather(cast, kind) {
  const people = [];
  for (let n = 0; n < CLIENTS; n++) {
    const client = await cast.connectAs(kind, cast.server.connector);
    await enter(client, `${n}`, `${cast.room} ${kind.name}`);
    for (const person of people) await expectPushes(person, onAdd(`${n}`));
    people.push(client);
  }
  return people;
}

function tally(kinds) {
  const sessions = {};
  for (const { counted } of kinds) sessions[counted] = (sessions[counted] ?? 0) + CLIENTS;
  return sessions;
}

// The server's own count says which transport a session is on: that a client was told to poll proves nothing.
sioSuite('counts', ({ scenario, once }) => {
  scenario('has each session under its transport, and an upgrade only where one is due', async (cast) => {
    const { lead } = cast;
    const before = await readCounts(cast.server);
    assert.deepStrictEqual(before.sessions, {}, 'somebody is left over');
    const people = await gather(cast, lead);
    await talk(people);
    if (lead.upgrades) await Promise.all(people.map((person) => person.upgraded));
    const upgrades = before.upgrades + (lead.upgrades ? CLIENTS : 0);
    await expectCounts(cast.server, { sessions: tally([lead]), upgrades });
    await talk(people);
    await expectCounts(cast.server, { sessions: tally([lead]), upgrades });

    await Promise.all(people.map((person) => person.leave()));
    await expectCounts(cast.server, { sessions: {}, upgrades });
    for (const { pushes } of people) pushes.drain(); // who goes last may see the others go
  });

  once('has all of them side by side', async (cast) => {
    const { upgrades } = await readCounts(cast.server);
    for (const kind of KINDS) {
      const people = await gather(cast, kind);
      await talk(people);
      if (kind.upgrades) await Promise.all(people.map((person) => person.upgraded));
    }
    const upgraded = CLIENTS * KINDS.filter((kind) => kind.upgrades).length;
    await expectCounts(cast.server, { sessions: tally(KINDS), upgrades: upgrades + upgraded });
  });
}, { concurrency: 1 });
