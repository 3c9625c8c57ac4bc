'use strict';

// One server of the chat: master, gate, connector or chat, as Pomelo's arguments say (id=… serverType=…). base=… is the
// folder with config/ and app/; nodelay=true is ours (net.js). Started by ../pomelo.js, which is told when all servers run, and
// without which this one ends.

const { loopbackOnly, noDelay } = require('./net');

loopbackOnly();
if (process.argv.includes('nodelay=true')) noDelay();

const pomelo = require('pomelo');

const base = process.argv.find((arg) => arg.startsWith('base=')).slice('base='.length);
const app = pomelo.createApp({ base });
app.set('name', 'chat');

// distinctHost: listen on the host of servers.json, not on all addresses of this machine. Everything else is Pomelo's
// default: no heartbeat, no dictionary, no protobuf, each push sent at once.
app.configure('production', 'gate|connector', () => app.set('connectorConfig', { connector: pomelo.connectors.hybridconnector, distinctHost: true }));

// A room is always on the same chat server.
app.route('chat', (session, msg, app, next) => {
  const servers = app.getServersByType('chat') || [];
  if (servers.length === 0) {
    next(new Error('there is no chat server'));
    return;
  }
  next(null, servers[hash(session.get('rid')) % servers.length].id);
});

function hash(name) {
  let h = 0;
  for (let i = 0; i < name.length; i++) h = (h * 31 + name.charCodeAt(i)) >>> 0;
  return h;
}

process.on('disconnect', () => process.exit());
process.on('uncaughtException', (err) => {
  console.error(err.stack);
  process.exit(1);
});

// The master is there before others know of each other, so it says at once what they say when all have started.
if (app.getServerType() !== 'master') app.event.on(pomelo.events.START_ALL, () => process.send('ready'));
app.start((err) => {
  if (err) throw err;
  if (app.getServerType() === 'master') process.send('ready');
});
