'use strict';

// The chat application as its clients see it: routes, bodies, and the expectations every scenario is made of.

const assert = require('node:assert');

const ROUTES = {
  query: 'gate.gateHandler.queryEntry',
  enter: 'connector.entryHandler.enter',
  send: 'chat.chatHandler.send',
};

const FAILED = { code: 500 };
const REFUSED = { code: 500, error: true };

const onAdd = (user) => ({ route: 'onAdd', body: { route: 'onAdd', user } });
const onLeave = (user) => ({ route: 'onLeave', body: { route: 'onLeave', user } });
const onChat = (msg, from, target = '*') => ({ route: 'onChat', body: { msg, from, target } });

// enter returns the answer, whatever it is.
async function enter(client, username, rid) {
  const answer = await client.request(ROUTES.enter, { username, rid });
  if (answer.users) client.user = { name: username, room: rid };
  return answer;
}

function send(client, content, target = '*') {
  return client.request(ROUTES.send, { content, target });
}

async function expectPushes(client, ...expected) {
  for (const push of expected) {
    const name = client.user?.name ?? 'a client';
    assert.deepStrictEqual(await client.pushes.next(`${name} waits for ${JSON.stringify(push).slice(0, 200)}`), push);
  }
}

let markers = 0;

// expectNothingMore shows that nothing is on its way to these clients: a later marker arrives, and nothing before it.
// In a room the marker is a private message to oneself, which takes the way every push of that room takes.
async function expectNothingMore(...clients) {
  for (const client of clients) {
    if (client.user) {
      const marker = `marker ${++markers}`;
      const { name } = client.user;
      assert.deepStrictEqual(await send(client, marker, name), {});
      await expectPushes(client, onChat(marker, name, name));
    } else {
      assert.deepStrictEqual(await client.request('no.such.route', {}), FAILED);
    }
    assert.deepStrictEqual(client.pushes.unread, []);
  }
}

module.exports = { ROUTES, FAILED, REFUSED, onAdd, onLeave, onChat, enter, send, expectPushes, expectNothingMore };
