'use strict';

// In a large room of the real server nobody is told who comes and goes; the page knows how many are there, and lists them on demand.

const { suite } = require('./lib/suite');

suite('a large room', (test) => {
  test('is counted, listed on demand, and small again when all have left', async ({ visit, room }) => {
    const [alice, bob, carol, dan] = [await visit(), await visit(), await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await alice.seesNote('bob joined');
    await alice.seesPeople('alice', 'bob');
    await alice.$('#more').waitFor({ state: 'hidden' });

    await carol.join('carol', room);
    await alice.seesCount('3');
    await carol.seesPeople('carol', 'alice', 'bob');
    await dan.join('dan', room);
    for (const visitor of [alice, bob, carol]) await visitor.seesCount('4');
    await alice.page.click('#more-button');
    await alice.seesPeople('alice', 'bob', 'carol', 'dan');
    await alice.error('#more-button', 'Refresh');

    await dan.context.close();
    await alice.seesCount('3');
    await alice.page.click('#more-button');
    await alice.seesPeople('alice', 'bob', 'carol');
    await alice.say('we are many');
    for (const visitor of [alice, bob, carol]) await visitor.sees('we are many');

    for (const visitor of [alice, bob, carol]) await visitor.moveTo(`${room} next`);
    await alice.moveTo(room);
    await alice.seesPeople('alice');
    await alice.$('#more').waitFor({ state: 'hidden' });
  });
}, { more: ['-list', '2'] });
