'use strict';

const assert = require('node:assert');
const { enter, expectPushes, onAdd } = require('./chat');
const { JsClient } = require('./jsclient');
const { TcpClient } = require('./tcp');

// Every kind of client. A scenario is played once for each of them in the lead; the others follow in turn, so that
// all kinds meet in one room, each in every part.
const KINDS = { ws: JsClient, tcp: TcpClient };

const ledBy = (lead) => [lead, ...Object.values(KINDS).filter((kind) => kind !== lead)];

// Of the many socket.io kinds one takes every other part, and the hybrid kinds the rest.
const withCompany = (lead) => Object.values(KINDS).flatMap((kind) => (lead.connect ? [lead, kind] : [kind]));

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
    this.#kinds = KINDS[lead] ? ledBy(KINDS[lead]) : lead.kinds ?? withCompany(lead);
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

module.exports = { Cast, KINDS };
