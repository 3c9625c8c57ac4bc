'use strict';

// Ten thousand people, ten thousand messages: the page stays fast, and its document small. The server is played by the
// test, which can say so much at once.

const assert = require('node:assert');
const { once } = require('node:events');
const { WebSocketServer } = require('ws');
const { suite } = require('./lib/suite');

const PEOPLE = 10_000;
const MESSAGES = 10_000;
const BATCH = 100; // messages in a frame, as pomelod merges them
const MAX_ROWS = 3_000; // of messages, in the document
const MAX_PEOPLE_ROWS = 40;
// Generous: a busy machine with two cores must make it. Without the lists' limits it takes minutes.
const PATIENCE_MS = 20_000;
const LONG_TASK_MS = 1_000;

suite('a crowd', (test) => {
  test('of ten thousand is listed, found, and comes and goes', async ({ visit, room }) => {
    const alice = await visit();
    const names = Array.from({ length: PEOPLE }, (_, n) => `guest ${n}`);
    const server = await playServer(alice.page, [...names, 'alice']);
    await alice.join('alice', room);
    const tasks = await longTasks(alice.page);
    await alice.$('.people-head .people-count', { hasText: '10,001' }).waitFor();
    await alice.person('guest 0').waitFor();
    assert.ok((await alice.$('.person').count()) <= MAX_PEOPLE_ROWS);

    await alice.$('#list').evaluate((list) => (list.scrollTop = list.scrollHeight));
    await alice.person('guest 9999').waitFor();
    assert.strictEqual(await alice.person('guest 9999').getAttribute('aria-posinset'), String(PEOPLE + 1));
    assert.strictEqual(await alice.person('guest 9999').getAttribute('aria-setsize'), String(PEOPLE + 1));
    await alice.page.fill('#filter', 'guest 4321');
    await alice.person('guest 4321').waitFor();
    assert.strictEqual(await alice.$('.person').count(), 1);
    await alice.page.fill('#filter', '');

    const leaving = names.slice(0, 5_000).map((user) => push('onLeave', { route: 'onLeave', user }));
    server.send(leaving);
    await alice.$('.people-head .people-count', { hasText: '5,001' }).waitFor();
    server.send(leaving.map((_, n) => push('onAdd', { route: 'onAdd', user: `new ${n}` })));
    await alice.$('.people-head .people-count', { hasText: '10,001' }).waitFor();
    await alice.seesNote('guest 0, guest 1, guest 2 and 4,997 others left');
    await alice.seesNote('new 0, new 1, new 2 and 4,997 others joined');
    assert.ok((await alice.$('.person').count()) <= MAX_PEOPLE_ROWS);
    assertQuick(await tasks());
  });

  test('that says ten thousand things is shown in seconds, in a document of bounded size', async ({ visit, room }) => {
    const alice = await visit();
    const server = await playServer(alice.page, ['bob', 'alice']);
    await alice.join('alice', room);
    const tasks = await longTasks(alice.page);
    const since = Date.now();
    server.send(Array.from({ length: MESSAGES }, (_, n) => push('onChat', { msg: `message ${n}`, from: 'bob', target: '*' })));
    await alice.row(`message ${MESSAGES - 1}`).waitFor({ timeout: PATIENCE_MS });
    assert.ok(Date.now() - since < PATIENCE_MS);
    assert.ok((await alice.$('.row').count()) <= MAX_ROWS);
    assert.ok(await alice.row(`message ${MESSAGES - 1}`).isVisible());
    assertQuick(await tasks());

    // Whoever reads further up stays there, and is told.
    await alice.$('#log').evaluate((log) => (log.scrollTop = log.scrollHeight / 2));
    await alice.page.waitForFunction(() => document.getElementById('log').scrollTop < document.getElementById('log').scrollHeight / 1.5);
    server.send([push('onChat', { msg: 'one more', from: 'bob', target: '*' }), push('onChat', { msg: 'and another', from: 'bob', target: '*' })]);
    await alice.$('#newer', { hasText: '2 new messages' }).waitFor();
    await alice.page.click('#newer');
    await alice.$('#newer').waitFor({ state: 'hidden' });
    await alice.page.waitForFunction(() => {
      const { scrollTop, scrollHeight, clientHeight } = document.getElementById('log');
      return scrollHeight - scrollTop - clientHeight < 2;
    });
  });
});

// playServer answers in place of the server, for as long as the page is open. The room has users in it; send(messages)
// tells the page, as pomelod would.
async function playServer(page, users) {
  const listener = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(listener, 'listening');
  const address = { host: '127.0.0.1', port: listener.address().port };
  await page.route('**/gate/queryEntry*', (route) => route.fulfill({ json: { code: 200, ...address } }));
  page.on('close', () => listener.close());
  const server = {};
  listener.on('connection', (socket) => {
    server.send = (messages) => {
      for (let at = 0; at < messages.length; at += BATCH) socket.send(Buffer.concat(messages.slice(at, at + BATCH)));
    };
    socket.on('message', (bytes) => {
      const [type] = bytes;
      if (type === 1) socket.send(pack(1, Buffer.from(JSON.stringify({ code: 200, sys: {} }))));
      if (type === 4) socket.send(pack(4, Buffer.concat([Buffer.of(2 << 1, bytes[5]), Buffer.from(JSON.stringify({ users }))])));
    });
  });
  return server;
}

function pack(type, body) {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  head[0] = type;
  return Buffer.concat([head, body]);
}

function push(route, body) {
  return pack(4, Buffer.concat([Buffer.of(3 << 1, route.length), Buffer.from(route), Buffer.from(JSON.stringify(body))]));
}

// longTasks measures from now on: how long, in milliseconds, each task took that held up the page.
async function longTasks(page) {
  await page.evaluate(() => {
    window.tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' });
  });
  return () => page.evaluate(() => tasks);
}

function assertQuick(tasks) {
  assert.ok(Math.max(0, ...tasks) < LONG_TASK_MS, `tasks took ${tasks.map(Math.round)} ms`);
}
