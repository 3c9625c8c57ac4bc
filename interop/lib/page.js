'use strict';

// What a browser page brings along for pomelo-jsclient-websocket: window, WebSocket, localStorage, timers, an
// EventEmitter, and the two codecs in their browser form.

const { EventEmitter } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');
const WebSocket = require('ws');
const { load } = require('./npm');

// LocalStorage outlives a page; two pages that share one behave like two visits of one browser.
class LocalStorage {
  #items = new Map();

  getItem(key) {
    return this.#items.has(key) ? this.#items.get(key) : null;
  }

  setItem(key, value) {
    this.#items.set(key, String(value));
  }
}

class Page {
  // The newest WebSocket and the TCP socket under it.
  websocket = null;
  tcp = null;
  #frozen = false;

  // observe(event, argument) is told everything the client emits. secure: as where the library's ws:// was changed to wss:// (docs/MIGRATING.md).
  constructor({ observe, storage = new LocalStorage(), protobuf = browserProtobuf, secure = false }) {
    const window = { WebSocket: this.#webSocketClass(secure), EventEmitter: emitterClass(observe), localStorage: storage };
    this.scope = {
      window,
      WebSocket: window.WebSocket,
      localStorage: storage,
      console: { log() {}, warn() {}, error() {} },
      setTimeout: (callback, ms) => setTimeout(() => this.#frozen || callback(), ms),
      clearTimeout,
    };
    load('pomelo-protocol/lib/protocol.js', this.scope);
    window.protobuf = protobuf(this.scope);
    this.pomelo = load('pomelo-jsclient-websocket', this.scope);
  }

  // freeze is what a browser does to a page nobody looks at: its timers do not run any more.
  freeze() {
    this.#frozen = true;
  }

  #webSocketClass(secure) {
    const page = this;
    return class extends WebSocket {
      constructor(url) {
        const connect = secure ? (to) => tls.connect({ ...to, rejectUnauthorized: false }) : net.connect;
        if (secure) url = url.replace(/^ws:/, 'wss:');
        super(url, { origin: 'http://page.example', createConnection: ({ host, port }) => (page.tcp = connect({ host, port })) });
        page.websocket = this;
      }
    };
  }
}

function emitterClass(observe) {
  return class extends EventEmitter {
    emit(event, ...args) {
      observe(event, args[0]);
      return this.listenerCount(event) > 0 && super.emit(event, ...args);
    }
  };
}

// The npm release of the client asks for decodeStr, which the browser build of the codec calls decode.
function browserProtobuf(scope) {
  const protobuf = load('pomelo-protobuf/lib/client/protobuf.js', scope);
  return { ...protobuf, decodeStr: protobuf.decode };
}

// The main entry has decodeStr, and decodes standard UTF-8 only.
function mainProtobuf() {
  return load('pomelo-protobuf');
}

module.exports = { Page, LocalStorage, mainProtobuf };
