'use strict';

// As much of a browser as the socket.io clients need, for their browser builds: XMLHttpRequest with CORS and binary
// answers, WebSocket, and for JSONP a document in which a script that is inserted loads and runs, and a form that is
// submitted posts its fields and then tells the iframe it is aimed at.

const http = require('node:http');
const vm = require('node:vm');
const WebSocket = require('ws');
const { fetchFor, xhrOf } = require('./xhr');

const CONNECTIONS = 6; // to one host, as browsers have it

class Element {
  style = {};
  parentNode = null;
  children = [];

  constructor(tag) {
    this.tag = tag;
  }

  setAttribute(name, value) {
    this[name] = value;
  }

  appendChild(child) {
    return this.insertBefore(child);
  }

  insertBefore(child) {
    child.parentNode = this;
    this.children.push(child);
    this.inserted?.(child);
    return child;
  }

  removeChild(child) {
    if (child.parentNode !== this) throw new Error('NotFoundError');
    child.parentNode = null;
    this.children.splice(this.children.indexOf(child), 1);
  }
}

// BrowserPage is one page with one client library in it; io is what the library exports.
class BrowserPage {
  origin = 'http://page.invalid';
  agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  #context;

  // A page without XMLHttpRequest is in a browser that has no CORS: it even shakes hands by JSONP.
  constructor(library, { xhr = true } = {}) {
    const scope = { document: this.#document(), location: { protocol: 'http:', hostname: 'page.invalid', port: '' } };
    Object.assign(scope, { navigator: { userAgent: 'interop', platform: 'interop' }, console: quiet, ...timers() });
    if (xhr) Object.assign(scope, { XMLHttpRequest: xhrOf(this), WebSocket: webSocketOf(this) });
    scope.window = scope.self = scope;
    this.#context = vm.createContext(scope);
    library.runInContext(this.#context);
  }

  get io() {
    return this.#context.io;
  }

  #document() {
    const head = new Element('head');
    const body = new Element('body');
    head.appendChild(new Element('script'));
    head.inserted = (element) => element.tag === 'script' && this.#load(element);
    return {
      readyState: 'complete',
      documentElement: new Element('html'),
      head,
      body,
      getElementsByTagName: (tag) => head.children.filter((element) => element.tag === tag),
      createElement: (tag) => {
        if (!/^[a-z]+$/.test(tag)) throw new Error('InvalidCharacterError'); // only old browsers take markup here
        const element = new Element(tag);
        if (tag === 'form') element.submit = () => this.#submit(element);
        return element;
      },
    };
  }

  // A script may come from anywhere, and is run if it comes well.
  async #load(script) {
    try {
      const { status, body } = await fetchFor(this, 'GET', script.src);
      if (status !== 200) throw new Error(`${script.src}: ${status}`);
      vm.runInContext(body.toString(), this.#context, { filename: script.src });
    } catch (err) {
      script.onerror?.(err);
    }
  }

  async #submit(form) {
    const fields = new URLSearchParams();
    for (const { tag, name, value } of form.children) {
      if (tag === 'textarea') fields.append(name, value.replace(/\r\n?|\n/g, '\r\n')); // so do browsers
    }
    const iframe = form.children.find(({ tag, name }) => tag === 'iframe' && name === form.target);
    const headers = { 'content-type': 'application/x-www-form-urlencoded', origin: this.origin };
    // An iframe tells when it is loaded, whatever it was that it loaded.
    await fetchFor(this, form.method, form.action, { headers, body: fields.toString() }).catch(() => {});
    if (iframe.parentNode) iframe.onload();
  }
}

function webSocketOf(page) {
  return class extends WebSocket {
    constructor(url) {
      super(url, { origin: page.origin });
    }
  };
}

// A library that misses Flash, say, tells the developer of the page.
const quiet = { log() {}, info() {}, warn() {}, error() {}, debug() {} };

const timers = () => ({ setTimeout, clearTimeout, setInterval, clearInterval });

module.exports = { BrowserPage };
