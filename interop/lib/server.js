'use strict';

// Runs one pomelod: waits until it listens, hands out its addresses, and holds it to a clean end.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const readline = require('node:readline');
const { eventually, within } = require('./expect');

const STOP_DEADLINE_MS = 15_000;
const UPGRADE_DEADLINE_MS = 60_000;
const CONFIG_DIR = path.join(__dirname, '..', 'config');

class Server {
  #process;
  #pid; // of the process that serves: the first one, or one that has taken its place
  #ended;
  #exited;
  #started;
  #stopping = false;
  #over = false; // no process is left
  log = [];
  gate = null;
  connector = null;
  admin = null;
  nodes = []; // of a fleet, when it was ready last: {id, pid, connector, admin, …}

  // start resolves when the server said "ready". options: loops, config (bool), heartbeat ("1s"), drain
  // ("1s"), limits ("off"), port (of the connector), hasty (bool: socket.io clients that fall silent are dropped within seconds),
  // more (any other flags), command (in place of POMELOD), env (more of it), errors (a pattern of those that the test has it log).
  static async start(options) {
    const server = new Server(options.command ?? binary(), options);
    try {
      await within(server.#started, 'pomelod did not become ready');
      server.#checkAddresses();
    } catch (err) {
      server.#process.kill('SIGKILL');
      throw server.explain(err);
    }
    return server;
  }

  constructor(command, options) {
    this.options = options;
    this.#process = spawn(command, flags(options), { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
    this.#pid = this.#process.pid;
    const end = () => this.#signal('SIGKILL');
    process.once('exit', end); // a test run that breaks off leaves no server behind
    this.#ended = once(this.#process.stderr, 'close').then(() => { this.#over = true; process.off('exit', end); }); // the log is that of all processes
    this.#exited = once(this.#process, 'exit').then(([code, signal]) => signal ?? code);
    this.#started = new Promise((resolve, reject) => {
      this.#readLog(resolve);
      this.#process.once('error', reject);
      this.#exited.then((how) => {
        if (!this.#stopping) this.log.push(`(pomelod ended by itself: ${how})`);
        reject(new Error(`pomelod ended before it was ready: ${how}`));
      }, reject);
    });
  }

  // upgrade replaces the process by a new one of the same binary, which takes over its clients. It resolves with what the command says.
  async upgrade() {
    const before = this.#pid;
    this.#stopping = true; // the first process ends when the next has its place
    const command = spawn(binary(), ['upgrade', '-pid', String(before)], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [command.stdout, command.stderr]) stream.on('data', (text) => { said += text; });
    const [code] = await within(once(command, 'close'), 'pomelod upgrade did not end', UPGRADE_DEADLINE_MS);
    if (code !== 0) throw this.explain(new Error(`pomelod upgrade ended with ${code}: ${said}`));
    await eventually(() => this.#pid, (pid) => { if (pid === before) throw new Error('no new process is ready'); });
    return said;
  }

  // stop asks politely; anything but exit code 0 within the deadline is a failure.
  async stop() {
    this.#stopping = true;
    this.#signal('SIGTERM');
    try {
      const how = await within(this.#exited, 'pomelod did not end on SIGTERM', STOP_DEADLINE_MS);
      if (how !== 0) throw new Error(`pomelod ended with ${how} on SIGTERM, not with 0`);
      await within(this.#ended, 'the last process did not end on SIGTERM', STOP_DEADLINE_MS);
      const errors = this.log.filter((line) => line.includes('"level":"ERROR"') && !this.options.errors?.test(line));
      if (errors.length > 0) throw new Error(`pomelod logged ${errors.length} errors`);
    } catch (err) {
      this.#signal('SIGKILL');
      throw this.explain(err);
    }
  }

  // #signal is for the process that serves. One that has ended may have left its id to somebody else's.
  #signal(signal) {
    if (this.#over) return;
    try {
      process.kill(this.#pid, signal);
    } catch {} // it has ended
  }

  // explain adds the server's log to an error, so that a failed test shows both sides.
  explain(err) {
    const log = this.log.slice(-60).join('\n    ') || '(empty)';
    err.message += `\n  server log:\n    ${log}\n`;
    err.stack = `${err.message}\n${err.stack}`;
    return err;
  }

  #readLog(ready) {
    readline.createInterface({ input: this.#process.stdout }).on('line', (line) => this.log.push(line));
    readline.createInterface({ input: this.#process.stderr }).on('line', (line) => {
      this.log.push(line);
      const entry = parse(line);
      if (entry.msg === 'listening') this[entry.tls ? `${entry.server}TLS` : entry.server] = address(entry.addr); // gateTLS, connectorTLS
      if (entry.msg === 'ready') {
        this.#pid = entry.pid;
        this.nodes = (entry.nodes ?? []).map(nodeOf);
        ready();
      }
    });
  }

  #checkAddresses() {
    for (const listener of ['gate', 'connector', 'admin']) {
      if (!this[listener]) throw new Error(`pomelod is ready but never said where the ${listener} listens`);
    }
  }
}

function binary() {
  const command = process.env.POMELOD;
  if (!command) throw new Error('set POMELOD to the pomelod binary to test');
  return command;
}

function flags({ loops, config, heartbeat, hasty, port = 0, drain, limits, more = [] }) {
  const args = ['-listen', `127.0.0.1:${port}`, '-gate', '127.0.0.1:0', '-admin', '127.0.0.1:0'];
  args.push('-loops', String(loops));
  if (config) args.push('-config', CONFIG_DIR);
  if (limits) args.push('-limits', limits);
  if (drain) args.push('-drain', drain);
  if (heartbeat) args.push('-heartbeat', heartbeat);
  if (hasty) args.push('-sio-heartbeat', '1s', '-sio-timeout', '5s', '-sio-timeout4', '5s');
  return [...args, ...more];
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return {};
  }
}

// nodeOf is a node with addresses as objects.
function nodeOf({ id, pid, ...addresses }) {
  return { id, pid, ...Object.fromEntries(Object.entries(addresses).map(([server, text]) => [server, address(text)])) };
}

function address(text) {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

module.exports = { Server };
