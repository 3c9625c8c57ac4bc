'use strict';

// Starts the chat as Pomelo wants it: a process each for master, gate, connector and chat (pomelo/server.js). Pomelo would
// have its master start the others, and leave them behind when it is killed; here none outlives this launcher, which has
// no part in what they do. With -nodelay their own connections send at once (pomelo/net.js).

const { fork } = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const { option, address, listening, ready } = require('./announce');

const { host, port } = address(option('listen', '127.0.0.1:0'));
const gate = address(option('gate', '127.0.0.1:0') || '127.0.0.1:0');
const nodelay = process.argv.includes('-nodelay');
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-pomelo-'));
const children = [];

// freePorts finds ports that nobody has: Pomelo takes them from its configuration, and 0 means none there.
async function freePorts(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((done, fail) => {
    const server = net.createServer().on('error', fail);
    server.listen(0, host, () => done(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

// layOut makes the base folder of a Pomelo project: its configuration for these ports, and our handlers.
function layOut(master, servers) {
  fs.mkdirSync(path.join(dir, 'config'));
  const write = (name, value) => fs.writeFileSync(path.join(dir, 'config', name), JSON.stringify(value));
  write('master.json', { production: master });
  write('servers.json', { production: servers });
  write('adminServer.json', Object.keys(servers).map((type) => ({ type, token: 'bench' })));
  write('log4js.json', { appenders: [{ type: 'console' }], levels: { '[all]': 'ERROR' } });
  fs.symlinkSync(path.join(__dirname, 'pomelo', 'app'), path.join(dir, 'app'));
}

// start runs one server, and waits until it says that it is ready.
function start(serverType, server) {
  const args = Object.entries({ env: 'production', mode: 'stand-alone', base: dir, serverType, nodelay, ...server }).map(([key, value]) => key + '=' + value);
  const child = fork(path.join(__dirname, 'pomelo', 'server.js'), args, { stdio: ['ignore', 2, 2, 'ipc'] });
  children.push(child);
  child.on('exit', (code) => end(code || 1, `Pomelo's ${serverType} ended`));
  return new Promise((done) => child.once('message', done));
}

function end(code, why) {
  if (why) console.error(why);
  children.forEach((child) => child.removeAllListeners('exit').kill('SIGKILL'));
  fs.rmSync(dir, { recursive: true, force: true });
  process.exit(code);
}

async function main() {
  const ports = await freePorts(6);
  const master = { id: 'master-server-1', host, port: ports[0] };
  const servers = {
    connector: [{ id: 'connector-server-1', host, port: ports[1], clientPort: port || ports[2], frontend: true }],
    chat: [{ id: 'chat-server-1', host, port: ports[3] }],
    gate: [{ id: 'gate-server-1', host: gate.host, clientPort: gate.port || ports[4], frontend: true }],
  };
  layOut(master, servers);
  await start('master', master);
  await Promise.all(Object.entries(servers).map(([type, [server]]) => start(type, server)));
  listening('gate', servers.gate[0].host, servers.gate[0].clientPort);
  listening('connector', host, servers.connector[0].clientPort);
  ready(children.map((child) => child.pid));
}

process.on('SIGTERM', () => end(0));
process.on('SIGINT', () => end(0));
main().catch((err) => end(1, err.stack));
