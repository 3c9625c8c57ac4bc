'use strict';

// What the server says no to, and why, is said by the page: by the real server's limits, and by a played one for every reason.

const assert = require('node:assert');
const { playServer } = require('./lib/played');
const { suite } = require('./lib/suite');

const SLOW = '10m';
const limits = { more: ['-room-members', '2', '-rooms', '2', '-slow-mode', SLOW] };

suite('a refusal', (test) => {
  test('by the limits of rooms is explained, and changes nothing', async ({ visit, room }) => {
    const [alice, bob, carol] = [await visit(), await visit(), await visit()];
    await alice.join('alice', room);
    await bob.join('bob', room);
    await carol.tryToJoin('carol', room);
    await carol.error('#join-error', `${room} is full. Please choose another room, or try again later.`);
    await carol.join('carol', `${room} next`);
    await carol.switchTo(room);
    await carol.error('#room-error', `${room} is full. Please choose another room, or try again later.`);
    await carol.page.fill('#new-room', `${room} third`);
    await carol.error('#room-error', ''); // it was about another room
    await carol.page.keyboard.press('Escape');
    await carol.seesPeople('carol');
    const dave = await visit();
    await dave.tryToJoin('dave', `${room} third`);
    await dave.error('#join-error',
      `The server has no space for a new room, and there is no ${room} third yet. Please choose a room where people are.`);

    await alice.say('too soon');
    await alice.page.waitForFunction(() => /^Slow mode: between two messages everybody here has to wait\. Please send yours /.test(notice.textContent));
    assert.strictEqual(await alice.page.inputValue('#text'), 'too soon');
    await alice.page.press('#text', 'End');
    await alice.page.keyboard.type('!');
    await alice.error('#notice', '');
  });

  test('to enter is explained in both languages, whatever its reason', async ({ visit, room }) => {
    const alice = await visit();
    let answer;
    await playServer(alice.page, { users: ['alice'], answer: () => answer });
    for (const [refusal, english, chinese] of [
      [{}, 'Somebody is called alice in ROOM already. Please choose another name.', 'ROOM 里已经有人叫 alice，请换一个名字。'],
      [{ reason: 'name' }, 'This name has characters that are not shown, or that turn the text around. Please choose another one.',
        '名字里有不可见或会改变文字方向的字符，请换一个。'],
      [{ reason: 'room_members' }, 'ROOM is full. Please choose another room, or try again later.', '房间 ROOM 已满，请换一个房间，或稍后再试。'],
      [{ reason: 'rooms' }, 'The server has no space for a new room, and there is no ROOM yet. Please choose a room where people are.',
        '服务器不能再开新房间，而 ROOM 还不存在。请选择一个已经有人的房间。'],
      [{ reason: 'memory' }, 'The server has no memory left for anybody new. Please try again in a minute.', '服务器内存不足，暂时不能接纳新成员，请一分钟后再试。'],
      [{ reason: 'session_rate' }, 'That was too much at once. Please wait a second, then try again.', '操作太频繁了，请等一秒再试。'],
      [{ reason: 'send_rate' }, 'That was too much at once. Please wait a second, then try again.', '操作太频繁了，请等一秒再试。'],
      [{ reason: 'enter_rate' }, 'You have entered rooms too often. Please try again in a minute.', '进入房间太频繁了，请一分钟后再试。'],
      [{ reason: 'enter_rate', wait: 7.2 }, 'You have entered rooms too often. Please try again in 8 seconds.', '进入房间太频繁了，请8秒钟后再试。'],
      [{ reason: 'name_alike' }, "In ROOM somebody's name looks like alice. Please choose another name.", 'ROOM 里有人的名字与 alice 相似，请换一个名字。'],
      [{ reason: 'reserved' }, 'Nobody may be called alice here. Please choose another name.', '这里不能使用 alice 这个名字，请换一个。'],
      [{ reason: 'ban' }, 'You are banned here.', '你已被禁止进入这里。'],
      [{ reason: 'room_locked' }, 'ROOM is locked: nobody can enter at the moment.', '房间 ROOM 已锁定，目前无法进入。'],
      [{ reason: 'password' }, 'ROOM needs a password, which this page does not ask for.', '房间 ROOM 需要密码，本页面不支持输入密码。'],
      [{ code: 401 }, 'This server lets in only those who have logged in. Please log in where you got the address of this chat, and come back.',
        '登录后才能进入这个服务器。请到你得到本聊天地址的地方登录，然后再回来。'],
      [{ reason: 'login' }, 'Your login is not for ROOM. Please choose another room.', '你的登录不能进入房间 ROOM，请换一个房间。'],
      [{ code: 503 }, 'The server says no, with code 503 and no reason. Please try again in a moment.', '服务器拒绝了，代码 503，没有说明原因。请稍后再试。'],
      [{ reason: 'full moon <b>' }, 'The server says no. Its reason: full moon <b>', '服务器拒绝了，原因是：full moon <b>'],
      [{ reason: 'constructor' }, 'The server says no. Its reason: constructor', '服务器拒绝了，原因是：constructor'],
    ]) {
      answer = { code: 500, error: true, ...refusal };
      await alice.tryToJoin('alice', room);
      await alice.error('#join-error', english.replace('ROOM', room));
      await alice.page.click('#join [data-action="language"]');
      await alice.error('#join-error', chinese.replace('ROOM', room));
      await alice.page.click('#join [data-action="language"]');
    }
  });

  test('of a message is explained, and the text stays', async ({ visit, room }) => {
    const alice = await visit();
    let refusal;
    await playServer(alice.page, { users: ['alice', 'bob'], answer: (route) => (route.endsWith('.send') ? refusal : undefined) });
    await alice.join('alice', room);
    for (const [answer, words] of [
      [{}, 'The server did not take the message. Please try again.'],
      [{ reason: 'send_rate' }, 'That was too much at once. Please wait a second, then try again.'],
      [{ reason: 'session_rate' }, 'That was too much at once. Please wait a second, then try again.'],
      [{ reason: 'slow_mode' }, 'Slow mode: between two messages everybody here has to wait. Please send yours a little later.'],
      [{ reason: 'slow_mode', wait: 1 }, 'Slow mode: between two messages everybody here has to wait. Please send yours in 1 second.'],
      [{ reason: 'slow_mode', wait: 600 }, 'Slow mode: between two messages everybody here has to wait. Please send yours in 10 minutes.'],
      [{ reason: 'slow_mode', wait: 86_400 }, 'Slow mode: between two messages everybody here has to wait. Please send yours in 24 hours.'],
      [{ reason: 'mute' }, 'You may not write here at present.'],
      [{ reason: 'history' }, 'The server cannot store messages at the moment. Please try again in a little while.'],
      [{ reason: 'moon' }, 'The server says no. Its reason: moon'],
      [{ code: 404 }, 'The server says no, with code 404 and no reason. Please try again in a moment.'],
    ]) {
      refusal = { code: 500, ...answer };
      await alice.say('hello');
      await alice.error('#notice', words);
      assert.strictEqual(await alice.page.inputValue('#text'), 'hello');
    }
    // bob is here, so it is not his absence.
    refusal = { code: 500 };
    await alice.writeTo('bob');
    await alice.say('psst');
    await alice.error('#notice', 'The server did not take the message. Please try again.');
    refusal = undefined;
    await alice.page.press('#text', 'Enter');
    await alice.sees('psst');
    await alice.error('#notice', '');
  });

  test('loses nothing of who writes on meanwhile, and shows nobody what was private', async ({ visit, room }) => {
    const alice = await visit();
    await playServer(alice.page, { users: ['alice', 'bob'], answer: (route) => (route.endsWith('.send') ? { code: 500 } : undefined) });
    await alice.join('alice', room);
    const sendAndType = (text) => alice.page.evaluate((typed) => {
      document.getElementById('composer').requestSubmit();
      document.getElementById('text').value = typed; // before the answer can come
    }, text);
    await alice.page.fill('#text', 'first');
    await sendAndType('second');
    await alice.error('#notice', 'The server did not take the message. Please try again.');
    assert.strictEqual(await alice.page.inputValue('#text'), 'first\nsecond');

    await alice.page.fill('#text', '');
    await alice.writeTo('bob');
    await alice.page.fill('#text', 'private');
    await alice.page.evaluate(() => {
      document.getElementById('composer').requestSubmit();
      document.querySelector('[data-action="everyone"]').click();
    });
    await alice.error('#notice', 'The server did not take the message. Please try again.');
    await alice.error('#private-text', 'Private to bob');
    assert.strictEqual(await alice.page.inputValue('#text'), 'private');
  });

  test('while coming back is explained, and ends by itself', async ({ visit, room }) => {
    const alice = await visit();
    let refusal;
    const server = await playServer(alice.page, { users: ['alice'], answer: (route) => (route.endsWith('.enter') ? refusal : undefined) });
    await alice.join('alice', room);
    refusal = { code: 500, error: true, reason: 'room_members' };
    server.cut();
    await alice.error('#banner-text', `${room} is full. Please choose another room, or try again later.`);
    refusal = { code: 500, error: true };
    await alice.returnsNow();
    await alice.error('#banner-text', 'The connection is back, but your name is still taken. Trying again…');
    refusal = undefined;
    await alice.returnsNow();
    await alice.$('#banner').waitFor({ state: 'hidden' });
    await alice.seesNote('You are back.');
  });
}, limits);
