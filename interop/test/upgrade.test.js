'use strict';

const assert = require('node:assert');
const { enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { everybodyWith } = require('../lib/sio/kinds');
const { suite } = require('../lib/suite');

const UPGRADES = 3;

// chat has some say something, one after the other, and everybody hears it.
async function chat(people, speakers, text) {
  for (const speaker of speakers) {
    const { name } = speaker.user;
    assert.deepStrictEqual(await send(speaker, `${text} ${name}`), {});
    for (const person of people) await expectPushes(person, onChat(`${text} ${name}`, name));
  }
}

// The process is replaced again and again while clients of every kind are in a room, and none of them notices: nobody is disconnected, all hear the same, once
// and in order, and who comes and goes is told as ever.
suite('upgrade', ({ once, variant }) => {
  once('nobody notices, of any kind', async (cast) => {
    const people = [];
    const names = [];
    for (const kind of everybodyWith(variant)) {
      const person = await cast.connectAs(kind, cast.server.connector);
      names.push(`${names.length} ${kind.name}`);
      assert.deepStrictEqual(await enter(person, names.at(-1), cast.room), { users: names });
      for (const other of people) await expectPushes(other, onAdd(names.at(-1)));
      people.push(person);
    }
    for (let n = 0; n < UPGRADES; n++) {
      await chat(people, people.filter((_, i) => i % UPGRADES === n), `before ${n}`);
      assert.match(await cast.server.upgrade(), /connections moved, 0 closed/);
    }
    await chat(people, people.filter((_, i) => i % UPGRADES === 0), 'after');
    const gone = people.pop();
    await gone.leave();
    for (const person of people) await expectPushes(person, onLeave(gone.user.name));
    const late = await cast.connect();
    await enter(late, 'late', cast.room);
    for (const person of people) await expectPushes(person, onAdd('late'));
    await expectNothingMore(...people, late);
  });
});
