'use strict';

const assert = require('node:assert');
const { Message, Package } = require('pomelo-protocol');
const { FAILED, REFUSED, ROUTES } = require('../lib/chat');
const { within } = require('../lib/expect');
const { suite } = require('../lib/suite');
const { packages } = require('../lib/wire');

const MAX_PACKAGE = 256 * 1024;

let rooms = 0;
const enterBody = () => ({ username: 'alice', rid: `framing${++rooms}` });
const badRequest = (id) => packages.request(id, 'no.such.route', {});

suite('framing', ({ onWires }) => {
  onWires('takes a whole conversation in one piece', async ({ open }) => {
    const wire = await open();
    wire.send(
      packages.handshake(),
      packages.ack(),
      packages.request(1, ROUTES.enter, enterBody()),
      packages.notify(ROUTES.send, { content: 'one', target: '*' }),
      packages.heartbeat(),
      packages.request(2, ROUTES.send, { content: 'two', target: 'nobody' }),
      badRequest(3),
    );
    assert.strictEqual(JSON.parse(await wire.next(Package.TYPE_HANDSHAKE)).code, 200);
    assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
    const rest = [];
    for (let n = 0; n < 5; n++) rest.push(nameOf(await wire.packages.next('the rest of the conversation')));
    // A heartbeat is the loop's business and may overtake what a room has to say.
    assert.deepStrictEqual(rest.filter((what) => what !== 'heartbeat'), ['answer 1', 'onChat', 'answer 2', 'answer 3']);
    assert.deepStrictEqual(wire.packages.unread, []);
  });

  onWires('takes a conversation byte by byte', async ({ open }) => {
    const wire = await open();
    await wire.drip(packages.handshake());
    assert.strictEqual(JSON.parse(await wire.next(Package.TYPE_HANDSHAKE)).code, 200);
    await wire.drip(packages.ack());
    assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
    await wire.drip(packages.request(1, ROUTES.enter, enterBody()));
    assert.deepStrictEqual(await wire.answer(1), { users: ['alice'] });
    await wire.drip(packages.heartbeat());
    assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
  });

  onWires('takes packages cut anywhere', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    const stream = Buffer.concat([badRequest(1), badRequest(2), badRequest(3)]);
    for (let cut = 1; cut < stream.length; cut += 5) {
      await wire.write(stream.subarray(0, cut));
      await wire.write(stream.subarray(cut));
      for (const id of [1, 2, 3]) assert.deepStrictEqual(await wire.answer(id), FAILED);
    }
  }, ['tcp']);

  onWires('gives every request its answer, whatever its id', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    const ids = [1, 127, 128, 16383, 16384, 2097152, 2 ** 28, 2 ** 31 - 1, 7, 7];
    wire.send(...ids.map(badRequest));
    for (const id of ids) assert.deepStrictEqual(await wire.answer(id), FAILED);
  });

  onWires('never answers id 0, and ignores what only a server may send', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    wire.send(packages.message(Message.TYPE_REQUEST, 0, 'no.such.route', {}));
    wire.send(packages.message(Message.TYPE_RESPONSE, 5, null, {}));
    wire.send(packages.message(Message.TYPE_PUSH, 0, 'no.such.route', {}));
    for (const flag of [0x08, 0x0a, 0x0c, 0x0e]) wire.send(packages.data(Buffer.of(flag, 1, 2, 3)));
    wire.send(packages.request(6, 999, {})); // a route code nobody knows
    wire.send(packages.request(7, 0, {}));
    wire.send(packages.request(8, '', {}));
    wire.send(badRequest(9));
    assert.deepStrictEqual(await wire.answer(8), FAILED, 'an empty route is an unknown route');
    assert.deepStrictEqual(await wire.answer(9), FAILED);
  });

  onWires('takes a body that is no JSON for an empty one', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    for (const body of ['no JSON', '', '{"username":"alice"', Buffer.of(0xff, 0xfe)]) {
      wire.send(packages.request(1, ROUTES.enter, body), packages.request(2, ROUTES.send, body));
      assert.deepStrictEqual(await wire.answer(1), REFUSED);
      assert.deepStrictEqual(await wire.answer(2), FAILED);
    }
    wire.send(packages.request(3, ROUTES.enter, enterBody()));
    assert.deepStrictEqual(await wire.answer(3), { users: ['alice'] });
  });

  onWires('ends a connection that sends too long a package', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    wire.send(packages.data(Buffer.alloc(MAX_PACKAGE + 1)));
    await within(wire.closed, 'close');
    assert.deepStrictEqual(wire.packages.unread, []);
  });

  onWires('of WebSocket: text frames, pings', async ({ open }) => {
    const wire = await open();
    await wire.toWorking();
    await wire.write(packages.heartbeat(), { binary: false });
    assert.strictEqual(await wire.next(Package.TYPE_HEARTBEAT), null);
    assert.strictEqual(await wire.ping('are you there?'), 'are you there?');
    wire.send(badRequest(1));
    assert.deepStrictEqual(await wire.answer(1), FAILED);
  }, ['ws']);

  onWires('of WebSocket: a frame holds whole packages or ends the connection', async ({ open }) => {
    const frames = {
      empty: Buffer.alloc(0),
      'a head cut short': Buffer.of(3, 0, 0),
      'a body cut short': badRequest(1).subarray(0, -1),
      'something after the package': Buffer.concat([packages.heartbeat(), Buffer.of(3, 0)]),
      text: Buffer.from('hello'),
    };
    for (const [what, frame] of Object.entries(frames)) {
      const wire = await open();
      await wire.toWorking();
      wire.write(frame);
      assert.strictEqual((await within(wire.closed, `close after ${what}`)).code, 1000, what);
    }
  }, ['ws']);
});

function nameOf({ type, body }) {
  if (type === Package.TYPE_HEARTBEAT) return 'heartbeat';
  const message = Message.decode(body);
  return message.type === Message.TYPE_RESPONSE ? `answer ${message.id}` : message.route;
}
