'use strict';

// Tries the configurations of docs/OPERATIONS.md (make try-proxies).

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const { Browser } = require('../browser/lib/chromium');
const { Visitor } = require('../browser/lib/visitor');
const { ROUTES } = require('../lib/chat');
const { readCounts } = require('../lib/sio/metrics');
const { askHttp2, countsOf, openHttp2, openPoll, openRaw, openWebSocket } = require('./callers');
const { gather, kindsFor, part, talk } = require('./chats');
const { configurationsUnder, placed } = require('./document');
const { freePorts } = require('./proxy');
const { PROXIES, Site, startServer } = require('./site');

// Each server and proxy is ended with this process, if not before.
process.setMaxListeners(0);

// Longer than any timeout that a proxy has, by itself or by the document.
const IDLE_MS = 130_000;

const TIMEOUT_MS = 60_000;

// onSite is a test with a site of its own, see Site.start.
function onSite(title, name, options, run) {
  it(title, { timeout: TIMEOUT_MS }, async () => {
    const site = await Site.start(name, options);
    try {
      await run(site);
    } catch (err) {
      const explained = site.explain(err);
      await site.stop().catch(() => {}); // the first error says more
      throw explained;
    }
    await site.stop();
  });
}

function chats(name) {
  let site;
  before(async () => {
    site = await Site.start(name);
  });
  after(() => site?.stop());

  for (const kind of kindsFor(PROXIES[name])) {
    it(`${kind.name} chats`, { timeout: TIMEOUT_MS }, async () => {
      const people = await gather(site, kind, `room of ${kind.name}`);
      await talk(people, 20);
      await part(people);
    });

    if (kind.way !== 'toConnector') continue; // there is one way for raw TCP
    it(`${kind.name} asks the gate`, { timeout: TIMEOUT_MS }, async () => {
      const visitor = await kind.connect(await site.toGate());
      const answer = await visitor.request(ROUTES.query, { uid: 'alice' });
      assert.deepStrictEqual(answer, { code: 200, host: 'chat.example.com', port: 443 });
      await visitor.leave();
    });
  }
}

function silence(name) {
  it('cuts nobody off', { timeout: IDLE_MS + TIMEOUT_MS }, async () => {
    const site = await Site.start(name);
    const rooms = await Promise.all(kindsFor(PROXIES[name]).map((kind) => gather(site, kind, `room of ${kind.name}`)));
    await pause(IDLE_MS);
    await Promise.all(rooms.map((people) => talk(people, 1).then(() => part(people))));
    await site.stop();
  });
}

// What a client may claim: an address that is nobody's here, or one that is exempt from limits, or believed.
const FORGERIES = [{}, '198.51.100.7', '127.0.0.1', '203.0.113.1, 127.0.0.9'].map((value) =>
  typeof value === 'string' ? { 'X-Forwarded-For': value } : value,
);

// With three connections for each address it shows which one the server believes.
const THREE_EACH = ['-limit-loopback', '-addr-conns', '3'];

function addresses(name) {
  const options = { flags: THREE_EACH };

  onSite('of WebSockets are the real ones', name, options, async (site) => {
    const [here, there] = [await site.toConnector('127.0.0.71'), await site.toConnector('127.0.0.72')];
    for (const headers of FORGERIES.slice(0, 3)) await openWebSocket(here, headers);
    for (const headers of FORGERIES) await assert.rejects(openWebSocket(here, headers), /429/);
    await openWebSocket(there);
    assert.deepStrictEqual(await countsOf(site.server), { addresses: 2, refused: FORGERIES.length, named: ['127.0.0.71'] });
  });

  onSite('of clients that poll are the real ones', name, options, async (site) => {
    const [here, there] = [await site.toConnector('127.0.0.73'), await site.toConnector('127.0.0.74')];
    for (const headers of FORGERIES.slice(0, 3)) assert.strictEqual(await openPoll(here, headers), 200);
    for (const headers of FORGERIES) assert.strictEqual(await openPoll(here, headers), 429);
    assert.strictEqual(await openPoll(there), 200);
    assert.deepStrictEqual(await countsOf(site.server), { addresses: 2, refused: FORGERIES.length, named: ['127.0.0.73'] });
  });

  onSite('are not believed of who comes without the proxy', name, options, async (site) => {
    const direct = { ...site.server.connector, localAddress: '127.0.0.75' };
    for (const headers of FORGERIES.slice(0, 3)) await openWebSocket(direct, headers);
    await assert.rejects(openWebSocket(direct, { 'X-Forwarded-For': '198.51.100.8' }));
    await assert.rejects(openRaw(direct, FORGED_LINE));
    assert.deepStrictEqual(await countsOf(site.server), { addresses: 1, refused: 2, named: ['127.0.0.75'] });
    // The address that is believed by PROXY header has to send one.
    await assert.rejects(openRaw({ ...direct, localAddress: '127.0.0.9' }));
  });
}

const FORGED_LINE = 'PROXY TCP4 198.51.100.8 127.0.0.1 5 6\r\n';

function rawAddresses(title, name, change) {
  onSite(title, name, { flags: THREE_EACH, change }, async (site) => {
    const [here, there] = [await site.toRaw('127.0.0.76'), await site.toRaw('127.0.0.77')];
    for (let i = 0; i < 3; i++) await openRaw(here);
    for (let i = 0; i < 3; i++) await assert.rejects(openRaw(here));
    await openRaw(there);
    await assert.rejects(openRaw(there, FORGED_LINE));
    assert.deepStrictEqual(await countsOf(site.server), { addresses: 2, refused: 3, named: ['127.0.0.76'] });
  });
}

const POLL = { ':path': '/socket.io/?EIO=4&transport=polling', 'x-forwarded-for': '198.51.100.9' };
const WEBSOCKET = {
  ':method': 'CONNECT',
  ':protocol': 'websocket',
  ':scheme': 'https',
  ':path': '/',
  'sec-websocket-version': '13',
};

function http2(name) {
  onSite('HTTP/2 carries polls, and WebSockets if it says so', name, { flags: THREE_EACH }, async (site) => {
    const [here, there] = [await openHttp2(site, '127.0.0.78'), await openHttp2(site, '127.0.0.79')];
    for (let i = 0; i < 3; i++) assert.strictEqual(await askHttp2(here, POLL), 200);
    assert.strictEqual(await askHttp2(here, POLL), 429);
    assert.strictEqual(await askHttp2(there, POLL), 200);
    if (here.remoteSettings.enableConnectProtocol) {
      assert.strictEqual(await askHttp2(here, WEBSOCKET), 429);
      assert.strictEqual(await askHttp2(there, WEBSOCKET), 200);
    }
    for (const connection of [here, there]) connection.destroy();
  });
}

function page(name) {
  onSite('shows the chat page, which chats', name, { flags: ['-origins', 'https://chat.example.com'] }, async (site) => {
    const names = `MAP *.example.com:443 127.0.0.1:${site.ports.https}`;
    const browser = await Browser.start([`--host-resolver-rules=${names}`, '--ignore-certificate-errors']);
    try {
      const open = () => Visitor.open(browser, 'https://chat.example.com/');
      const [alice, bob] = [await open(), await open()];
      await alice.join('alice', 'lobby');
      await bob.join('bob', 'lobby');
      await alice.say('Is it safe?');
      await bob.sees('Is it safe?');
      for (const visitor of [alice, bob]) visitor.expectNoProblems();
    } finally {
      await browser.stop();
    }
  });
}

function restart(name) {
  it('lets clients in again at once', { timeout: TIMEOUT_MS }, async () => {
    const [port, gate] = await freePorts(2);
    const options = { port, flags: ['-gate', `127.0.0.1:${gate}`] };
    const site = await Site.start(name, options);
    const address = await site.toConnector();
    const raw = PROXIES[name].raw && (await site.toRaw());
    const everybodyEnters = async () => {
      await openWebSocket(address);
      if (raw) await openRaw(raw);
      const answers = await Promise.all(Array.from({ length: 20 }, () => openPoll(address)));
      assert.deepStrictEqual([...new Set(answers)], [200]);
    };
    await everybodyEnters();
    await site.server.stop();
    for (let i = 0; i < 5; i++) {
      await assert.rejects(openWebSocket(address), /50[23]/);
      if (raw) await assert.rejects(openRaw(raw));
    }
    site.server = await startServer(options);
    await everybodyEnters();
    await site.stop();
  });
}

const sessionsOf = async (server) => Object.values((await readCounts(server)).sessions).reduce((sum, n) => sum + n, 0);

// What HAProxy needs at most to notice: two checks a second apart, and one that it has just made.
const NOTICED_MS = 3000;

function successor() {
  let b;
  after(() => b?.stop());

  it('refuses nobody, and all clients are at the same pomelod', { timeout: TIMEOUT_MS }, async () => {
    const [portA, portB, adminA, adminB] = await freePorts(4);
    const server = (port, admin) => ({ port, flags: ['-admin', `127.0.0.1:${admin}`, '-drain-delay', '4s'] });
    const both = placed(configurationsUnder('### HAProxy')[1], {
      'port 3005': `port ${adminA}`,
      'port 4005': `port ${adminB}`,
      '127.0.0.1:4050': `127.0.0.1:${portB}`,
    });
    const replaced = {
      'backend pomelod\n    server a 127.0.0.1:3050\n': '',
      'backend pomelod_tcp\n    mode tcp\n    server a 127.0.0.1:3050 source 127.0.0.9 send-proxy-v2\n': both,
    };
    const change = (text) => placed(text, replaced);
    const site = await Site.start('HAProxy', { ...server(portA, adminA), change });
    b = await startServer(server(portB, adminB));
    const [address, raw] = [await site.toConnector(), await site.toRaw()];
    const enter = async () => {
      await openWebSocket(address);
      assert.strictEqual(await openPoll(address), 200);
    };
    await enter();
    await openRaw(raw);
    assert.deepStrictEqual([await sessionsOf(site.server), await sessionsOf(b)], [3, 0]);

    let ended = false;
    const end = site.server.stop().finally(() => (ended = true));
    while (!ended) await enter();
    await end;
    const moved = await sessionsOf(b);
    assert.ok(moved > 0, 'nobody went to the other one');

    site.server = await startServer(server(portA, adminA));
    await pause(NOTICED_MS); // it is up again, and nobody goes there
    await enter();
    await openRaw(raw); // it does not know yet that the others have moved
    assert.strictEqual(await sessionsOf(site.server), 0);
    await site.stop();
  });
}

describe('as docs/OPERATIONS.md has it', { concurrency: 4 }, () => {
  after(() => Site.stopAll());

  for (const name of Object.keys(PROXIES)) {
    describe(`${name}: silence`, () => silence(name));
  }
  for (const name of Object.keys(PROXIES)) {
    describe(`${name}: every kind of client`, { concurrency: 4 }, () => chats(name));
    describe(`${name}: addresses`, () => addresses(name));
    describe(`${name}: a browser`, () => page(name));
    describe(`${name}: pomelod starts again`, () => restart(name));
  }
  describe('nginx: raw TCP', () => rawAddresses('addresses by PROXY protocol 1', 'nginx'));
  describe('HAProxy: raw TCP', () => {
    rawAddresses('addresses by PROXY protocol 2', 'HAProxy');
    rawAddresses('addresses by PROXY protocol 1', 'HAProxy', (text) => placed(text, { 'send-proxy-v2': 'send-proxy' }));
  });
  for (const name of ['HAProxy', 'Caddy']) describe(`${name}: HTTP/2`, () => http2(name));
  describe('HAProxy: from one pomelod to the next', () => successor());
});
