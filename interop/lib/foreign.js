'use strict';

// Clients that are no JavaScript: programs of clients/, each of which plays as many clients as it is asked for. A program reads
// commands from stdin and writes events to stdout, one line of JSON each, with the number of the client:
//   {do: connect, client, kind, host, port, ...options}    → connected, or failed with a reason
//   {do: request, client, id, route, body}                 → answer with id and body
//   {do: notify, client, route, body}
//   {do: batch, client, messages}     requests and notifies, as closely together as the program can
//   {do: leave | vanish | cut | freeze, client}            → closed with a reason, except after freeze
//   {do: drop, client}    the network goes, for one that connects again: reconnected
// and tells push with route and body, and heartbeat. When stdin ends, it does. A program that ends by itself has found a fault, which
// it says on stderr.

const { spawn } = require('node:child_process');
const path = require('node:path');
const readline = require('node:readline');
const { Client } = require('./client');
const { Queue, within } = require('./expect');

const BIN = process.env.INTEROP_BIN ?? path.join(__dirname, '..', '..', 'bin');
const PYTHON = process.env.INTEROP_PYTHON ?? '/usr/bin/python3';

const PROGRAMS = {
  libpomelo2: [path.join(BIN, 'interop-libpomelo2')],
  go: [path.join(BIN, 'interop-go')],
  python: [PYTHON, '-u', path.join(__dirname, '..', 'clients', 'python.py')],
};

class Program {
  #process;
  #clients = new Map();
  #made = 0;

  constructor(name) {
    const [command, ...args] = PROGRAMS[name];
    this.#process = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    // It stays until the test file is through, and keeps it from ending no longer than its clients do.
    for (const part of [this.#process, this.#process.stdin, this.#process.stdout, this.#process.stderr]) part.unref();
    const said = [];
    readline.createInterface({ input: this.#process.stderr }).on('line', (line) => said.push(line));
    readline.createInterface({ input: this.#process.stdout }).on('line', (line) => {
      const event = JSON.parse(line);
      this.#clients.get(event.client).happened(event);
    });
    this.#process.stdin.on('error', () => {}); // 'close' follows
    this.#process.once('error', (err) => said.push(`${command}: ${err.message}; make interop builds what it needs`));
    this.#process.once('close', () => {
      programs.delete(name);
      const reason = `${name} ended: ${said.join('\n')}`;
      for (const client of this.#clients.values()) client.lost(reason);
    });
  }

  add(client) {
    this.#clients.set(++this.#made, client);
    return this.#made;
  }

  tell(command) {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`);
  }
}

const programs = new Map();

function programNamed(name) {
  if (!programs.has(name)) programs.set(name, new Program(name));
  return programs.get(name);
}

// ForeignClient is a client that a program plays.
class ForeignClient extends Client {
  // reconnects has each connection but the first.
  reconnects = new Queue();
  #program;
  #number;
  #lastId = 0;
  #waiting = new Map(); // id → answered
  #batch = null;
  #connected;

  static async connect(program, kind, { host, port }, options) {
    const client = new ForeignClient(program);
    const connected = new Promise((resolve, reject) => (client.#connected = { resolve, reject }));
    client.#do('connect', { kind, host, port, ...options });
    await within(connected, `${kind} connects to port ${port}`);
    return client;
  }

  constructor(program) {
    super();
    this.#program = programNamed(program);
    this.#number = this.#program.add(this);
  }

  sendRequest(route, body, answered) {
    const id = ++this.#lastId;
    this.#waiting.set(id, answered);
    this.#say({ do: 'request', id, route, body });
  }

  notify(route, body) {
    this.#say({ do: 'notify', route, body });
  }

  batch(fill) {
    this.#batch = [];
    fill();
    this.#do('batch', { messages: this.#batch });
    this.#batch = null;
  }

  leave() {
    return this.#end('leave');
  }

  vanish() {
    return this.#end('vanish');
  }

  cut() {
    return this.#end('cut');
  }

  freeze() {
    this.#do('freeze');
  }

  drop() {
    this.#do('drop');
  }

  // happened is told what the program tells of this client.
  happened({ event, id, route, body, reason }) {
    switch (event) {
      case 'connected':
        return this.#connected.resolve();
      case 'failed':
        return this.#connected.reject(new Error(reason));
      case 'reconnected':
        return this.reconnects.put(true);
      case 'answer':
        return this.#answered(id, body);
      case 'push':
        return this.pushed(route, body);
      case 'heartbeat':
        return this.heartbeats.put(true);
      case 'closed':
        return this.ended({ reason });
    }
    return this.fault(`an event ${event}`);
  }

  // lost: the program is gone, and with it the client.
  lost(reason) {
    this.#connected.reject(new Error(reason));
    this.fault(reason);
    this.ended({ reason });
  }

  #answered(id, body) {
    if (!this.#waiting.has(id)) return this.fault(`an answer to ${id}, which nobody waits for`);
    const answered = this.#waiting.get(id);
    this.#waiting.delete(id);
    answered(body);
  }

  #say(message) {
    if (this.#batch) this.#batch.push({ client: this.#number, ...message });
    else this.#do(message.do, message);
  }

  #do(what, rest) {
    this.#program.tell({ client: this.#number, ...rest, do: what });
  }

  #end(how) {
    this.#do(how);
    return within(this.closed, 'close');
  }
}

// foreign makes a kind of client (cast.js).
const foreign = (program, kind, more = {}) => ({
  name: kind,
  ...more,
  connect: (address, options) => ForeignClient.connect(program, kind, address, options),
});

module.exports = { foreign };
