'use strict';

const assert = require('node:assert');
const { FAILED, ROUTES, enter } = require('../lib/chat');
const { JsClient } = require('../lib/jsclient');
const { suite } = require('../lib/suite');

suite('gate', ({ scenario }) => {
  scenario('sends a client to a connector that takes it', async (cast) => {
    const visitor = await cast.connect(cast.server.gate);
    const answer = await visitor.request(ROUTES.query, { uid: 'alice' });
    assert.deepStrictEqual(answer, { code: 200, host: '127.0.0.1', port: cast.server.connector.port });
    await visitor.leave();

    const alice = await cast.connect({ host: answer.host, port: answer.port });
    assert.deepStrictEqual(await enter(alice, 'alice', cast.room), { users: ['alice'] });
  });

  scenario('refuses a query without uid, and answers the next', async (cast) => {
    const visitor = await cast.connect(cast.server.gate);
    for (const body of [{}, { uid: '' }, { uid: 0 }, { uid: null }, { uid: false }]) {
      assert.deepStrictEqual(await visitor.request(ROUTES.query, body), FAILED);
    }
    assert.strictEqual((await visitor.request(ROUTES.query, { uid: 'bob' })).code, 200);
  });

  scenario('takes a page from gate to connector with one instance of the client', async (cast) => {
    const page = await cast.connectAs(JsClient, cast.server.gate);
    const { host, port } = await page.request(ROUTES.query, { uid: 'alice' });
    await page.moveTo({ host, port });
    assert.deepStrictEqual(await enter(page, 'alice', cast.room), { users: ['alice'] });
  });
});
