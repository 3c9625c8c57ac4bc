'use strict';

const assert = require('node:assert');
const { expectNothingMore } = require('../lib/chat');
const { within } = require('../lib/expect');
const { suite } = require('../lib/suite');

suite('stop', ({ scenario }) => {
  // Once per server: there is nothing left for a second time.
  const leads = ['ws'];

  scenario('closes every connection and ends with 0', async (cast) => {
    const people = await cast.gather(['alice', 'bob', 'carol', 'dave']);
    await expectNothingMore(...people);
    await Promise.all([cast.server.stop(), ...people.map((person) => within(person.closed, 'close'))]);
    for (const person of people) {
      // Who is closed last may see the others go.
      for (const { route } of person.pushes.drain()) assert.strictEqual(route, 'onLeave');
    }
  }, leads);
});
