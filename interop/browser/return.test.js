'use strict';

// The page comes back: after a restart of the server, after cuts, in another tab.

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { operate, tokensFile } = require('../lib/operator');
const { playServer } = require('./lib/played');
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
    await bob.returnsNow(); // alice waits for her turn
    for (const visitor of [alice, bob]) {
      await visitor.$('#banner').waitFor({ state: 'hidden' });
      await visitor.error('#status', 'Connected');
      await visitor.seesNote('You were away');
    }
    await alice.error('#notice', 'The connection is back. Press Enter to send your message.');
    await alice.seesPeople('alice', 'bob');
    await bob.seesPeople('bob', 'alice');
    await alice.page.press('#text', 'Enter');
    await bob.sees('too early');
    await alice.error('#notice', '');
    assert.deepStrictEqual((await bob.messages()).map(({ text }) => text), ['before', 'too early']);
    // Both have stayed, so neither has joined.
    const notes = [`You are in \u2068${room}\u2069`, 'You were away. Some of what was said meanwhile may be missing'];
    assert.deepStrictEqual(await alice.$('.note').allTextContents(), [notes[0], '\u2068bob\u2069 joined', notes[1]]);
    assert.deepStrictEqual(await bob.$('.note').allTextContents(), notes);
  });

  test('and tells who has not come back, and who is new', async ({ site, visit, room }) => {
    const [alice, bob, carol] = [await visit({ cuts: true }), await visit({ cuts: true }), await visit({ cuts: true })];
    await alice.page.clock.install();
    await alice.join('alice', room);
    await bob.join('bob', room);
    await carol.join('carol', room);
    await alice.seesNote('bob and carol joined');
    site.killServer();
    await carol.page.close();
    await alice.error('#status', 'Offline');
    await site.startServer();
    await alice.seesNote('You were away');
    await alice.seesPeople('alice', 'bob');
    const dave = await visit();
    await dave.join('dave', room);
    await alice.seesNote('dave joined');
    await alice.page.clock.fastForward(60_000);
    await alice.seesNote('carol left');
    const notes = (await alice.$('.note').allTextContents()).map((note) => note.replace(/[\u2068\u2069]/g, ''));
    assert.deepStrictEqual(notes.slice(-3), ['You were away. Some of what was said meanwhile may be missing', 'dave joined', 'carol left']);
    await bob.page.click('[data-action="leave"]');
    await alice.seesNote('carol and bob left');
    const again = await visit();
    await again.join('bob', room);
    await alice.seesNote('bob joined');
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
    await alice.seesNote('You were away');
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
    const { target } = site.proxy;
    site.proxy.target = null; // it is back only when what it says first has been seen
    site.proxy.cut();
    await alice.error('#notice', 'The connection broke; perhaps the message did not arrive.');
    assert.strictEqual(await alice.page.inputValue('#text'), 'on its way');
    site.proxy.target = target;
    await alice.seesNote('You were away');
    await alice.error('#notice', 'The connection is back. If your message is not above, press Enter to send it again.');
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
    await alice.page.press('#name', 'End');
    await alice.page.keyboard.type('!');
    await alice.error('#join-error', ''); // whoever changes something has read it
    await alice.join('alice', room);
    await alice.seesPeople('alice');
  });

  test('leaves no error in the dialog that was open meanwhile', async ({ site, visit, room }) => {
    const alice = await visit({ cuts: true });
    await alice.join('alice', room);
    const { target } = site.proxy;
    site.proxy.target = null;
    site.proxy.cut();
    await alice.error('#status', 'Offline');
    await alice.switchTo(`${room} next`);
    await alice.error('#room-error', 'The server cannot be reached. Please try again in a moment.');
    site.proxy.target = target;
    await alice.error('#status', 'Connected');
    await alice.error('#room-error', '');
  });

  test('after a kick and a server that was away, with a button that says what it does', async ({ site, visit, room }) => {
    const alice = await visit({ cuts: true });
    const server = await playServer(alice.page, { users: ['alice'] });
    await alice.join('alice', room);
    server.kick('enough');
    await alice.error('#banner-text', 'You were removed: enough');
    await alice.page.unroute('**/gate/queryEntry*');
    const { target } = site.proxy;
    site.proxy.target = null;
    site.proxy.cut();
    await alice.page.click('#banner-button');
    await alice.error('#banner-text', 'The server cannot be reached. Please try again in a moment.');
    await alice.error('#banner-button', 'Join again');
    site.proxy.target = target;
    await alice.page.click('#banner-button');
    await alice.error('#status', 'Connected');
    await alice.$('#banner').waitFor({ state: 'hidden' });
  });

  test('and shows what was said before it came, and while it was away, where everybody may read', async ({ site, visit, room }) => {
    const { host, port } = site.server.connector;
    const alice = await visit({ cuts: true });
    const open = `open ${room}`;
    await alice.join('alice', open);
    const bob = await visit({ url: `http://${host}:${port}/` }); // past the proxy: the cut does not concern him
    await bob.page.route('**/gate/queryEntry*', (route) => route.fulfill({ json: { code: 200, host, port } }));
    await bob.join('bob', open);
    for (const text of ['one', 'two']) {
      await bob.say(text);
      await alice.sees(text);
    }
    const { target } = site.proxy;
    site.proxy.target = null;
    site.proxy.cut();
    await alice.error('#status', 'Offline');
    await bob.say('three');
    await bob.sees('three');
    site.proxy.target = target;
    await alice.sees('three');
    await bob.say('four');
    await alice.sees('four');
    const rows = await alice.$('.row .text, .note').allTextContents();
    assert.deepStrictEqual(rows.slice(-5), ['one', 'two', 'You were away', 'three', 'four']);
    const carol = await visit();
    await carol.join('carol', open);
    await carol.sees('four');
    assert.deepStrictEqual((await carol.messages()).map(({ who, text }) => [who, text]), ['one', 'two', 'three', 'four'].map((text) => ['bob', text]));
  });

  test('and takes away what was deleted, also while it was away', async ({ site, visit, room }) => {
    const { host, port } = site.server.connector;
    const alice = await visit({ cuts: true });
    await alice.join('alice', room);
    const bob = await visit({ url: `http://${host}:${port}/` }); // past the proxy: the cut does not concern him
    await bob.page.route('**/gate/queryEntry*', (route) => route.fulfill({ json: { code: 200, host, port } }));
    await bob.join('bob', room);
    for (const text of ['one', 'two', 'three']) {
      await bob.say(text);
      for (const visitor of [alice, bob]) await visitor.sees(text);
    }
    const [one, two] = await alice.$('.row').evaluateAll((rows) => rows.map((row) => row.dataset.seq));
    await operate(site.server, 'delete', { room, seq: two });
    for (const visitor of [alice, bob]) await visitor.row('two').waitFor({ state: 'detached' });
    const { target } = site.proxy;
    site.proxy.target = null;
    site.proxy.cut();
    await alice.error('#status', 'Offline');
    await operate(site.server, 'delete', { room, seq: one });
    await bob.row('one').waitFor({ state: 'detached' });
    await bob.say('four');
    site.proxy.target = target;
    await alice.sees('four');
    await alice.row('one').waitFor({ state: 'detached' });
    assert.deepStrictEqual((await alice.messages()).map(({ text }) => text), ['three', 'four']);
  });

  test('after a restart without a gap, where messages are on disk, and nobody has joined', async ({ site, visit, room }) => {
    const [alice, bob] = [await visit({ cuts: true }), await visit({ cuts: true })];
    await alice.join('alice', `open ${room}`);
    await bob.join('bob', `open ${room}`);
    await alice.seesNote('bob joined');
    await alice.say('before');
    await bob.sees('before');
    await site.restartServer();
    for (const visitor of [alice, bob]) await visitor.seesNote('You were away');
    await alice.seesPeople('alice', 'bob');
    await bob.say('after');
    await alice.sees('after');
    const rows = await alice.$('.row .text, .note').allTextContents();
    assert.deepStrictEqual(rows.map((text) => text.replace(/[\u2068\u2069]/g, '')), [`You are in open ${room}`, 'bob joined', 'before', 'You were away', 'after']);
  });
}, { more: ['-admin-token-file', tokensFile(), '-history-open', 'open *', '-history-dir', fs.mkdtempSync(path.join(os.tmpdir(), 'pomelod-history-'))] });
