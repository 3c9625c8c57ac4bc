'use strict';

// A process of its own that holds clients in a room, to be killed with all of them. Its one argument is JSON:
// {address, room, members: [{name, kind}]}.

const { enter } = require('../chat');
const { kindNamed } = require('./kinds');

async function hold({ address, room, members }) {
  for (const { name, kind } of members) {
    const client = await kindNamed(kind).connect(address);
    const { users } = await enter(client, name, room);
    if (!users) throw new Error(`${name} may not enter`);
    await client.settled();
  }
  process.send('all there');
}

process.on('disconnect', () => process.exit()); // the test is gone
hold(JSON.parse(process.argv[2]));
