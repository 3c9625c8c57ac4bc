'use strict';

// What people are used to from chats: links, mentions, answers, invitations, Back, and not having to read everybody.
// SHOTS=FOLDER keeps pictures.

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { suite } = require('./lib/suite');

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const { SHOTS } = process.env;

suite('the page in company', (test) => {
  test('makes links of addresses, and of nothing else', async ({ visit, room }) => {
    const [alice, bob] = [await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    const text = 'see https://example.org/a_(b)?q=1, (http://example.net/) and https://例子.测试/聊天，javascript:alert(1) http:// https://<b>';
    await bob.say(text);
    await alice.sees(text);
    const links = await alice.$('.row .text a').evaluateAll((all) => all.map((a) => [a.textContent, a.getAttribute('href'), a.target, a.rel]));
    const [target, rel] = ['_blank', 'noopener noreferrer nofollow'];
    assert.deepStrictEqual(links, [
      ['https://example.org/a_(b)?q=1', 'https://example.org/a_(b)?q=1', target, rel],
      ['http://example.net/', 'http://example.net/', target, rel],
      ['https://例子.测试/聊天', 'https://xn--fsqu00a.xn--0zwm56d/%E8%81%8A%E5%A4%A9', target, rel],
    ]);
  });

  test('marks who is meant, in the eyes of that one', async ({ visit, room }) => {
    const [alice, bob] = [await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('王小明', room);
    const [named, other] = ['@Alice, and alice: 你好王小明', 'malice, alice2, https://alice.example/'];
    await bob.say(named);
    await bob.say(other);
    await alice.sees(other);
    await alice.say(named);
    await bob.page.waitForFunction(() => document.querySelectorAll('.row').length === 3);
    const marks = (visitor) => visitor.$('.row mark').allTextContents();
    assert.deepStrictEqual(await marks(alice), ['@Alice', 'alice']); // not in what she says herself
    assert.deepStrictEqual(await marks(bob), ['王小明']);
    assert.strictEqual(await alice.$('.row.mention').count(), 1);
  });

  test('answers a private message by its name', async ({ visit, room }) => {
    const [alice, bob] = [await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await bob.say('for all');
    await bob.writeTo('alice');
    await bob.say('for one');
    await alice.sees('for one');
    assert.strictEqual(await alice.$('.answer').count(), 1);
    await alice.$('.answer').click();
    await alice.error('#private-text', 'Private to bob');
    await alice.say('and back');
    await bob.sees('and back');
    assert.deepStrictEqual((await bob.messages()).at(-1), { who: 'alice', to: 'Private, to you', text: 'and back' });
  });

  test('invites who is alone to invite others', async ({ site, visit, room }) => {
    const alice = await visit({ permissions: ['clipboard-read', 'clipboard-write'] });
    await alice.join('alice', `${room} & 你好`);
    await alice.error('#alone-text', 'Nobody else is here.');
    await alice.page.click('#copy');
    await alice.error('#copy', 'Copied');
    const link = await alice.page.evaluate(() => navigator.clipboard.readText());
    const bob = await visit({ url: link });
    await bob.page.fill('#name', 'bob');
    await bob.page.click('#join-button');
    await alice.seesPeople('alice', 'bob');
    for (const visitor of [alice, bob]) await visitor.$('#alone').waitFor({ state: 'hidden' });
    await bob.page.click('[data-action="leave"]');
    await alice.$('#alone').waitFor();
    await alice.error('#copy', 'Copy link');

    const carol = await visit();
    await carol.page.addInitScript(() => Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })); // as by http
    await carol.page.reload();
    await carol.join('carol', room);
    await carol.page.click('#copy');
    await carol.error('#alone-text', `Send others this address: ${new URL(`?room=${room}`, site.url).href}`);
  });

  test('goes Back and Forward between rooms', async ({ visit, room }) => {
    const [alice, bob] = [await visit(), await visit()];
    const [one, two, three] = ['one', 'two', 'three'].map((name) => `${room} ${name}`);
    const at = async (place) => {
      await alice.error('#room-name', place);
      await alice.page.waitForFunction((wanted) => new URLSearchParams(location.search).get('room') === wanted, place);
    };
    await bob.join('bob', one);
    await alice.join('alice', one);
    await alice.moveTo(two);
    await bob.seesPeople('bob');
    await alice.moveTo(three);
    await alice.page.goBack();
    await at(two);
    await alice.page.goBack();
    await at(one);
    await bob.seesPeople('bob', 'alice');
    await alice.page.goForward();
    await at(two);
    await alice.page.evaluate(() => history.go(1)); // and on at once, before that one has answered
    await alice.page.evaluate(() => history.go(-2));
    await at(one);
    await bob.seesPeople('bob', 'alice');
    await alice.say('here again');
    await bob.sees('here again');

    await alice.moveTo(two);
    const other = await visit();
    await other.join('alice', one); // her name is taken there now
    await alice.page.goBack();
    await alice.error('#notice', `Somebody is called alice in ${one} already. Please choose another name.`);
    await at(two);
  });

  test('spares its user what somebody writes', async ({ visit, room }) => {
    const [alice, bob, carol] = [await visit(), await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await carol.join('carol', room);
    await bob.say('before');
    await alice.sees('before');
    await alice.writeTo('bob');
    await alice.page.click('#ignore');
    await alice.seesNote('You do not see what bob writes any more.');
    await alice.$('#private').waitFor({ state: 'hidden' });
    await alice.person('bob').locator('.you', { hasText: 'ignored' }).waitFor();
    await bob.say('meanwhile');
    await bob.writeTo('alice');
    await bob.say('in private');
    await carol.say('done');
    await alice.sees('done');
    assert.deepStrictEqual(await alice.$('.row:visible .text').allTextContents(), ['done']);

    await alice.page.reload(); // it is remembered
    await alice.person('bob').locator('.you', { hasText: 'ignored' }).waitFor();
    await bob.say('still there');
    await carol.say('once more');
    await alice.sees('once more');
    assert.strictEqual(await alice.row('still there').isVisible(), false);

    await alice.writeTo('bob');
    await alice.error('#ignore', 'Stop ignoring');
    await alice.page.click('#ignore');
    await alice.seesNote('You see again what bob writes.');
    await alice.row('still there').waitFor();
    assert.strictEqual(await alice.person('bob').locator('.you').textContent(), '');
  });

  const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
  for (const [kind, device, colorScheme, locale] of [
    ['desktop', {}, 'light', 'en-GB'], ['desktop', {}, 'dark', 'zh-CN'], ['phone', phone, 'light', 'zh-CN'], ['phone', phone, 'dark', 'en-GB'],
  ]) {
    test(`is for everybody: ${kind}, ${colorScheme}, ${locale}`, async ({ visit, room }) => {
      const alice = await visit({ colorScheme, locale, ...device });
      const fits = (name) => expectFits(alice.page, `${kind}-${colorScheme}-${locale}-${name}`);
      await fits('form');
      await alice.join('alice', room);
      await alice.$('#alone').waitFor();
      await fits('alone');
      const [bob, carol] = [await visit(), await visit()];
      await bob.join('bob', room);
      await carol.join('王小明', room);
      await bob.say('Good morning, @alice! Have you seen https://example.org/a/rather/long/address/of/a/page?');
      await carol.say('你好');
      await bob.writeTo('alice');
      await bob.say('Only you can read this.');
      await alice.sees('Only you can read this.');
      await alice.say('Yes, I have.');
      await alice.sees('Yes, I have.');
      await fits('talk');
      await alice.$('.answer').click();
      await alice.$('#private').waitFor();
      await fits('private');
      if (kind === 'phone') {
        await alice.$('#people-button').tap();
        await alice.$('#people').waitFor();
        await fits('people');
        await alice.$('#close-people').tap();
        await alice.$('#people').waitFor({ state: 'hidden' });
      }
      await alice.page.click('#room-button');
      await alice.$('#room-dialog').waitFor();
      await fits('dialog');
    });
  }
});

// expectFits holds the page to what tools can judge: nothing is wider than the window, what a finger has to hit is large enough, and axe finds nothing.
async function expectFits(page, name) {
  await page.waitForFunction(() => document.getAnimations().length === 0);
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
  const misfits = await page.evaluate(() => {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const small = [...document.querySelectorAll('button, input, textarea')].filter((control) => {
      const { width, height } = control.getBoundingClientRect();
      return control.checkVisibility({ visibilityProperty: true }) && (width < 43.9 || height < 43.9);
    });
    return [...(wide > 0 ? [`${wide} pixels too wide`] : []), ...small.map((control) => `${control.id || control.className} is too small`)];
  });
  assert.deepStrictEqual(misfits, [], name);
  await page.evaluate(AXE);
  const found = await page.evaluate(() => axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`)));
  assert.deepStrictEqual(found, [], name);
}
