'use strict';

// Ten thousand people, ten thousand messages: the page stays fast, and its document small. The server is played by the
// test, which can say so much at once.

const assert = require('node:assert');
const { playServer, push } = require('./lib/played');
const { suite } = require('./lib/suite');

const PEOPLE = 10_000;
const MESSAGES = 10_000;
const MAX_ROWS = 3_000; // of messages, in the document
const MAX_PEOPLE_ROWS = 40;
// Generous: a busy machine with two cores must make it, which may give the page a tenth of a core. Without the lists' limits it takes minutes.
const PATIENCE_MS = 60_000;
const LONG_TASK_MS = 5_000;
const SCREENS = {
  'a desktop': { viewport: { width: 1280, height: 800 } },
  'a phone': { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
};

suite('a crowd', (test) => {
  test('of ten thousand is listed, found, and comes and goes', async ({ visit, room }) => {
    const alice = await visit();
    const names = Array.from({ length: PEOPLE }, (_, n) => `guest ${n}`);
    const server = await playServer(alice.page, { users: [...names, 'alice'] });
    await alice.join('alice', room);
    const tasks = await longTasks(alice.page);
    await alice.seesCount('10,001');
    await alice.person('guest 0').waitFor();
    assert.ok((await alice.$('.person').count()) <= MAX_PEOPLE_ROWS);

    await alice.$('#list').evaluate((list) => (list.scrollTop = list.scrollHeight));
    await alice.person('guest 9999').waitFor();
    assert.strictEqual(await alice.person('guest 9999').getAttribute('aria-posinset'), String(PEOPLE + 1));
    assert.strictEqual(await alice.person('guest 9999').getAttribute('aria-setsize'), String(PEOPLE + 1));
    await alice.page.fill('#filter', 'guest 4321');
    await alice.person('guest 4321').waitFor();
    await alice.page.waitForFunction(() => document.querySelectorAll('.person').length === 1);
    await alice.page.fill('#filter', '');

    const leaving = names.slice(0, 5_000).map((user) => push('onLeave', { route: 'onLeave', user }));
    server.send(leaving);
    await alice.seesCount('5,001');
    server.send(leaving.map((_, n) => push('onAdd', { route: 'onAdd', user: `new ${n}` })));
    await alice.seesCount('10,001');
    await alice.seesNote('guest 0, guest 1, guest 2 and 4,997 others left');
    await alice.seesNote('new 0, new 1, new 2 and 4,997 others joined');
    assert.ok((await alice.$('.person').count()) <= MAX_PEOPLE_ROWS);
    assertQuick(await tasks());
  });

  test('of ten thousand in a large room is counted, and listed by pages', async ({ visit, room }) => {
    const alice = await visit();
    const names = Array.from({ length: PEOPLE }, (_, n) => `guest ${n}`);
    let count = PEOPLE + 1;
    let pages = 0;
    const answer = (route, { after = 'i.0', limit }) => {
      if (route.endsWith('.enter')) return { users: [...names.slice(-199), 'alice'], count, more: true };
      if (!route.endsWith('.members')) return undefined;
      pages++;
      const from = Number(after.slice(2));
      const all = [...names, 'alice'];
      const next = from + limit < all.length ? `i.${from + limit}` : undefined;
      return { users: all.slice(from, from + limit), count, next };
    };
    const server = await playServer(alice.page, { users: [], answer });
    await alice.join('alice', room);
    await alice.seesCount('10,001');
    const listed = (total) => alice.page.waitForFunction((wanted) => document.querySelector('.person')?.ariaSetSize === wanted, String(total));
    await alice.person('guest 9801').waitFor();
    await listed(200);
    const tasks = await longTasks(alice.page);
    await alice.page.click('#more-button');
    await listed(700);
    await alice.person('guest 0').waitFor();
    while (pages < 21) {
      const before = pages;
      await alice.page.click('#more-button');
      await alice.page.waitForFunction(() => !document.getElementById('more-button').disabled);
      assert.strictEqual(pages, before + 1);
    }
    await listed(10_001);
    await alice.error('#more-button', 'Refresh');

    count = 10_005;
    server.send([push('onCount', { rid: room, count, joined: 4, left: 0 }), push('onCount', { rid: 'another', count: 3, joined: 1, left: 0 })]);
    await alice.seesCount('10,005');
    await alice.error('#more-button', 'Show more');
    assert.ok((await alice.$('.person').count()) <= MAX_PEOPLE_ROWS);
    assertQuick(await tasks());
  });

  test('that says ten thousand things is shown in seconds, in a document of bounded size', async ({ visit, room }) => {
    const alice = await visit();
    const server = await playServer(alice.page, { users: ['bob', 'alice'] });
    await alice.join('alice', room);
    const tasks = await longTasks(alice.page);
    server.send(Array.from({ length: MESSAGES }, (_, n) => push('onChat', { msg: `message ${n}`, from: 'bob', target: '*' })));
    await alice.row(`message ${MESSAGES - 1}`).waitFor({ timeout: PATIENCE_MS });
    assert.ok((await alice.$('.row').count()) <= MAX_ROWS);
    assertQuick(await tasks());

    // Whoever reads further up stays there, and is told.
    await alice.$('#log').hover();
    await alice.page.mouse.wheel(0, -20_000);
    await alice.$('#log').evaluate(readsAbove);
    server.send([push('onChat', { msg: 'one more', from: 'bob', target: '*' }), push('onChat', { msg: 'and another', from: 'bob', target: '*' })]);
    await alice.$('#newer', { hasText: '2 new messages' }).waitFor();
    await alice.page.click('#newer');
    await alice.$('#newer').waitFor({ state: 'hidden' });
    await alice.page.waitForFunction(atEnd);

    // What is deleted before it was seen is not waiting there any more.
    await alice.$('#log').hover();
    await alice.page.mouse.wheel(0, -20_000);
    await alice.$('#log').evaluate(readsAbove);
    const spam = (n) => push('onChat', { msg: `spam ${n}`, from: 'eve', target: '*', rid: room, seq: `i.${n}`, time: 1_700_000_000_000 });
    const deleted = (of) => push('onDelete', { deleted: `i.${of}`, rid: room, seq: `i.${of + 10}`, time: 1_700_000_000_000 });
    server.send([spam(1), spam(2)]);
    await alice.$('#newer', { hasText: '2 new messages' }).waitFor();
    server.send([deleted(1)]);
    await alice.$('#newer', { hasText: '1 new message' }).waitFor();
    server.send([deleted(2)]);
    await alice.$('#newer').waitFor({ state: 'hidden' });
  });

  for (const [where, options] of Object.entries(SCREENS)) {
    test(`is followed to its last word on ${where}, and left by hand only`, async ({ visit, room }) => {
      const alice = await visit(options);
      const server = await playServer(alice.page, { users: ['bob', 'alice'] });
      await alice.join('alice', room);
      let said = 0;
      const say = (count) => server.send(Array.from({ length: count }, () => chat(`${++said} ${'word '.repeat((said * 7) % 40)}`.trim())));
      const hears = (number) => alice.row(new RegExp(`^${number}( |$)`)).waitFor();
      // Twenty-five at a time: rows of every height, and chunks that are laid out for the first time.
      for (let n = 0; n < 20; n++) {
        say(25);
        await hears(said);
      }
      await alice.page.waitForFunction(atEnd);
      await alice.$('#newer').waitFor({ state: 'hidden' });
      await alice.page.setViewportSize({ width: options.viewport.width, height: 500 }); // as a keyboard on a screen does
      await alice.page.waitForFunction(() => innerHeight === 500);
      await alice.page.waitForFunction(atEnd);

      for (const [how, scroll] of Object.entries(hands(options))) {
        await scroll(alice);
        await alice.$('#log').evaluate(readsAbove);
        say(3);
        await alice.$('#newer', { hasText: '3 new messages' }).waitFor();
        assert.ok(!(await alice.page.evaluate(atEnd)), how);
        await alice.page.click('#newer');
        await alice.page.waitForFunction(atEnd);
        say(1);
        await hears(said);
        await alice.page.waitForFunction(atEnd);
        await alice.$('#newer').waitFor({ state: 'hidden' });
      }
    });
  }
});

// hands are the ways in which a user scrolls up.
function hands({ hasTouch }) {
  if (hasTouch) {
    return {
      touch: async ({ page }) => {
        const session = await page.context().newCDPSession(page);
        const touch = (type, y) => session.send('Input.dispatchTouchEvent', { type, touchPoints: y ? [{ x: 150, y }] : [] });
        await touch('touchStart', 150);
        for (let y = 150; y <= 400; y += 25) await touch('touchMove', y);
        await touch('touchEnd');
      },
    };
  }
  return {
    wheel: async ({ page }) => {
      await page.locator('#log').hover();
      await page.mouse.wheel(0, -1_000);
    },
    key: async ({ page }) => {
      await page.focus('#log');
      for (let n = 0; n < 3; n++) await page.keyboard.press('PageUp');
    },
    scrollbar: async ({ page }) => {
      const { x, y, width, height } = await page.locator('#log').boundingBox();
      const right = x + width - 5;
      await page.mouse.move(right, y + height - 25);
      await page.mouse.down();
      await page.mouse.move(right, y + height / 2, { steps: 5 });
      await page.mouse.up();
    },
  };
}

const chat = (msg) => push('onChat', { msg, from: 'bob', target: '*' });

// atEnd and readsAbove run in the page.
function atEnd() {
  const { scrollTop, scrollHeight, clientHeight } = document.getElementById('log');
  return scrollHeight - scrollTop - clientHeight < 2;
}

// readsAbove waits until the log has come to rest above its end.
async function readsAbove(log) {
  const frame = () => new Promise(requestAnimationFrame);
  for (let still = 0, top = -1; still < 20; await frame()) {
    const above = log.scrollHeight - log.scrollTop - log.clientHeight > 100;
    still = above && log.scrollTop === top ? still + 1 : 0;
    top = log.scrollTop;
  }
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
