'use strict';

// The page where one has to log in: by a token behind the # of its address, or by way of a login page.

const assert = require('node:assert');
const { once } = require('node:events');
const http = require('node:http');
const { after, before, describe, it } = require('node:test');
const { Browser } = require('./lib/chromium');
const { Site } = require('./lib/site');
const { Visitor } = require('./lib/visitor');
const { keyFile, mint } = require('../lib/token');

const TIMEOUT = { timeout: 60_000 };
const LOGIN_NEEDED = 'This server lets in only those who have logged in. Please log in where you got the address of this chat, and come back.';
const LOGIN_REFUSED = 'Your login was not accepted. The server cannot check it at the moment, or it is not good any more: '
  + 'please try again in a moment, or log in again where you got the address of this chat.';

for (const withLoginPage of [false, true]) {
  describe(`the page, with tokens ${withLoginPage ? 'and' : 'but without'} a login page`, { concurrency: 1 }, () => {
    let browser;
    let site;
    let loginPage; // what it was asked, and by whom one logs in there
    let asked;
    let as;
    before(async () => {
      loginPage = http.createServer((request, response) => {
        asked.push({ url: new URL(request.url, 'http://login'), referer: request.headers.referer });
        const back = new URL(request.url, 'http://login').searchParams.get('return');
        response.writeHead(as ? 302 : 200, as ? { location: `${back}#token=${mint({ sub: as })}` } : { 'content-type': 'text/html' });
        response.end(as ? '' : '<title>Log in</title>');
      });
      await once(loginPage.listen(0, '127.0.0.1'), 'listening');
      const more = ['-auth', 'jwt', '-auth-key', keyFile(), '-sessions', 'reject'];
      if (withLoginPage) more.push('-login-url', `http://127.0.0.1:${loginPage.address().port}/login?from=chat`);
      site = await Site.start({ more });
      browser = await Browser.start();
    });
    after(async () => {
      await browser?.stop();
      await site?.stop();
      loginPage.close();
    });

    // visits resolves to a visitor, and what its browser has sent anywhere: addresses and heads.
    async function visits(address) {
      asked = [];
      const context = await browser.visit();
      const sent = [];
      context.on('request', (request) => sent.push(`${request.url()} ${JSON.stringify(request.headers())}`));
      const visitor = await Visitor.openTab(context, new URL(address, site.url).href);
      return { visitor, sent };
    }

    it('enters by the token in its address, which goes nowhere else', TIMEOUT, async () => {
      const token = mint({ sub: 'zoë' });
      const { visitor, sent } = await visits(`?room=den#token=${token}`);
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('zoë');
      assert.strictEqual(visitor.page.url(), `${site.url}?room=den`);
      await visitor.page.reload(); // the tab keeps it
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('zoë');
      assert.ok(sent.length > 5 && !sent.join('\n').includes(token.slice(-40)), sent.join('\n'));
      assert.strictEqual(await visitor.page.evaluate(() => JSON.stringify(localStorage).includes('token')), false);

      // Another link, followed in the same tab, is another user's.
      await visitor.page.evaluate((other) => (location.hash = `token=${other}&name=max`), mint({ sub: 'max' }));
      await visitor.seesPeople('max');
      assert.strictEqual(visitor.page.url(), `${site.url}?room=den`);

      // And the same user elsewhere is told where it is.
      const second = await visits(`?room=den#token=${mint({ sub: 'max' })}`);
      await second.visitor.error('#join-error', 'You are in this chat already, in another window or on another device. Please leave it there, then try again.');
      visitor.expectNoProblems();
      await visitor.context.close();
      await second.visitor.context.close();
    });

    it('says that a token is not good, and does not go round in circles', TIMEOUT, async () => {
      const { visitor } = await visits(`?room=den#token=${mint({ sub: 'eve' }, 'another key, which is not the server’s')}`);
      for (const again of [() => visitor.page.reload(), async () => {}]) {
        await visitor.error('#join-error', LOGIN_REFUSED);
        assert.strictEqual(await visitor.$('#join-button').textContent(), withLoginPage ? 'Log in' : 'Join');
        assert.deepStrictEqual(asked, []);
        await again();
      }
      visitor.expectNoProblems();
      if (withLoginPage) {
        await visitor.page.click('#join-button');
        await visitor.page.waitForURL(/\/login\?/);
      }
      await visitor.context.close();
    });

    it('says that a login is not for a room, and keeps it', TIMEOUT, async () => {
      const { visitor } = await visits(`?room=den#token=${mint({ sub: 'joe', rooms: ['world*'] })}`);
      await visitor.error('#join-error', 'Your login is not for den. Please choose another room.');
      await visitor.page.fill('#room', 'world1');
      await visitor.page.click('#join-button');
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('joe');
      visitor.expectNoProblems();
      await visitor.context.close();
    });

    it('says when a login has expired', TIMEOUT, async () => {
      const { visitor } = await visits(`?room=den#token=${mint({ sub: 'kim', exp: Math.floor(Date.now() / 1000) + 15 - 30 })}`); // the server gives 30 s more
      await visitor.$('#chat').waitFor();
      await visitor.$('#join').waitFor({ timeout: 40_000 });
      await visitor.error('#join-error', 'Your login has expired.');
      await visitor.page.reload();
      if (withLoginPage) await visitor.page.waitForURL(/\/login\?/);
      else await visitor.$('#join').waitFor();
      await visitor.context.close();
    });

    if (!withLoginPage) {
      it('asks for a login who has none', TIMEOUT, async () => {
        const { visitor } = await visits('?room=den');
        await visitor.tryToJoin('guest', 'den');
        await visitor.error('#join-error', LOGIN_NEEDED);
        await visitor.context.close();
      });
      return;
    }

    it('sends who has no token to the login page, and nobody anywhere else', TIMEOUT, async () => {
      as = null;
      const { visitor } = await visits('?room=den&login-url=https://evil.example/&return=https://evil.example/');
      await visitor.page.waitForURL(/\/login\?/);
      assert.strictEqual(asked.length > 0, true);
      const { url, referer } = asked.find(({ url: { pathname } }) => pathname === '/login');
      assert.strictEqual(referer, undefined);
      assert.strictEqual(url.searchParams.get('from'), 'chat');
      assert.deepStrictEqual(url.searchParams.getAll('return'), [`${site.url}?room=den&login-url=https://evil.example/&return=https://evil.example/`]);
      await visitor.context.close();
    });

    it('comes back from there into its room', TIMEOUT, async () => {
      as = 'ann';
      const { visitor } = await visits('?room=den');
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('ann');
      assert.strictEqual(visitor.page.url(), `${site.url}?room=den`);
      assert.strictEqual(asked.filter(({ url: { pathname } }) => pathname === '/login').length, 1);
      await visitor.context.close();
    });
  });
}

for (const withLoginPage of [false, true]) {
  describe(`the page, with a login service ${withLoginPage ? 'and' : 'but without'} a login page`, { concurrency: 1 }, () => {
    let browser;
    let site;
    let service;
    let away = false;
    before(async () => {
      service = http.createServer((request, response) => {
        request.resume().on('end', () => {
          if (away) response.writeHead(503).end();
          else response.end(JSON.stringify({ name: 'ada' }));
        });
      });
      await once(service.listen(0, '127.0.0.1'), 'listening');
      const more = ['-auth', 'hook', '-auth-url', `http://127.0.0.1:${service.address().port}/`];
      if (withLoginPage) more.push('-login-url', 'http://127.0.0.1:1/login');
      site = await Site.start({ more, errors: /logins cannot be judged/ });
      browser = await Browser.start();
    });
    after(async () => {
      await browser?.stop();
      await site?.stop();
      service.close();
      service.closeAllConnections?.();
    });

    it('keeps its token while the service is away', TIMEOUT, async () => {
      const visitor = await Visitor.openTab(await browser.visit(), `${site.url}?room=den#token=opaque&name=ada`);
      await visitor.$('#chat').waitFor();
      away = true;
      for (let loaded = 0; loaded < 2; loaded++) {
        await visitor.page.reload();
        await visitor.error('#join-error', LOGIN_REFUSED);
      }
      away = false;
      await visitor.page.click(withLoginPage ? '#again-button' : '#join-button');
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('ada');
      away = true;
      await visitor.page.reload();
      await visitor.error('#join-error', LOGIN_REFUSED);
      away = false;
      await visitor.page.reload();
      await visitor.$('#chat').waitFor();
      await visitor.seesPeople('ada');
      assert.strictEqual(visitor.page.url(), `${site.url}?room=den`);
      visitor.expectNoProblems();
      await visitor.context.close();
    });
  });
}
