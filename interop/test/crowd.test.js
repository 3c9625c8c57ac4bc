'use strict';

const assert = require('node:assert');
const { REFUSED, ROUTES, expectNothingMore } = require('../lib/chat');
const { EVERYBODY } = require('../lib/sio/kinds');
const { sioSuite } = require('../lib/sio/suite');
const { suite } = require('../lib/suite');

const WALKERS = 24;
const STEPS = 30;
const ROOMS = 3;

// Walker goes from room to room and keeps its own list of who is there: the answer of enter, and from then on every
// onAdd and onLeave. A push lost, doubled, misplaced or out of order makes the list wrong.
class Walker {
  #client;
  #queuePush;
  present = null;

  constructor(client) {
    this.#client = client;
    this.#queuePush = client.pushed.bind(client);
    client.pushed = (route, body) => this.#pushed(route, body);
  }

  enter(name, room) {
    return new Promise((resolve) => {
      this.#client.sendRequest(ROUTES.enter, { username: name, rid: room }, (answer) => {
        if (answer.users) this.#entered(name, room, answer.users);
        resolve(answer);
      });
    });
  }

  #entered(name, room, users) {
    this.#client.user = { name, room };
    this.present = new Set(users);
    assert.strictEqual(this.present.size, users.length, `doubles in ${users}`);
    assert.strictEqual(users.at(-1), name, 'the newest is last');
  }

  #pushed(route, body) {
    if (route === 'onAdd') {
      assert.ok(!this.present.has(body.user), `onAdd of ${body.user}, who is there`);
      this.present.add(body.user);
    } else if (route === 'onLeave') {
      assert.ok(this.present.delete(body.user), `onLeave of ${body.user}, who is not there`);
    } else {
      this.#queuePush(route, body);
    }
  }
}

const scenarios = ({ scenario }) => {
  for (const pace of ['one step at a time', 'all steps at once']) {
    scenario(`keeps every list true, ${pace}`, async (cast) => {
      const clients = await Promise.all(Array.from({ length: WALKERS }, () => cast.connect()));
      const walkers = clients.map((client) => new Walker(client));
      await Promise.all(walkers.map((walker, n) => walk(walker, stepsOf(n, cast.room), pace === 'all steps at once')));
      await expectNothingMore(...clients);

      for (const room of roomsOf(cast.room)) {
        const here = clients.filter((client) => client.user.room === room);
        const names = here.map((client) => client.user.name).sort();
        for (const client of here) {
          assert.deepStrictEqual([...walkers[clients.indexOf(client)].present].sort(), names, room);
        }
      }
    });
  }
};

// They walk faster than people.
const server = { more: ['-enter-rate', '1000:1000'] };

suite('crowd', scenarios, { server });
sioSuite('crowd', scenarios, { leads: [EVERYBODY], server });

const roomsOf = (prefix) => Array.from({ length: ROOMS }, (_, n) => `${prefix}-${n}`);

// stepsOf differs from walker to walker; every third walker stays and changes only its name, and every fifth step is
// refused.
function stepsOf(walker, prefix) {
  const rooms = roomsOf(prefix);
  return Array.from({ length: STEPS }, (_, step) => {
    if (step % 5 === 4) return ['', rooms[0]];
    const moves = step - Math.floor(step / 5);
    return [`walker${walker}-${moves % 2}`, rooms[(walker * 7 + moves * ((walker % 3) + 1)) % ROOMS]];
  });
}

async function walk(walker, steps, atOnce) {
  const answers = [];
  for (const [name, room] of steps) {
    const answer = walker.enter(name, room);
    answers.push(answer);
    if (!atOnce) await answer;
  }
  for (const [n, answer] of (await Promise.all(answers)).entries()) {
    if (steps[n][0] === '') assert.deepStrictEqual(answer, REFUSED);
    else assert.ok(answer.users, `step ${n}: ${JSON.stringify(answer)}`);
  }
}
