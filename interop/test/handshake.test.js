'use strict';

const assert = require('node:assert');
const { createHash } = require('node:crypto');
const { Message, Package } = require('pomelo-protocol');
const protobuf = require('pomelo-protobuf');
const { FAILED, ROUTES, enter, expectNothingMore, expectPushes, onAdd, onChat, onLeave, send } = require('../lib/chat');
const { within } = require('../lib/expect');
const { JsClient } = require('../lib/jsclient');
const { LocalStorage } = require('../lib/page');
const { suite } = require('../lib/suite');
const { packages } = require('../lib/wire');

const HEARTBEAT_S = 3;

// What the handshake says for the files in config/.
const DICT = { [ROUTES.send]: 1, [ROUTES.enter]: 2, [ROUTES.query]: 3, ...fromFile('dictionary', 4) };
const SERVER_PROTOS = protobuf.parse(require('../config/serverProtos.json'));
const CLIENT_PROTOS = protobuf.parse(require('../config/clientProtos.json'));

const DICT_SETTINGS = {
  dict: DICT,
  routeToCode: DICT,
  codeToRoute: Object.fromEntries(Object.entries(DICT).map(([route, code]) => [code, route])),
  dictVersion: versionOf(DICT),
};
const PROTOS = { server: SERVER_PROTOS, client: CLIENT_PROTOS, version: versionOf(CLIENT_PROTOS, SERVER_PROTOS) };

function fromFile(name, firstCode) {
  return Object.fromEntries(require(`../config/${name}.json`).map((route, n) => [route, firstCode + n]));
}

function versionOf(...parts) {
  return createHash('md5').update(parts.map((part) => JSON.stringify(part)).join('')).digest('base64');
}

suite('handshake', ({ scenario, onWires, variant }) => {
  const always = { heartbeat: HEARTBEAT_S, ...(variant.config && { useDict: true, useProto: true }) };
  const settings = (...parts) => ({ code: 200, sys: Object.assign({}, always, ...(variant.config ? parts : [])) });

  onWires('tells a connector’s settings', async ({ open }) => {
    const wire = await open();
    assert.deepStrictEqual(await wire.shakeHands(), settings(DICT_SETTINGS, { protos: PROTOS }));
  });

  onWires('tells a gate’s settings', async ({ open, server }) => {
    const wire = await open(server.gate);
    const sys = variant.config ? { protos: PROTOS, useProto: true } : {};
    assert.deepStrictEqual(await wire.shakeHands(), { code: 200, sys });
  });

  onWires('leaves out what the client has already', async ({ open }) => {
    const protoVersion = PROTOS.version;
    const { dictVersion } = DICT_SETTINGS;
    const answer = async (sys) => (await open()).shakeHands(sys);
    assert.deepStrictEqual(await answer({ protoVersion, dictVersion }), settings());
    assert.deepStrictEqual(await answer({ protoVersion }), settings(DICT_SETTINGS));
    assert.deepStrictEqual(await answer({ dictVersion }), settings({ protos: PROTOS }));
  });

  onWires('sends all again for any other version', async ({ open }) => {
    for (const version of [0, '', null, 'old', [PROTOS.version], `${PROTOS.version} `]) {
      const wire = await open();
      const answer = await wire.shakeHands({ protoVersion: version, dictVersion: version });
      assert.deepStrictEqual(answer, settings(DICT_SETTINGS, { protos: PROTOS }));
    }
  });

  onWires('that makes no sense is answered with 500 and the end', async ({ open, kind }) => {
    const bodies = [undefined, 'no JSON', '{"sys":', 'null', '{}', '{"user":{}}', '{"sys":null}', '{"sys":0}', '{"sys":""}'];
    for (const body of bodies) {
      const wire = await open();
      wire.send(packages.of(Package.TYPE_HANDSHAKE, body));
      assert.deepStrictEqual(JSON.parse(await wire.next(Package.TYPE_HANDSHAKE)), FAILED, String(body));
      await expectClosed(wire, kind);
    }
  });

  onWires('is waited for: what comes too early is lost, what comes again is ignored', async ({ open }) => {
    const wire = await open();
    const early = () => packages.request(1, 'no.such.route', {});
    wire.send(early());
    wire.send(packages.ack());
    wire.send(packages.heartbeat());
    assert.strictEqual((await wire.shakeHands()).code, 200);
    wire.send(early());
    wire.send(packages.heartbeat());
    wire.send(packages.handshake());
    wire.send(packages.ack());
    assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
    wire.send(packages.handshake());
    wire.send(packages.of(Package.TYPE_HANDSHAKE, 'no JSON'));
    wire.send(packages.ack());
    wire.send(packages.request(2, 'no.such.route', {}));
    assert.deepStrictEqual(await wire.answer(2), FAILED);
    assert.deepStrictEqual(wire.packages.unread, []);
  });

  onWires('or not, a package of unknown type ends the connection', async ({ open, kind }) => {
    const states = {
      inited: () => {},
      'waiting for the ack': (wire) => wire.shakeHands(),
      working: (wire) => wire.toWorking(),
    };
    for (const type of [0, Package.TYPE_KICK, 6, 0x47, 255]) {
      for (const reachState of Object.values(states)) {
        const wire = await open();
        await reachState(wire);
        wire.send(packages.of(type, 'x'));
        await expectClosed(wire, kind);
      }
    }
  });

  scenario('need not repeat the protos to a browser that stored them', async (cast) => {
    const storage = new LocalStorage();
    const [alice] = await cast.gather(['alice']);
    for (const visit of ['first', 'second']) {
      const browser = await cast.connectAs(JsClient, cast.server.connector, { storage });
      await enter(browser, visit, cast.room);
      assert.deepStrictEqual(await send(alice, `hello ${visit}`), {});
      await expectPushes(browser, onChat(`hello ${visit}`, 'alice'));
      await browser.leave();
      await expectPushes(alice, onAdd(visit), onChat(`hello ${visit}`, 'alice'), onLeave(visit));
      const stored = JSON.parse(storage.getItem('protos'));
      assert.deepStrictEqual(stored, variant.config ? PROTOS : null);
    }
    await expectNothingMore(alice);
  });

  onWires('decides which pushes travel by route code', async ({ open }) => {
    const [first, second] = [await open(), await open()];
    const room = `codes ${Math.random()}`;
    for (const [wire, username] of [[first, 'first'], [second, 'second']]) {
      await wire.toWorking();
      wire.send(packages.request(1, ROUTES.enter, { username, rid: room }));
      await wire.answer(1);
    }
    await second.end();
    for (const [route, user] of [['onAdd', 'second'], ['onLeave', 'second']]) {
      const push = await first.message();
      const code = variant.config ? DICT[route] : undefined;
      assert.strictEqual(push.type, Message.TYPE_PUSH);
      assert.strictEqual(push.route, code ?? route);
      assert.deepStrictEqual(JSON.parse(push.body), { route, user });
    }
  });
}, { server: { heartbeat: `${HEARTBEAT_S}s` } });

async function expectClosed(wire, kind) {
  const how = await within(wire.closed, 'close');
  assert.deepStrictEqual(how, kind === 'ws' ? { code: 1000, reason: '' } : {});
  assert.deepStrictEqual(wire.packages.unread, []);
}
