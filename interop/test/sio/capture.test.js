'use strict';

const assert = require('node:assert');
const { ROUTES, enter, expectNothingMore, expectPushes, onChat, send } = require('../../lib/chat');
const { BY_HAND } = require('../../lib/sio/byhand');
const { encode } = require('../../lib/sio/format');
const { kindNamed } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

// What a page of 2013 sends, and exactly what it gets: text captured from a chat of that time, frame by frame.
const TIMESTAMP = 1360239219157;
const QUERY = `\u0000\u0000\u0000\u0003\u001bgate.gateHandler.queryEntry{"uid":"yejianfeng","timestamp":${TIMESTAMP}}`;

const enterText = (id, username, rid) =>
  encode(id, ROUTES.enter, JSON.stringify({ username, rid, timestamp: TIMESTAMP }));
const sendText = (id, content, target, rid) =>
  encode(id, ROUTES.send, JSON.stringify({ rid, content, from: 'yejianfeng', target, timestamp: TIMESTAMP }));

sioSuite('capture of 2013', ({ scenario }) => {
  const wires = ['0.9 websocket', '0.9 xhr-polling'].map((name) => ({ name, open: BY_HAND[name] }));

  scenario('of the gate is answered to the letter', async ({ server, lead }) => {
    const page = await lead.open().open(server.gate);
    await page.send(page.say(QUERY));
    const answer = `3:::[{"id":3,"body":{"code":200,"host":"127.0.0.1","port":${server.connector.port}}}]`;
    assert.strictEqual(await page.next(), answer);
    await page.send(page.say(encode(4, ROUTES.query, `{"timestamp":${TIMESTAMP}}`)));
    assert.strictEqual(await page.next(), '3:::[{"id":4,"body":{"code":500}}]');
    await page.send('0::');
    page.destroy();
  }, wires);

  scenario('of a chat is answered to the letter', async (cast) => {
    const { server, lead, room } = cast;
    const page = await lead.open().open(server.connector);
    const say = (text) => page.send(page.say(text));
    await say(enterText(8, 'yejianfeng', room));
    assert.strictEqual(await page.next(), '3:::[{"id":8,"body":{"users":["yejianfeng"]}}]');
    await say(sendText(9, 'hi', '*', room));
    assert.strictEqual(
      await page.next(),
      '3:::[{"route":"onChat","msg":"hi","from":"yejianfeng","target":"*"},{"id":9,"body":{}}]',
    );

    const other = await lead.open().open(server.connector);
    await other.send(other.say(enterText(2, 'yejianfeng', room)));
    assert.strictEqual(await other.next(), '3:::[{"id":2,"body":{"code":500,"error":true}}]');
    await other.send(other.say(enterText(3, 'yejianfeng2', room)));
    assert.strictEqual(await other.next(), '3:::[{"id":3,"body":{"users":["yejianfeng","yejianfeng2"]}}]');
    assert.strictEqual(await page.next(), '3:::[{"route":"onAdd","user":"yejianfeng2"}]');

    await other.send(other.say(sendText(4, 'hello', '*', room)));
    assert.strictEqual(await page.next(), '3:::[{"route":"onChat","msg":"hello","from":"yejianfeng2","target":"*"}]');
    assert.strictEqual(
      await other.next(),
      '3:::[{"route":"onChat","msg":"hello","from":"yejianfeng2","target":"*"},{"id":4,"body":{}}]',
    );
    await other.send(other.say(sendText(5, 'psst', 'yejianfeng', room)));
    assert.strictEqual(await other.next(), '3:::[{"id":5,"body":{}}]');
    assert.strictEqual(
      await page.next(),
      '3:::[{"route":"onChat","msg":"psst","from":"yejianfeng2","target":"yejianfeng"}]',
    );
    await other.send(other.say(sendText(6, 'psst', 'nobody', room)));
    assert.strictEqual(await other.next(), '3:::[{"id":6,"body":{"code":500}}]');

    await other.send('0::');
    other.destroy();
    assert.strictEqual(await page.next(), '3:::[{"route":"onLeave","user":"yejianfeng2"}]');
    await page.send('0::');
    page.destroy();
  }, wires);

  // What another kind of client says and does, a page of 2013 sees in its own form.
  scenario('holds whoever the others are', async (cast) => {
    const page = await cast.lead.open().open(cast.server.connector);
    await page.send(page.say(enterText(2, 'yejianfeng', cast.room)));
    assert.strictEqual(await page.next(), '3:::[{"id":2,"body":{"users":["yejianfeng"]}}]');
    const other = await cast.connectAs(kindNamed('4.7 websocket'), cast.server.connector);
    await enter(other, '王五', cast.room);
    assert.strictEqual(await page.next(), '3:::[{"route":"onAdd","user":"王五"}]');
    await send(other, 'hi "you"\n', '*');
    const said = '3:::[{"route":"onChat","msg":"hi \\"you\\"\\n","from":"王五","target":"*"}]';
    assert.strictEqual(await page.next(), said);
    await expectPushes(other, onChat('hi "you"\n', '王五'));
    await expectNothingMore(other);
    await other.leave();
    assert.strictEqual(await page.next(), '3:::[{"route":"onLeave","user":"王五"}]');
    page.destroy();
  }, wires);
});
