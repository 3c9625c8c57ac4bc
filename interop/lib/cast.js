'use strict';

const assert = require('node:assert');
const { enter, expectPushes, onAdd } = require('./chat');
const { foreign } = require('./foreign');
const { JsClient } = require('./jsclient');
const { TcpClient } = require('./tcp');

// Every kind of hybrid client. A scenario is played once for each of them in the lead; the others follow in turn, so that
// all kinds meet in one room, each in every part. plainOnly: it knows neither dictionary nor protobuf.
const KINDS = {
  ws: JsClient,
  tcp: TcpClient,
  libpomelo2: foreign('libpomelo2', 'libpomelo2'),
  libpitaya: foreign('libpomelo2', 'libpitaya', { plainOnly: true }),
  go: foreign('go', 'go'),
  'go page': foreign('go', 'go page'),
  python: foreign('python', 'python'),
};

// namesOf is which of them a server with or without -config has.
const namesOf = ({ config }) => Object.keys(KINDS).filter((name) => !config || !KINDS[name].plainOnly);

function ledBy(lead, names) {
  const at = names.indexOf(lead);
  return [...names.slice(at), ...names.slice(0, at)].map((name) => KINDS[name]);
}

// Of the many socket.io kinds one takes every other part, and the hybrid kinds the rest.
const withCompany = (lead, names) => names.flatMap((name) => (lead.connect ? [lead, KINDS[name]] : [KINDS[name]]));

let rooms = 0;

// Cast is the clients of one scenario: it makes them, and at the end nobody may have a push that nobody expected.
class Cast {
  #kinds;
  #clients = [];
  #made = 0;
  // room is one that no other scenario uses, so names are free.
  room = `room${++rooms}`;

  // lead is a name of KINDS, a kind of its own, a list of kinds, or anything else that a test is about; that takes no
  // part by itself.
  constructor(server, lead) {
    this.server = server;
    this.lead = lead;
    const names = namesOf(server.options);
    this.#kinds = KINDS[lead] ? ledBy(lead, names) : lead.kinds ?? withCompany(lead, names);
  }

  // connect makes the next client, by default to the connector.
  connect(address = this.server.connector) {
    const kind = this.#kinds[this.#made++ % this.#kinds.length];
    return this.connectAs(kind, address);
  }

  // connectAs is for what concerns one kind only.
  async connectAs(kind, address, options) {
    const client = await kind.connect(address, options);
    this.#clients.push(client);
    return client;
  }

  // gather connects one client for each name and lets them enter the room one after the other.
  async gather(names, room = this.room) {
    const present = [];
    for (const name of names) {
      const client = await this.connect();
      const answer = await enter(client, name, room);
      present.push(client);
      assert.deepStrictEqual(answer, { users: names.slice(0, present.length) });
      for (const other of present.slice(0, -1)) await expectPushes(other, onAdd(name));
    }
    return present;
  }

  expectAllRead() {
    for (const client of this.#clients) {
      const who = client.user?.name ?? 'a client';
      assert.deepStrictEqual(client.pushes.unread, [], `unexpected pushes at ${who}`);
      assert.deepStrictEqual(client.faults, [], `faults at ${who}`);
    }
  }

  async leave() {
    await Promise.all(this.#clients.map((client) => client.leave()));
  }
}

module.exports = { Cast, KINDS, namesOf };
