'use strict';

// Every generation of socket.io client behind one face, loaded as it is from npm:
//   open(url, {transport, agent, reconnects})  a socket of its own, which is connecting
//   engineOf(socket)      what holds the current transport
//   websocketOf(socket)   the WebSocket under it
//   silence(socket)       a client that polls asks and sends no more; a request that is open stays so
//   abandon(socket)       besides, the open request is broken off

const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');
const { BrowserPage } = require('./browser');

const nothing = () => {};

// Socket.io 0.9 knows its options by words, and takes the list of transports from the module.
class Version0 {
  generation = 'sio09';
  transports = ['websocket', 'xhr-polling', 'jsonp-polling'];

  constructor(name) {
    this.name = name;
  }

  open(url, { transport, reconnects }) {
    const isPage = transport === 'jsonp-polling';
    const io = isPage ? new BrowserPage(libraryOf(this.name), { xhr: false }).io : require(this.name);
    io.transports = [transport];
    // By itself it waits twice as long each time, without limit, and gives up after ten times.
    const patience = { 'reconnection limit': 5000, 'max reconnection attempts': Infinity };
    return io.connect(url, { 'force new connection': true, reconnect: reconnects, ...patience });
  }

  engineOf(socket) {
    return socket.socket;
  }

  websocketOf(socket) {
    return socket.socket.transport.websocket;
  }

  silence(socket) {
    Object.assign(socket.socket.transport, { get: nothing, post: nothing });
  }

  abandon(socket) {
    this.silence(socket);
    const { xhr } = socket.socket.transport;
    xhr.onreadystatechange = nothing;
    xhr.abort();
  }
}

// From 1.0 on it is engine.io below.
class VersionEngine {
  // browser: on which transports its browser build is played as well, which talks otherwise than the one for Node.
  // more: options of the library that change what it says.
  constructor(name, { generation, jsonp = false, browser = [], transports = ['websocket', 'polling', 'upgrade'], more = {} }) {
    this.name = name;
    this.generation = generation;
    this.transports = [...transports, ...(jsonp ? ['jsonp'] : []), ...browser];
    this.more = more;
  }

  open(url, { transport, agent, reconnects }) {
    const options = { forceNew: true, reconnection: reconnects, reconnectionDelay: 100, ...this.more, ...OPTIONS[transport] };
    if (transport === 'jsonp' || transport.startsWith('browser')) {
      return new BrowserPage(libraryOf(this.name)).io(url, options);
    }
    return require(this.name)(url, { ...options, agent, forceNode: true }); // its own ws, where Node has a WebSocket
  }

  engineOf(socket) {
    return socket.io.engine;
  }

  websocketOf(socket) {
    return socket.io.engine.transport.ws;
  }

  silence(socket) {
    Object.assign(socket.io.engine.transport, { doPoll: nothing, doWrite: nothing });
  }

  abandon(socket, agent) {
    this.silence(socket);
    const { xhr } = socket.io.engine.transport.pollXhr;
    if (!xhr) return agent.destroy(); // since 4.8, whose XMLHttpRequest throws when it is aborted
    xhr.onreadystatechange = nothing;
    xhr.abort();
  }
}

// By default all of them poll first and upgrade then.
const OPTIONS = {
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
  jsonp: { transports: ['polling'], forceJSONP: true },
  'browser polling': { transports: ['polling'] },
};

const libraries = new Map();

// libraryOf is the browser build of a client, as a page would load it.
function libraryOf(name) {
  if (!libraries.has(name)) {
    const filename = path.join(__dirname, '..', '..', 'node_modules', name, 'dist', 'socket.io.js');
    libraries.set(name, new vm.Script(fs.readFileSync(filename, 'utf8'), { filename }));
  }
  return libraries.get(name);
}

const VERSIONS = {
  '0.9': new Version0('sio-0.9'),
  '1.7.2': new VersionEngine('sio-1.7.2', { generation: 'eio3', jsonp: true }),
  // In a browser they get binary payloads when they poll, and cross origins.
  '1.7.4': new VersionEngine('sio-1.7.4', {
    generation: 'eio3',
    jsonp: true,
    browser: ['browser polling', 'browser upgrade'],
  }),
  '2.0': new VersionEngine('sio-2.0', { generation: 'eio3' }),
  '2.5': new VersionEngine('sio-2.5', { generation: 'eio3', jsonp: true, browser: ['browser polling'] }),
  '3.1': new VersionEngine('sio-3.1', { generation: 'eio4' }),
  '4.7': new VersionEngine('sio-4.7', { generation: 'eio4' }),
  '4.8': new VersionEngine('sio-4.8', { generation: 'eio4' }),
  // Asks for an ack with each message, sends the next only then, and repeats a message that gets none. The time is as long as what a test
  // waits for anything: a missing ack fails it, and one that is late on a busy machine does not.
  '4.8 retries': new VersionEngine('sio-4.8', { generation: 'eio4', more: { retries: 2, ackTimeout: 30_000 } }),
  // The WebSocket comes about only if the server names one of the subprotocols.
  '4.8 protocols': new VersionEngine('sio-4.8', {
    generation: 'eio4',
    transports: ['websocket', 'upgrade'],
    more: { protocols: ['pomelo', 'chat'] },
  }),
};

module.exports = { VERSIONS };
