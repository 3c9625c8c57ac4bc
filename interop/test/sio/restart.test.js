'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const { Server } = require('../../lib/server');
const { within } = require('../../lib/expect');
const { KINDS } = require('../../lib/sio/kinds');
const { enter } = require('../../lib/chat');

const EACH = 3; // clients of every kind
const BACK_MS = 45_000; // libraries wait up to 5 s between two tries, on a machine that is not busy
const AGAIN_MS = 20;

// The end of the server ends transports and not sessions: clients of every version take it for an accident, and come back by
// themselves as soon as there is a server again.
for (const loops of [1, 3]) {
  test(`socket.io: restart: every kind comes back by itself, loops=${loops}`, { timeout: 180_000 }, async () => {
    let server = await Server.start({ loops, drain: '500ms' });
    const { connector } = server;
    const door = await openDoor(connector);
    const people = await Promise.all(
      KINDS.flatMap((kind) =>
        Array.from({ length: EACH }, async (_, i) => {
          const page = await kind.connect(kind.arrays ? door.address : connector, { reconnects: true });
          await page.connects.next('the first connect');
          return { name: `${kind.name} ${i}`, page };
        }),
      ),
    );
    try {
      for (const { name, page } of people) {
        await page.settled();
        await enter(page, name, 'room');
      }
      const ended = server.stop();
      server = await startAgain({ loops, port: connector.port });
      await ended;
      await Promise.all(
        people.map(async ({ name, page }) => {
          await within(page.connects.next(`the second connect of ${name}`, BACK_MS), `${name} to come back`, BACK_MS);
          const { users } = await enter(page, name, 'room');
          assert.ok(users.includes(name));
        }),
      );
    } finally {
      await Promise.all(people.map(({ page }) => page.leave()));
      door.close();
      await server.stop();
    }
  });
}

// openDoor listens for clients of 0.9. Some of them ask only once more, half a second after they were sent away: here they are not refused, and wait
// until there is a server.
async function openDoor(target) {
  const nears = new Set();
  const door = net.createServer({ noDelay: true }, (near) => {
    nears.add(near);
    near.on('error', () => {}); // 'close' follows
    near.once('close', () => nears.delete(near));
    carry(near, target);
  });
  door.listen(0, '127.0.0.1');
  await once(door, 'listening');
  const { address, port } = door.address();
  const close = () => {
    door.close();
    for (const near of nears) near.destroy();
  };
  return { address: { host: address, port }, close };
}

// carry brings a client to the server, as soon as there is one.
function carry(near, target) {
  const far = net.connect({ ...target, noDelay: true });
  far.on('error', () => {}); // 'close' follows
  let isThere = false;
  far.once('connect', () => {
    isThere = true;
    near.pipe(far);
    far.pipe(near);
  });
  far.once('close', () => {
    near.off('close', end);
    if (isThere || near.destroyed) near.destroy();
    else setTimeout(() => near.destroyed || carry(near, target), AGAIN_MS);
  });
  const end = () => far.destroy();
  near.once('close', end);
}

// startAgain starts a server on an address that the one before is about to leave.
async function startAgain(options) {
  for (;;) {
    try {
      return await Server.start(options);
    } catch (err) {
      if (!err.message.includes('another process has this port')) throw err;
    }
  }
}
