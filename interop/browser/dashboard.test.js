'use strict';

// The page of operators in a browser: who is let in, what it shows of those who mean harm, and what it does.

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { eventually } = require('../lib/expect');
const { TOKEN, tokensFile } = require('../lib/operator');
const { watch } = require('./lib/chromium');
const { suite } = require('./lib/suite');

const MARKUP = '<img src=x onerror=alert(1)>';
const UNSEEN = 'al\u202eice\u200b'; // turned around, and with something that nobody sees
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const AXE_TIMEOUT_MS = 300_000; // it looks at six pages, each for seconds, and on a busy machine for many
const SHOTS = process.env.DASHBOARD_SHOTS; // a folder for pictures, to look at

suite('the dashboard', (test) => {
  // withDesk(options, run) opens the page with the token, and gives run the page. ours is for watch().
  const withDesk = ({ token = true, ours, ...options }, run) => async (given) => {
    const context = await given.browser.visit(options);
    try {
      const page = await context.newPage();
      const problems = await watch(page, { ours });
      const url = `http://127.0.0.1:${given.site.server.admin.port}/dashboard/`;
      const desk = new Desk(page, url);
      if (token) {
        await page.goto(`${url}#token=${TOKEN}`);
        await desk.$('#tiles dt').first().waitFor();
      }
      await run({ ...given, desk, page, problems, url });
      assert.deepStrictEqual(problems, []);
    } finally {
      await context.close();
    }
  };

  test('lets in who has a token, and keeps it in the tab alone', withDesk({ token: false, ours: /^console: .*status of 401/ }, async ({ desk, page, url }) => {
    await page.goto(url);
    await desk.$('#login').waitFor();
    await page.fill('#token', 'another one');
    await page.click('#login-form .primary');
    await desk.sees('#login-error', 'This token is not known.');
    assert.ok(!(await desk.$('#desk').isVisible()));
    await page.fill('#token', TOKEN);
    await page.keyboard.press('Enter');
    await desk.$('#tiles dt').first().waitFor();
    await page.reload();
    await desk.$('#tiles dt').first().waitFor();
    assert.strictEqual(page.url(), url);
    await page.evaluate(() => { location.hash = '#token=another'; }); // as of a window that has ended
    await desk.$('#login').waitFor();
    await page.goto(`${url}#token=${TOKEN}`);
    await desk.$('#login').waitFor({ state: 'hidden' });
    await desk.$('#tiles dt').first().waitFor();
    assert.strictEqual(page.url(), url);
    assert.strictEqual(await page.evaluate((token) => JSON.stringify(localStorage).includes(token) || document.cookie !== '', TOKEN), false);
  }));

  test('is for no other site, name or frame', withDesk({ token: false, ours: /^(loads|console:|policy:) .*\/v1\/|^console: Failed to load resource: / }, async ({ site, browser, page, url }) => {
    const { headers } = await get(url, {});
    for (const rule of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
      assert.ok(headers['content-security-policy'].split('; ').includes(rule), rule);
    }
    for (const foreign of [{ Host: 'evil.example' }, { Origin: 'https://evil.example' }, { 'Sec-Fetch-Site': 'cross-site' }]) {
      assert.strictEqual((await get(url, foreign)).status, 403, JSON.stringify(foreign));
    }
    // The chat page is another site to it: it can neither show it nor ask it.
    await page.goto(site.url);
    const asked = await page.evaluate(async ([to, token]) => {
      const tries = [fetch(`${to}../v1/rooms`, { headers: { Authorization: `Bearer ${token}` } }), fetch(`${to}../v1/close`, { method: 'POST', body: '{}', mode: 'no-cors' })];
      return (await Promise.all(tries.map((t) => t.then((r) => r.type, () => 'refused'))));
    }, [url, TOKEN]);
    assert.strictEqual(asked[0], 'refused');
    const context = await browser.visit();
    const outside = await context.newPage();
    await outside.route('http://127.0.0.1:1/', (route) => route.fulfill({ contentType: 'text/html', body: `<iframe src="${url}"></iframe>` }));
    await outside.goto('http://127.0.0.1:1/');
    await outside.frameLocator('iframe').locator('body').waitFor({ state: 'attached' });
    assert.strictEqual(await outside.frameLocator('iframe').locator('#desk').count(), 0);
    await context.close();
  }));

  test('shows names as they are, whatever is in them', withDesk({}, async ({ desk, visit, room, page }) => {
    const place = `${room} ${MARKUP}`;
    const [mallory, eve] = [await visit(), await visit()];
    await mallory.join(MARKUP, place);
    await eve.join(UNSEEN, place);
    await desk.open('rooms');
    await page.fill('#rooms-prefix', room);
    await page.click('#rooms .primary');
    await desk.row('rooms', place).waitFor();
    await desk.row('rooms', place).locator('a').click();
    await desk.sees('#room-title', place);
    await desk.row('members', MARKUP).waitFor();
    await desk.row('members', 'alU+202EiceU+200B').waitFor();
    await desk.shot('room');
    await desk.open('users');
    await page.fill('#users-prefix', '<img');
    await page.keyboard.press('Enter');
    await desk.lists('users', MARKUP); // all users were listed before, and may be for a while
    assert.strictEqual(await page.locator('.desk img').count(), 0);
    await page.goBack();
    await desk.sees('#room-title', place);
    await desk.act('members', MARKUP, 'Kick');
    assert.strictEqual(await page.locator('#act img').count(), 0);
    await desk.sees('#act-title', `Kick ${MARKUP}`);
    await page.fill('#act-reason', MARKUP);
    await desk.confirm();
    await mallory.error('#banner-text', `You were removed: ${MARKUP}`);
    await desk.row('members', MARKUP).waitFor({ state: 'detached' });
    await desk.act('members', 'alU+202EiceU+200B', 'Kick');
    await desk.sees('#act-title', 'Kick alU+202EiceU+200B');
  }));

  test('speaks, mutes, bans, locks, closes, and lifts it again', withDesk({}, async ({ desk, visit, room, page, problems }) => {
    const [alice, bob] = [await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await page.goto(`${page.url().split('#')[0]}#/room=${room}`);
    await desk.row('members', 'bob').waitFor();
    await page.fill('#say-text', `${MARKUP} hello`);
    await page.click('#say-form .primary');
    await alice.sees(`${MARKUP} hello`);

    await desk.act('members', 'bob', 'Mute');
    await page.selectOption('#act-for', '10m');
    await desk.confirm();
    await desk.sees('#notice', 'Done.');
    await bob.say('can you hear me');
    await bob.error('#notice', 'You may not write here at present.');

    await desk.act('members', 'alice', 'Ban');
    await page.fill('#act-reason', 'spam');
    await desk.confirm();
    await alice.error('#banner-text', 'You were removed: spam');

    await page.click('#room-actions button:has-text("Lock")');
    await page.selectOption('#act-for', '');
    await desk.confirm();
    const carol = await visit();
    await carol.tryToJoin('carol', room);
    await carol.error('#join-error', `${room} is locked: nobody can enter at the moment.`);

    await desk.open('rules');
    const facts = (about) => desk.row('rules', about).locator('.facts').textContent();
    await desk.row('rules', `Ban alice`).waitFor();
    assert.match(await facts('Ban alice'), /until .*spam · by .ann \(token\)./);
    assert.match(await facts('Mute bob'), new RegExp(`in .${room}. · until `));
    assert.match(await facts(`Lock ${room}`), /until it is lifted/);
    await desk.shot('rules');
    for (const rule of [`Lock ${room}`, 'Ban alice', 'Mute bob']) {
      await desk.row('rules', rule).locator('button').click();
      await desk.row('rules', rule).waitFor({ state: 'detached' });
    }
    await carol.tryToJoin('carol', room);
    await carol.$('#chat').waitFor();

    await page.click('#rules [data-action="ban-address"]');
    await page.fill('#act-address', '127.0.0.1');
    await page.click('#act-do');
    await desk.sees('#act-error', /loopback/);
    await page.keyboard.press('Escape');

    await page.goto(`${page.url().split('#')[0]}#/room=${room}`);
    await desk.row('members', 'carol').waitFor();
    await page.click('#room-actions button:has-text("Close")');
    await desk.confirm();
    await carol.error('#banner-text', 'You were removed: kicked by an operator');
    await desk.sees('#members-list', 'There is nothing.');
    // The console says of each answer that it was no: some time after the page has it.
    await eventually(() => problems.join('\n'), (told) => assert.match(told, /^console: .*status of 400.*\nconsole: .*status of 404.*$/));
    problems.length = 0;
  }));

  test('has other limits hold in a room, and takes them back', withDesk({ ours: /^console: .*status of 400/ }, async ({ desk, visit, room, page }) => {
    const [alice, bob] = [await visit(), await visit()];
    await alice.join('alice', room);
    const open = async () => {
      await page.click('#room-actions button:has-text("Limits")');
      await desk.$('#act').waitFor();
    };
    await page.goto(`${page.url().split('#')[0]}#/room=${room}`);
    await desk.row('members', 'alice').waitFor();
    await open();
    await desk.sees('#act-hint', /^Now: .*slow 0s.*locked false/);
    await page.fill('#act-hold', '2s');
    await page.click('#act-do');
    await desk.sees('#act-error', /hold 2s: must be whole milliseconds, at most 1s/);
    await page.fill('#act-hold', '20ms');
    await page.fill('#act-members', '1');
    await page.selectOption('#act-locked', 'false');
    await desk.confirm();
    await desk.sees('#notice', 'Done.');
    await bob.tryToJoin('bob', room);
    await bob.$('#join-error:not(:empty)').waitFor();
    await open();
    await desk.sees('#act-hint', /members 1,/);
    for (const [field, value] of [['hold', '20ms'], ['members', '1'], ['locked', 'false'], ['slow', '']]) assert.strictEqual(await page.inputValue(`#act-${field}`), value, field);
    await page.fill('#act-members', '');
    await desk.confirm();
    await bob.tryToJoin('bob', room);
    await bob.$('#chat').waitFor();
    await desk.open('rules');
    const policy = desk.row('rules', `Policy ${room}`);
    await policy.waitFor();
    assert.match(await policy.locator('.facts').textContent(), /hold 20ms, locked false/);
    await policy.locator('button').click();
    await policy.waitFor({ state: 'detached' });
  }));

  test('drains a node of the fleet', withDesk({}, async ({ desk, page }) => {
    const node = { name: `chat ${MARKUP}`, run: 1, roles: ['chat'], host: 'h', sessions: 0, owns: 512, follows: 0, state: 'ok', maker: true, view: 1, silent_ms: 0 };
    await page.route('**/v1/nodes?*', (route) => route.fulfill({ json: { asked: 'a', view: 1, unguarded: 0, nodes: [node] } }));
    const asked = new Promise((resolve) => {
      page.route('**/v1/drain', (route) => {
        resolve(route.request().postDataJSON());
        return route.fulfill({ json: { scope: 'fleet', node: { ...node, state: 'draining' } } });
      });
    });
    await page.click('#fleet [data-action="drain"]');
    await desk.$('#act').waitFor();
    await desk.fits('drain');
    await desk.confirm();
    assert.deepStrictEqual(await asked, { node: node.name });
    await desk.sees('#notice', `chat ${MARKUP}: draining.`);
  }), AXE_TIMEOUT_MS);

  test('shows what a room keeps to who wants to see it, and deletes a message', withDesk({}, async ({ desk, visit, room, page }) => {
    const alice = await visit();
    await alice.join('alice', room);
    for (const text of [`one ${MARKUP}`, 'two']) {
      await alice.say(text);
      await alice.sees(text);
    }
    await page.goto(`${page.url().split('#')[0]}#/room=${room}`);
    await desk.row('members', 'alice').waitFor();
    assert.ok(!(await desk.$('#kept').isVisible()));
    await page.click('#room-actions button:has-text("Messages")');
    const facts = desk.$('#messages-list .facts');
    await facts.filter({ hasText: `one ${MARKUP}` }).waitFor();
    assert.strictEqual(await facts.count(), 2);
    assert.match(await facts.first().textContent(), /^two · /); // the newest stands first
    assert.strictEqual(await page.locator('.desk img').count(), 0);
    await desk.$('#messages-list li').last().locator('button').click();
    await desk.sees('#act-title', 'Delete a message');
    await desk.confirm();
    await desk.sees('#notice', 'Deleted: 1 message.');
    await facts.filter({ hasText: 'one' }).waitFor({ state: 'detached' });
    assert.strictEqual(await facts.count(), 1);
    await desk.fits('messages');
  }));

  test('shows long lists by pages, and asks no more than it shows', withDesk({}, async ({ desk, page }) => {
    const asked = [];
    await page.route('**/v1/sessions*', (route) => {
      const query = new URL(route.request().url()).searchParams;
      asked.push(query.toString());
      const from = Number(query.get('after') ?? 0);
      const sessions = Array.from({ length: 100 }, (_, i) => ({ name: `user${from + i}`, room: 'r', address: '192.0.2.1:5', transport: 'tcp', loop: 0 }));
      return route.fulfill({ json: { scope: 'node', sessions, next: from < 200 ? String(from + 100) : undefined } });
    });
    await desk.open('users');
    const rows = (n) => page.waitForFunction((wanted) => document.querySelectorAll('#users-list .name').length === wanted, n);
    await rows(100);
    await page.click('text=Show more');
    await rows(200);
    await page.click('text=Show more');
    await rows(300);
    await page.locator('text=Show more').waitFor({ state: 'hidden' });
    assert.deepStrictEqual(asked, ['limit=100', 'after=100&limit=100', 'after=200&limit=100']);
  }));

  test('shows the members of the room that was opened last, whichever answer comes last', withDesk({}, async ({ desk, page }) => {
    let asked;
    const slow = new Promise((resolve) => { asked = resolve; });
    await page.route(/\/v1\/room\?/, (route) => {
      const name = new URL(route.request().url()).searchParams.get('name');
      const answer = () => route.fulfill({ json: { scope: 'fleet', name, members: 1, kept: 0, users: [`bob of ${name}`] } });
      return name === 'slow' ? asked(answer) : answer();
    });
    const open = (name) => page.evaluate((place) => { location.hash = place; }, `#/room=${name}`);
    await open('slow');
    const answer = await slow;
    await open('quick');
    await desk.row('members', 'bob of quick').waitFor();
    await answer();
    await page.evaluate(() => fetch('../v1/room?name=later').then((response) => response.json())); // by then the page has heard of slow, too
    await desk.sees('#members-list .name', 'bob of quick');
    await desk.act('members', 'bob of quick', 'Kick');
    const [kick] = await Promise.all([page.waitForRequest(/\/v1\/kick$/), page.route(/\/v1\/kick$/, (route) => route.fulfill({ json: { scope: 'fleet' } })).then(() => page.click('#act-do'))]);
    assert.deepStrictEqual(kick.postDataJSON(), { name: 'bob of quick', room: 'quick', reason: 'kicked by an operator' });
    await desk.$('#act').waitFor({ state: 'hidden' });
  }));

  test('says when the server does not answer, and goes on when it does', withDesk({ ours: /^console: .*net::ERR_FAILED/ }, async ({ desk, page }) => {
    await page.route('**/v1/**', (route) => route.abort());
    await desk.sees('#trouble', 'The server does not answer. Trying again…');
    await page.unroute('**/v1/**');
    await desk.sees('#trouble', '');
  }));

  const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };
  for (const [kind, device, colorScheme, locale] of [
    ['desktop', {}, 'light', 'en-GB'], ['desktop', {}, 'dark', 'zh-CN'], ['phone', phone, 'light', 'zh-CN'], ['phone', phone, 'dark', 'en-GB'],
  ]) {
    test(`is for everybody: ${kind}, ${colorScheme}, ${locale}`, withDesk({ colorScheme, locale, ...device }, async ({ desk, visit, room, page }) => {
      const [alice, bob] = [await visit(), await visit()];
      await alice.join('alice', room);
      await bob.join(`${'long '.repeat(9)}${MARKUP.slice(0, 12)}`, room);
      // The figures stand still while axe looks at them, as they do in a tab that nobody sees.
      await page.evaluate(() => Object.defineProperty(document, 'hidden', { get: () => true }));
      for (const place of ['now', 'rooms', `room=${room}`, 'users', 'rules']) {
        const [shown] = place.split('=');
        await page.goto(`${page.url().split('#')[0]}#/${place}`);
        await desk.$(`#${shown}`).waitFor();
        if (shown !== 'now') await desk.$(`#${shown} .rows:last-of-type li`).first().waitFor();
        if (shown === 'room') await desk.row('members', 'alice').waitFor();
        await desk.fits(`${kind}-${colorScheme}-${locale}-${shown}`);
        if (shown === 'room') {
          await page.click('#room-actions button:nth-child(2)'); // limits
          await page.locator('#act').waitFor();
          await desk.fits(`${kind}-${colorScheme}-${locale}-limits`);
          await page.keyboard.press('Escape');
        }
      }
      await page.click('#rules [data-action="mute"]');
      await page.locator('#act').waitFor();
      await desk.fits(`${kind}-${colorScheme}-${locale}-dialog`);
    }), AXE_TIMEOUT_MS);
  }
}, { more: ['-admin-token-file', tokensFile(), '-admin-socket', 'none', '-names', 'original'] });

// Desk does and sees what an operator does and sees.
class Desk {
  constructor(page, url) {
    this.page = page;
    this.url = url;
  }

  $(selector) {
    return this.page.locator(selector);
  }

  async open(place) {
    await this.page.click(`nav a[href="#/${place}"]`);
    await this.$(`#${place}`).waitFor();
  }

  // row is the one of a list that is called so.
  row(list, name) {
    return this.$(`#${list}-list li`).filter({ has: this.page.locator('.name', { hasText: new RegExp(`^${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`) }) });
  }

  // lists waits until a list has these names and no others.
  async lists(list, ...names) {
    await this.page.waitForFunction(([where, wanted]) => {
      const shown = [...document.querySelectorAll(`#${where}-list li`)].map((row) => row.querySelector('.name')?.textContent.replace(/[\u2068\u2069]/g, ''));
      return JSON.stringify(shown) === JSON.stringify(wanted);
    }, [list, names]);
  }

  async act(list, name, what) {
    await this.row(list, name).locator('button', { hasText: what }).click();
    await this.$('#act').waitFor();
  }

  async confirm() {
    await this.page.click('#act-do');
    await this.$('#act').waitFor({ state: 'hidden' });
  }

  async sees(selector, text) {
    const wanted = text instanceof RegExp ? text.source : `^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`;
    await this.page.waitForFunction(
      ([where, pattern]) => new RegExp(pattern).test(document.querySelector(where).textContent.replace(/[\u2068\u2069]/g, '')),
      [selector, wanted],
    );
  }

  // fits holds the page to what tools can judge: nothing is wider than the window, and axe finds nothing.
  async fits(name) {
    await this.shot(name);
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${name} is ${wide} pixels too wide`);
    await this.page.evaluate(AXE);
    const found = await this.page.evaluate(() => axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`)));
    assert.deepStrictEqual(found, [], name);
  }

  async shot(name) {
    if (SHOTS) await this.page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
  }
}

function get(url, headers) {
  return new Promise((resolve, reject) => {
    http.get(url, { headers }, (response) => {
      response.resume();
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers }));
    }).on('error', reject);
  });
}
