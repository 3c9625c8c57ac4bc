'use strict';

const assert = require('node:assert');
const { KINDS: HYBRID_KINDS } = require('../../lib/cast');
const { enter, expectNothingMore, send } = require('../../lib/chat');
const { KINDS, kindNamed } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');
const { VARIANTS } = require('../../lib/suite');

const UPGRADING = KINDS.filter((kind) => kind.upgrades);
const WAVES = 4;
const PER_WAVE = 8;
const IN_FLIGHT = 8; // requests each gunner has on its way
const END = 'cease fire';

// Gunners are there from the first to the last message, each on a wire that changes nothing.
const GUNNERS = [HYBRID_KINDS.ws, HYBRID_KINDS.tcp, kindNamed('4.7 websocket'), kindNamed('0.9 websocket')];

// Gunner sends numbered messages without a pause until it is stopped.
class Gunner {
  fired = 0;
  #stopped = false;

  constructor(client) {
    this.client = client;
    this.done = Promise.all(Array.from({ length: IN_FLIGHT }, () => this.#fire()));
  }

  stop() {
    this.#stopped = true;
    return this.done;
  }

  async #fire() {
    while (!this.#stopped) assert.deepStrictEqual(await send(this.client, `${this.fired++} 😀é`), {});
  }
}

// recruit connects by polling, enters at once, talks at once, and has upgraded some time during all this.
async function recruit(cast, kind, name) {
  const client = await cast.connectAs(kind, cast.server.connector);
  const upgraded = client.upgraded;
  const answers = [];
  client.batch(() => {
    answers.push(enter(client, name, cast.room));
    for (const n of [0, 1, 2]) answers.push(send(client, `${name} ${n}`));
  });
  const [{ users }, ...sent] = await Promise.all(answers);
  assert.ok(users.includes(name), name);
  assert.deepStrictEqual(sent, [{}, {}, {}]);
  // Its pushes up to here were not before its answer: the first thing it saw is the answer of enter.
  assert.strictEqual(client.trace[0], 'answer');
  await upgraded;
  assert.deepStrictEqual(await send(client, `${name} upgraded`), {});
  return client;
}

// hear returns everything up to the last message.
async function hear(client) {
  const pushes = [];
  do pushes.push(await client.pushes.next(`${client.user.name} has heard ${pushes.length}`));
  while (pushes.at(-1).body.msg !== END);
  return pushes.map((push) => JSON.stringify(push));
}

// since is the part of everything that somebody hears who enters as name.
const since = (name, all) => all.slice(1 + all.findIndex((push) => push === JSON.stringify(added(name))));
const added = (user) => ({ route: 'onAdd', body: { route: 'onAdd', user } });

sioSuite('upgrade under fire', ({ once }) => {
  once('loses, doubles and reorders nothing at anybody', async (cast) => {
    const gunners = [];
    for (const [n, kind] of GUNNERS.entries()) {
      const client = await cast.connectAs(kind, cast.server.connector);
      await enter(client, `gunner ${n}`, cast.room);
      gunners.push(client);
    }
    const [first] = gunners;
    for (const n of [1, 2, 3]) assert.deepStrictEqual(await first.pushes.next('an onAdd'), added(`gunner ${n}`));
    for (const n of [2, 3]) assert.deepStrictEqual(await gunners[1].pushes.next('an onAdd'), added(`gunner ${n}`));
    assert.deepStrictEqual(await gunners[2].pushes.next('an onAdd'), added('gunner 3'));

    const firing = gunners.map((client) => new Gunner(client));
    const recruits = [];
    for (let wave = 0; wave < WAVES; wave++) {
      const names = Array.from({ length: PER_WAVE }, (_, n) => `recruit ${wave}.${n}`);
      const kindOf = (n) => UPGRADING[n % UPGRADING.length];
      recruits.push(...(await Promise.all(names.map((name, n) => recruit(cast, kindOf(n), name)))));
    }
    await Promise.all(firing.map((gunner) => gunner.stop()));
    assert.deepStrictEqual(await send(first, END), {});

    const all = await hear(first);
    for (const [n, { fired, client }] of firing.entries()) {
      const bodies = all.map((push) => JSON.parse(push).body);
      const shots = bodies.filter(({ from, msg }) => from === `gunner ${n}` && msg !== END);
      assert.deepStrictEqual(shots.map(({ msg }) => msg), Array.from({ length: fired }, (_, k) => `${k} 😀é`));
      assert.ok(fired > recruits.length, 'this was no fire');
      if (client !== first) assert.deepStrictEqual(await hear(client), all, `gunner ${n}`);
    }
    for (const client of recruits) {
      const { name } = client.user;
      const heard = await hear(client);
      assert.deepStrictEqual(heard, since(name, all), name);
      const own = heard.map((push) => JSON.parse(push).body).filter(({ from }) => from === name);
      assert.deepStrictEqual(own.map(({ msg }) => msg), [0, 1, 2, 'upgraded'].map((what) => `${name} ${what}`));
    }
    await expectNothingMore(...gunners, ...recruits);
  });
}, { variants: VARIANTS, concurrency: 1, server: { limits: 'off' } });
