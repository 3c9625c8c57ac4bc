'use strict';

const assert = require('node:assert');
const { ROUTES } = require('../../lib/chat');
const { JsClient } = require('../../lib/jsclient');
const { fetch } = require('../../lib/sio/http');
const { kindNamed } = require('../../lib/sio/kinds');
const { sioSuite } = require('../../lib/sio/suite');

const PATH = '/gate/queryEntry';
const ORIGIN = 'http://chat.example:8080';
const UIDS = ['alice', '王五', 'é😀', 'a b+c&d=e%', '"quoted"', '0'];
const NO_UIDS = ['', '{}', '{"uid":""}', '{"uid":null}', '{"uid":0}', '{"uid":false}', 'no json', '[]', '"alice"'];

const get = (address, uid, headers) => fetch(address, `${PATH}?uid=${encodeURIComponent(uid)}`, { headers });
const post = (address, body, headers = {}) =>
  fetch(address, PATH, { method: 'POST', body, headers: { 'Content-Type': 'application/json', ...headers } });

function expectJson({ status, headers, text }, expected) {
  assert.strictEqual(status, 200, text);
  assert.match(headers['content-type'], /^application\/json/);
  assert.deepStrictEqual(JSON.parse(text), expected);
}

sioSuite('gate by HTTP', ({ once }) => {
  for (const port of ['gate', 'connector']) {
    once(`answers at the ${port} what the gate answers to a client`, async (cast) => {
      const { server } = cast;
      const clients = [];
      for (const kind of [JsClient, kindNamed('0.9 websocket'), kindNamed('4.7 polling')]) {
        clients.push(await cast.connectAs(kind, server.gate));
      }
      for (const uid of UIDS) {
        const answers = await Promise.all(clients.map((client) => client.request(ROUTES.query, { uid })));
        for (const answer of answers) {
          assert.deepStrictEqual(answer, { code: 200, ...server.connector });
          expectJson(await get(server[port], uid), answer);
          expectJson(await post(server[port], JSON.stringify({ uid })), answer);
        }
      }
    });

    once(`refuses at the ${port} what has no uid`, async ({ server }) => {
      for (const path of [PATH, `${PATH}?uid=`, `${PATH}?user=alice`]) {
        expectJson(await fetch(server[port], path), { code: 500 });
      }
      for (const body of NO_UIDS) expectJson(await post(server[port], body), { code: 500 });
    });

    once(`lets pages of other origins read it at the ${port}`, async ({ server }) => {
      const headers = { Origin: ORIGIN };
      const answers = [await get(server[port], 'alice', headers), await post(server[port], '{"uid":"a"}', headers)];
      for (const answer of answers) {
        expectJson(answer, { code: 200, ...server.connector });
        assert.strictEqual(answer.headers['access-control-allow-origin'], ORIGIN);
      }
      const { headers: toNobody } = await get(server[port], 'alice');
      assert.ok([undefined, '*'].includes(toNobody['access-control-allow-origin']), 'an origin nobody sent');
    });

    once(`lets a page ask first at the ${port}`, async ({ server }) => {
      const asked = { Origin: ORIGIN, 'Access-Control-Request-Method': 'POST' };
      asked['Access-Control-Request-Headers'] = 'content-type';
      const { status, headers, text } = await fetch(server[port], PATH, { method: 'OPTIONS', headers: asked });
      assert.ok(status === 200 || status === 204, `status ${status}`);
      assert.strictEqual(text, '');
      assert.strictEqual(headers['access-control-allow-origin'], ORIGIN);
      assert.match(headers['access-control-allow-methods'], /\bPOST\b/);
      assert.match(headers['access-control-allow-headers'], /\bcontent-type\b/i);
    });
  }

  once('leads a client to the connector', async (cast) => {
    const { text } = await get(cast.server.gate, 'alice');
    const { host, port } = JSON.parse(text);
    const client = await cast.connectAs(kindNamed('2.5 upgrade'), { host, port });
    const answer = await client.request(ROUTES.enter, { username: 'alice', rid: cast.room });
    assert.deepStrictEqual(answer, { users: ['alice'] });
  });
});
