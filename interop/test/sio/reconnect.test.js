'use strict';

const assert = require('node:assert');
const { REFUSED, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../../lib/chat');
const { eventually } = require('../../lib/expect');
const { JsClient } = require('../../lib/jsclient');
const { KINDS } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

// The page of chatofpomelo never says that it does not want to be connected again, in words a client of 1.0 or later
// knows: those come back by themselves, and the page enters once more under the same name.
sioSuite('reconnect', ({ scenario }) => {
  scenario('lets the page take its name back', async (cast) => {
    const host = await cast.connectAs(JsClient, cast.server.connector);
    await enter(host, 'host', cast.room);
    const page = await cast.connectAs(cast.lead, cast.server.connector, { relay: true, reconnects: true });
    await page.connects.next('the first connect');
    assert.deepStrictEqual(await enter(page, 'alice', cast.room), { users: ['host', 'alice'] });
    await expectPushes(host, onAdd('alice'));
    await page.settled();

    await page.interrupt();
    await page.connects.next('the second connect');
    if (cast.lead.polls) {
      // Who polls and is between two polls is missed only in time.
      const again = await eventually(
        () => enter(page, 'alice', cast.room),
        (answer) => assert.notDeepStrictEqual(answer, REFUSED),
      );
      assert.deepStrictEqual(again, { users: ['host', 'alice'] });
      await expectPushes(host, onLeave('alice'));
    } else {
      await expectPushes(host, onLeave('alice')); // the old connection's end and the new one's requests have no order
      assert.deepStrictEqual(await enter(page, 'alice', cast.room), { users: ['host', 'alice'] });
    }
    await expectPushes(host, onAdd('alice'));
    assert.deepStrictEqual(await send(host, 'welcome back'), {});
    for (const person of [host, page]) await expectPushes(person, onChat('welcome back', 'host'));
    await expectNothingMore(host, page);
    await page.leave();
    await expectPushes(host, onLeave('alice'));
    await expectNothingMore(host);
  });
// Who polls tries to enter more often than a page would.
}, { server: { hasty: true, more: ['-enter-rate', '1000:1000'] }, concurrency: 12 });
