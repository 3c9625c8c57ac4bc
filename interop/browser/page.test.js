'use strict';

// The page as a document: safe, small, accessible, and at home on a phone.

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { gunzipSync } = require('node:zlib');
const { suite } = require('./lib/suite');

const WEB = path.join(__dirname, '..', '..', 'web');
const FILES = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/chat.css': ['chat.css', 'text/css; charset=utf-8'],
  '/chat.js': ['chat.js', 'text/javascript; charset=utf-8'],
  '/chat/alerts.js': ['chat/alerts.js', 'text/javascript; charset=utf-8'],
  '/chat/i18n.js': ['chat/i18n.js', 'text/javascript; charset=utf-8'],
  '/chat/language.js': ['chat/language.js', 'text/javascript; charset=utf-8'],
  '/chat/log.js': ['chat/log.js', 'text/javascript; charset=utf-8'],
  '/chat/login.js': ['chat/login.js', 'text/javascript; charset=utf-8'],
  '/chat/people.js': ['chat/people.js', 'text/javascript; charset=utf-8'],
  '/chat/refusals.js': ['chat/refusals.js', 'text/javascript; charset=utf-8'],
  '/chat/text.js': ['chat/text.js', 'text/javascript; charset=utf-8'],
  '/chat/room.css': ['chat/room.css', 'text/css; charset=utf-8'],
  '/favicon.svg': ['favicon.svg', 'image/svg+xml'],
  '/pomelo-codec.js': ['pomelo-codec.js', 'text/javascript; charset=utf-8'],
  '/pomelo-connection.js': ['pomelo-connection.js', 'text/javascript; charset=utf-8'],
  '/pomelo.d.ts': ['pomelo.d.ts', 'text/plain; charset=utf-8'],
  '/pomelo.js': ['pomelo.js', 'text/javascript; charset=utf-8'],
  '/worker.js': ['worker.js', 'text/javascript; charset=utf-8'],
};
const MAX_COMPRESSED = 45 * 1024; // all that a first visit loads; it is 44 KB, of which 3 came with links, mentions, invitations and who is ignored
const NEEDED_LATER = ['/pomelo.d.ts', '/worker.js'];

const MARKUP = '<img src=x onerror=alert(1)><script>alert(2)</script><b>&amp;</b>';

suite('the page', (test) => {
  test('is served compressed, with tags by which a browser keeps its copy', async ({ site }) => {
    let compressed = 0;
    for (const [at, [file, type]] of Object.entries(FILES)) {
      const url = new URL(at, site.url);
      // Node's fetch decompresses; http tells what was sent.
      const { status, headers, body } = await get(url, { 'Accept-Encoding': 'gzip' });
      const expected = fs.readFileSync(path.join(WEB, file));
      assert.strictEqual(status, 200, at);
      assert.strictEqual(headers['content-type'], type);
      assert.strictEqual(headers['x-content-type-options'], 'nosniff');
      assert.strictEqual(headers['cache-control'], 'no-cache');
      const gzip = headers['content-encoding'] === 'gzip';
      assert.deepStrictEqual(gzip ? gunzipSync(body) : body, expected, at);
      assert.deepStrictEqual((await get(url, {})).body, expected, `${at} uncompressed`);
      if (!NEEDED_LATER.includes(at)) compressed += body.length;
      const again = await get(url, { 'Accept-Encoding': 'gzip', 'If-None-Match': headers.etag });
      assert.deepStrictEqual([again.status, again.body.length], [304, 0], at);
      assert.strictEqual((await get(url, { 'If-None-Match': '"other"' })).status, 200, at);
    }
    assert.ok(compressed < MAX_COMPRESSED, `${compressed} bytes`);
  });

  test('runs under a policy that allows nothing from elsewhere and nothing inline', async ({ site, visit, room }) => {
    const { headers } = await get(new URL(site.url), {});
    const policy = headers['content-security-policy'];
    for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "require-trusted-types-for 'script'", "connect-src 'self' ws: wss: http: https:"]) {
      assert.ok(policy.split('; ').includes(rule), `${rule} is not in ${policy}`);
    }
    assert.ok(!policy.includes('unsafe'), policy);
    // What the test tries below is ours: the browser tells of it as a violation, and in the console.
    const alice = await visit({ ours: /^policy: (require-trusted-types-for|img-src) |^console: .*(TrustedHTML|img-src|data:image)/ });
    await alice.join('alice', room);
    // The policy is in force: what it forbids does not work.
    const blocked = await alice.page.evaluate(async () => {
      const violated = [];
      const told = new Promise((resolve) => {
        addEventListener('securitypolicyviolation', ({ effectiveDirective }) => {
          violated.push(effectiveDirective);
          if (effectiveDirective === 'img-src') resolve();
        });
      });
      try {
        document.body.innerHTML += '<p>';
      } catch {
        violated.push('TypeError');
      }
      const image = document.createElement('img');
      const failed = new Promise((resolve) => (image.onerror = resolve));
      image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
      await Promise.all([failed, told]);
      return violated;
    });
    assert.ok(blocked.includes('TypeError') && blocked.includes('img-src'), String(blocked));
  });

  test('shows markup in names, rooms and messages as text', async ({ visit, room }) => {
    const name = '<img src=x onerror=alert(1)>&lt;b&gt;';
    const place = `${room} <script>alert(1)</script>`;
    const [alice, mallory] = [await visit(), await visit()];
    await alice.join('alice', place);
    await mallory.join(name, place);
    await mallory.say(MARKUP);
    await alice.sees(MARKUP);
    await mallory.writeTo('alice');
    await mallory.say(`${MARKUP} again`);
    await alice.sees(`${MARKUP} again`);
    await alice.writeTo(name);
    await alice.seesNote(`${name} joined`);
    await alice.error('#private-text', `Private to ${name}`);
    assert.strictEqual(await alice.$('#room-name').textContent(), place);
    assert.strictEqual(await alice.$('#log img, #log script, #log b, #list img, #composer img, .bar script').count(), 0);
    await alice.page.click('#room-button');
    await alice.page.fill('#new-room', '<b>bold</b>');
    await alice.page.click('#room-switch');
    await alice.seesNote('You are in <b>bold</b>');
  });

  test('tells a screen reader what everything is', async ({ visit, room }) => {
    const alice = await visit();
    assert.match(await alice.$('#join').ariaSnapshot(), new RegExp([
      '- heading "Chat" \\[level=1\\]', '- textbox "Your name"', '- textbox "Room"(: \\w+)?', '- button "Join"',
    ].join('[^]*')));
    await alice.tryToJoin('', room);
    assert.match(await alice.$('#join').ariaSnapshot(), /- alert: Please choose a name\./);
    await alice.join('alice', room);
    const bob = await visit();
    await bob.join('bob', room);
    await bob.say('hello');
    await alice.sees('hello');
    await alice.writeTo('bob');
    const tree = await alice.$('#chat').ariaSnapshot();
    const expected = [
      '- banner:', `- button "${room} Switch room"`, '- status: Connected', '- main:', '- heading "Messages" \\[level=2\\]',
      '- log "Messages":', '- text: bob\\s+- paragraph: hello\\s+- time: ', '- status: Private to .bob.', '- button "Write to everyone again"',
      '- textbox "Message"', '- button "Send"', '- complementary "People":', '- heading "Here now 2" \\[level=2\\]',
      '- searchbox "Find a person"', '- listbox "People in this room. Choose one to write a private message."',
      '- option "alice you" \\[disabled\\]', '- option "bob" \\[selected\\]', '- button "Pop-ups"',
      '- button "Sound" \\[pressed\\]', '- button "中文"', '- button "Leave"',
    ];
    let from = 0;
    for (const pattern of expected) {
      const found = tree.slice(from).search(new RegExp(pattern));
      assert.ok(found >= 0, `${pattern} is not in its place in\n${tree}`);
      from += found;
    }
    await alice.page.click('#room-button');
    assert.match(await alice.$('#room-dialog').ariaSnapshot(), /- dialog "Switch room":[^]*- textbox "Room"[^]*- button "Cancel"[^]*- button "Switch"/);
  });

  test('needs no mouse', async ({ visit, room }) => {
    const [alice, bob] = [await visit(), await visit()];
    await bob.join('bob', room);
    const { keyboard } = alice.page;
    const at = (id) => alice.page.waitForFunction((wanted) => document.activeElement.id === wanted, id);
    await at('name');
    await keyboard.type('alice');
    await keyboard.press('Tab');
    await at('room');
    await keyboard.press('Control+A');
    await keyboard.type(room);
    await keyboard.press('Enter');
    await at('text');
    await keyboard.type('one');
    await keyboard.press('Shift+Enter');
    await keyboard.type('two');
    await keyboard.press('Enter');
    await bob.sees('one\ntwo');

    await alice.seesPeople('alice', 'bob');
    await keyboard.press('Tab'); // the button that sends
    await keyboard.press('Tab');
    await at('filter');
    await keyboard.press('Tab');
    await at('list');
    await keyboard.press('End');
    const active = () => alice.$('#list').getAttribute('aria-activedescendant');
    assert.strictEqual(await alice.$(`#${await active()} bdi`).textContent(), 'bob');
    await keyboard.press('ArrowUp');
    assert.strictEqual(await alice.$(`#${await active()} bdi`).textContent(), 'alice');
    await keyboard.press('Enter'); // nobody writes to themselves
    await keyboard.press('ArrowDown');
    await keyboard.press('Enter');
    await at('text');
    await alice.$('#private').waitFor();
    await keyboard.press('Escape');
    await alice.$('#private').waitFor({ state: 'hidden' });

    await alice.page.focus('#filter');
    await keyboard.type('BO');
    await alice.page.waitForFunction(() => document.querySelectorAll('.person').length === 1);
    await keyboard.press('Enter');
    await at('text');
    await keyboard.type('found you');
    await keyboard.press('Enter');
    await bob.sees('found you');
  });

  test('leaves Enter to input methods that compose', async ({ visit, room }) => {
    const alice = await visit();
    await alice.join('alice', room);
    await alice.page.fill('#text', 'nihao');
    for (const init of [{ isComposing: true }, { keyCode: 229 }]) {
      await alice.$('#text').dispatchEvent('keydown', { key: 'Enter', ...init });
    }
    assert.strictEqual(await alice.page.inputValue('#text'), 'nihao');
    await alice.page.press('#text', 'Enter');
    await alice.sees('nihao');
    assert.strictEqual((await alice.messages()).length, 1);
  });

  test('fits a phone', async ({ visit, room }) => {
    const phone = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
    const [alice, bob] = [await visit(phone), await visit()];
    await expectFits(alice.page);
    await alice.join('alice', room);
    await bob.join('bob', room);
    await bob.say(`https://example.org/${'long'.repeat(60)} ${'w'.repeat(200)}`);
    await alice.$('.row').waitFor();
    await expectFits(alice.page);
    assert.ok(await alice.$('#text').isVisible());
    assert.ok(!(await alice.$('#people').isVisible()));

    for (const close of [() => alice.$('#close-people').tap(), () => alice.page.keyboard.press('Escape'), () => alice.page.touchscreen.tap(10, 300)]) {
      await alice.$('#people-button').tap();
      await alice.$('#people').waitFor();
      assert.strictEqual(await alice.$('#people-button').getAttribute('aria-expanded'), 'true');
      await expectFits(alice.page);
      await close();
      await alice.$('#people').waitFor({ state: 'hidden' });
    }
    await alice.$('#people-button').tap();
    await alice.person('bob').tap();
    await alice.$('#people').waitFor({ state: 'hidden' });
    await alice.say('from the phone');
    await bob.sees('from the phone');
    await expectFits(alice.page);
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`is readable when it is ${colorScheme}`, async ({ visit, room }) => {
      const [alice, bob] = [await visit({ colorScheme }), await visit()];
      await expectContrast(alice.page, ['h1', '.card .hint', 'label', '#join-button', '.plain']);
      await alice.tryToJoin('', room);
      await expectContrast(alice.page, ['#join-error']);
      await alice.join('alice', room);
      await bob.join('bob', room);
      await bob.say('for all');
      await bob.writeTo('alice');
      await bob.say('for one');
      await alice.sees('for one');
      await alice.writeTo('bob');
      await alice.say('back');
      await alice.sees('back');
      await expectContrast(alice.page, [
        '#room-name', '#status', '.note', '.row .text', '.row .who', '.row .clock', '.secret .text', '.secret .who', '.secret .to',
        '.secret .clock', '.own .text', '.own .clock', '#private-text', '.person bdi', '.person .you', '.avatar', '.tools button',
        '#sound', '.people-count',
      ]);
    });
  }
});

async function get(url, headers) {
  const { get: request } = await import('node:http');
  return new Promise((resolve, reject) => {
    request(url, { headers, agent: false }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }));
    }).on('error', reject);
  });
}

// expectFits: nothing makes the page scroll sideways, and what a finger has to hit is large enough.
async function expectFits(page) {
  const misfits = await page.evaluate(() => {
    const found = [];
    if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
    const log = document.getElementById('log');
    if (log.scrollWidth > log.clientWidth) found.push(`the messages are ${log.scrollWidth} wide`);
    for (const control of document.querySelectorAll('button, input, textarea')) {
      const { width, height } = control.getBoundingClientRect();
      // A drawer that is sliding in is measured with the errors of its transform.
      if (control.checkVisibility({ visibilityProperty: true }) && (width < 43.9 || height < 43.9)) {
        found.push(`${control.id || control.className} is ${width} × ${height}`);
      }
    }
    return found;
  });
  assert.deepStrictEqual(misfits, []);
}

// expectContrast holds texts to the ratio that WCAG asks for (1.4.3, AA).
async function expectContrast(page, selectors) {
  const faint = await page.evaluate((all) => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const paint = (...colors) => {
      canvas.clearRect(0, 0, 1, 1);
      for (const color of colors) {
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
      }
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const luminance = (rgb) => {
      const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return all.flatMap((selector) => {
      const element = document.querySelector(selector);
      if (!element) return [`${selector} is not there`];
      const grounds = [];
      for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
      const [text, ground] = [paint(...grounds, getComputedStyle(element).color), paint(...grounds)].map(luminance);
      const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
      return ratio < 4.5 ? [`${selector} ${ratio.toFixed(2)}`] : [];
    });
  }, selectors);
  assert.deepStrictEqual(faint, []);
}
