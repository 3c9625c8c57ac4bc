'use strict';

// The same in a fleet (test/fleet/asone) whose processes are killed: the connector of most listeners, the owner of their room, and both at once. Who loses its
// connector returns by another one; who has another one stays, and is told what was said meanwhile when the follower has taken over.
//
// DEATHS is how often each dies.
//
// Seen red with each of these bugs in desk.items (cluster/desk.go): the first item that a new owner sends is not handed on; one that has come already is handed on once more. A loop finds the gap
// in the room's stream, and disconnects the speaker.

const assert = require('node:assert');
const path = require('node:path');
const { test } = require('node:test');
const { MORE, PATIENCE_MS, cutOften, explained, isBack, play } = require('../lib/cutting');
const { eventually } = require('../lib/expect');
const { listenersOf } = require('../lib/returning');
const { Server } = require('../lib/server');

const ROUNDS = Number(process.env.DEATHS ?? 1);
const ASONE = process.env.ASONE ?? path.join(__dirname, '..', '..', 'bin', 'pomelod-asone');
const BINARY = process.env.ASONE_BINARY ?? process.env.POMELOD;
const REFUSALS = ['not_sent', 'unknown']; // what is said while nobody owns the room may be refused

const node = (fleet, id) => fleet.nodes.find((node) => node.id === id);

// ownerOf is the chat node that has the only room. While that moves, each may say that the other one has it.
async function ownerOf(fleet) {
  const owners = async () => {
    const found = [];
    for (const node of fleet.nodes.filter(({ id }) => id.startsWith('chat'))) {
      const response = await fetch(`http://${node.admin.host}:${node.admin.port}/metrics`);
      if (/^pomelod_rooms\{.*\} 1$/m.test(await response.text())) found.push(node);
    }
    return found;
  };
  const [owner] = await eventually(owners, ({ length }) => assert.strictEqual(length, 1, `${length} nodes own the room`));
  return owner;
}

// kill ends processes at once, and resolves when others are in their places, and each has a follower.
async function kill(fleet, ...nodes) {
  const dead = nodes.map(({ pid }) => pid);
  for (const pid of dead) process.kill(pid, 'SIGKILL');
  await eventually(() => fleet.nodes, (now) => assert.ok(now.every(({ pid }) => !dead.includes(pid)), 'the fleet does not recover'), PATIENCE_MS);
}

test('who loses its connector, or the owner of its room, returns without a gap', async (t) => {
  const fleet = await Server.start({ command: ASONE, env: { ASONE_FLEET: 'double', ASONE_BINARY: BINARY }, loops: 2, limits: 'off', drain: '200ms', more: MORE });
  const listeners = listenersOf('deaths', 1);
  const stays = node(fleet, 'connector-2'); // the speaker's
  await explained(() => fleet, async () => {
    const { others, lines } = await play(listeners, stays, async (speaker, cutters) => {
      const speaking = speaker.speak();
      for (let round = 0; round < ROUNDS; round++) {
        for (const dies of ['connector', 'owner', 'connector and owner']) {
          const victim = node(fleet, 'connector-1');
          for (const [i, cutter] of cutters.entries()) {
            cutter.next = ((i + round) % 3 > 0 ? victim : stays).connector;
            listeners[i].lateNotice = listeners[i].polls && cutter.next.port !== cutter.target.port; // its library says to the next connector that its last one failed
          }
          await Promise.all(listeners.map((listener, i) => cutOften(listener, cutters[i], { cuts: 1, frozenMs: 1_000 })));
          const hit = listeners.filter((_, i) => dies !== 'owner' && cutters[i].target === victim.connector);
          const entries = hit.map((listener) => listener.entries);
          for (const listener of listeners) listener.lateNotice = true;
          const dead = [];
          if (dies !== 'owner') dead.push(victim);
          if (dies !== 'connector') dead.push(await ownerOf(fleet));
          const began = performance.now();
          const recovered = kill(fleet, ...dead);
          if (dies !== 'owner') for (const cutter of cutters) cutter.target = stays.connector; // gates name the other one no more
          await recovered;
          for (const [i, listener] of hit.entries()) await eventually(() => listener, isBack(listener, entries[i]), PATIENCE_MS);
          for (const listener of listeners) listener.lateNotice = false;
          t.diagnostic(`${dies}: ${dead.map(({ id }) => id).join(' and ')} killed, all back and followed after ${Math.round(performance.now() - began)} ms`);
        }
      }
      speaker.stop();
      await speaking;
    }, REFUSALS);
    assert.deepStrictEqual(others, [], 'others were told');
    for (const line of lines) t.diagnostic(line);
  });
  await fleet.stop();
});
