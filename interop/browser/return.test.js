'use strict';

// The page comes back: after a restart of the server, after cuts, in another tab.

const assert = require('node:assert');
const { suite } = require('./lib/suite');
const { Visitor } = require('./lib/visitor');

suite('the chat page returns', (test) => {
  test('by itself when the server is killed and started again', async ({ site, visit, room }) => {
    const [alice, bob] = [await visit({ cuts: true }), await visit({ cuts: true })];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await alice.say('before');
    await bob.sees('before');

    site.killServer();
    for (const visitor of [alice, bob]) {
      await visitor.error('#banner-text', 'The connection is lost. Trying again…');
      await visitor.error('#status', 'Offline');
    }
    await alice.say('too early');
    await alice.error('#notice', 'There is no connection at the moment. Your message can be sent when it is back.');
    assert.strictEqual(await alice.page.inputValue('#text'), 'too early');

    await site.startServer();
    await bob.page.click('#banner-button'); // alice waits for her turn
    for (const visitor of [alice, bob]) {
      await visitor.$('#banner').waitFor({ state: 'hidden' });
      await visitor.error('#status', 'Connected');
      await visitor.seesNote('You are back.');
    }
    await alice.seesPeople('alice', 'bob');
    await bob.seesPeople('bob', 'alice');
    await alice.page.press('#text', 'Enter');
    await bob.sees('too early');
    assert.deepStrictEqual((await bob.messages()).map(({ text }) => text), ['before', 'too early']);
  });

  test('to its name, although the server has not noticed the cut, and unseen by the others', async ({ site, visit, room }) => {
    const { host, port } = site.server.connector;
    const alice = await visit({ cuts: true });
    await alice.join('alice', room);
    // The witness is connected past the proxy, so that the cut does not concern it.
    const witness = await visit({ url: `http://${host}:${port}/` });
    await witness.page.route('**/gate/queryEntry*', (route) => route.fulfill({ json: { code: 200, host, port } }));
    await witness.join('witness', room);
    await alice.seesPeople('alice', 'witness');

    site.proxy.abandon();
    await alice.seesNote('You are back.');
    const stranger = await visit();
    await stranger.tryToJoin('alice', room);
    await stranger.error('#join-error', `Somebody is called alice in ${room} already. Please choose another name.`);
    await alice.say('it is me');
    await witness.sees('it is me');
    assert.deepStrictEqual(await witness.$('.note').allTextContents(), [`You are in \u2068${room}\u2069`]);
    await witness.seesPeople('witness', 'alice');
  });

  test('not when another tab has taken over, unless its user asks', async ({ site, visit, room }) => {
    const alice = await visit();
    await alice.join('alice', room);
    const storage = await alice.page.evaluate(() => ({ ...sessionStorage }));
    // A tab that is duplicated has a copy of the first one's storage.
    await alice.context.addInitScript((items) => {
      for (const [key, value] of Object.entries(items)) if (!sessionStorage.getItem(key)) sessionStorage.setItem(key, value);
    }, storage);
    const copy = await Visitor.openTab(alice.context, site.url);
    await copy.$('#chat').waitFor();
    await copy.seesPeople('alice');
    await alice.error('#banner-text', 'This chat goes on in another tab or window.');
    assert.strictEqual(alice.sockets, 1);
    await copy.say('from the copy');
    await copy.sees('from the copy');

    await alice.page.click('#banner-button');
    await alice.$('#banner').waitFor({ state: 'hidden' });
    await copy.error('#banner-text', 'This chat goes on in another tab or window.');
    await alice.say('from the first');
    await alice.sees('from the first');
    assert.deepStrictEqual([alice.sockets, copy.sockets], [2, 1]);
    copy.expectNoProblems();
  });

  test('and keeps the text of a message that was cut off on its way', async ({ site, visit, room }) => {
    const alice = await visit({ cuts: true });
    await alice.join('alice', room);
    site.proxy.stall();
    await alice.say('on its way');
    assert.strictEqual(await alice.page.inputValue('#text'), '');
    site.proxy.cut();
    await alice.error('#notice', 'The connection broke; perhaps the message did not arrive.');
    assert.strictEqual(await alice.page.inputValue('#text'), 'on its way');
    await alice.seesNote('You are back.');
    await alice.page.press('#text', 'Enter');
    await alice.sees('on its way');
  });

  test('after a first attempt that finds no server', async ({ site, visit, room }) => {
    const alice = await visit({ cuts: true });
    const { target } = site.proxy;
    site.proxy.target = null;
    site.proxy.cut();
    await alice.tryToJoin('alice', room);
    await alice.error('#join-error', 'The server cannot be reached. Please try again in a moment.');
    site.proxy.target = target;
    await alice.join('alice', room);
    await alice.seesPeople('alice');
  });
});
