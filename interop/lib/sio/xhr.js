'use strict';

const http = require('node:http');

const nothing = () => {};

// fetchFor is one request of a page; the answer is {status, headers, body}. started is told the request, and headed what
// there is of the answer when its head has come.
function fetchFor(page, method, url, { headers = {}, body, started = nothing, headed = nothing } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: page.agent }, (response) => {
      const pieces = [];
      headed({ status: response.statusCode, headers: response.headers });
      response.on('data', (piece) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces) });
      });
    });
    request.on('error', reject);
    started(request);
    request.end(body);
  });
}

// xhrOf is the XMLHttpRequest of a page: level 2, with binary answers, and as strict about other origins as a browser. A
// page and its connector never have the same origin, because their ports differ. What these libraries send as text, a
// browser lets them send without a preflight.
function xhrOf(page) {
  return class XMLHttpRequest {
    readyState = 0;
    status = 0;
    responseType = '';
    withCredentials = false;
    onreadystatechange = null;
    #answer = null;
    #request = null;
    #aborted = false;
    #headers = { origin: page.origin };

    open(method, url) {
      Object.assign(this, { method, url, readyState: 1 });
    }

    setRequestHeader(name, value) {
      this.#headers[name.toLowerCase()] = value;
    }

    getResponseHeader(name) {
      return this.#answer?.headers[name.toLowerCase()] ?? null;
    }

    get response() {
      if (this.responseType !== 'arraybuffer') return this.responseText;
      const { buffer, byteOffset, length } = this.#answer.body;
      return buffer.slice(byteOffset, byteOffset + length);
    }

    get responseText() {
      if (this.responseType === 'arraybuffer') throw new Error('InvalidStateError');
      return this.#answer?.body?.toString() ?? '';
    }

    async send(data) {
      try {
        const started = (request) => (this.#request = request);
        const headed = (head) => this.#headed(head);
        this.#answer = await fetchFor(page, this.method, this.url, { headers: this.#headers, body: data, started, headed });
        this.#expectAllowed(this.#answer);
      } catch {
        this.status = 0; // a browser does not tell a page more
        this.#answer = null;
      }
      this.#enter(4);
    }

    // A library decides by the head how it wants to read the body.
    #headed(head) {
      this.#answer = head;
      this.status = head.status;
      this.#enter(2);
    }

    #enter(readyState) {
      this.readyState = readyState;
      if (!this.#aborted) this.onreadystatechange?.();
    }

    abort() {
      this.#aborted = true;
      this.#request?.destroy();
    }

    #expectAllowed({ headers }) {
      const origin = headers['access-control-allow-origin'];
      const isAllowed = this.withCredentials
        ? origin === page.origin && headers['access-control-allow-credentials'] === 'true'
        : origin === page.origin || origin === '*';
      if (!isAllowed) throw new Error(`${page.origin} may not read this`);
    }
  };
}

module.exports = { fetchFor, xhrOf };
