'use strict';

const dns = require('node:dns');
const { once } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');

// The names of the document are this machine, for every client library.
const { lookup } = dns;
dns.lookup = (name, ...rest) => lookup(name.endsWith('.example.com') ? '127.0.0.1' : name, ...rest);

// TlsRelay is TLS for clients that have none, or cannot be told to believe a certificate of the trial. Its clients have
// an address of their own.
class TlsRelay {
  #pairs = new Set();
  #listener;

  // to: where the proxy listens, {port, name, certificate}. from: the address of the clients.
  static async start(to, from) {
    const relay = new TlsRelay(to, from);
    relay.#listener.listen(0, '127.0.0.1');
    await once(relay.#listener, 'listening');
    relay.#listener.unref();
    return relay;
  }

  constructor({ port, name, certificate }, from) {
    this.name = name;
    this.#listener = net.createServer({ noDelay: true, allowHalfOpen: false }, (near) => {
      const socket = net.connect({ host: '127.0.0.1', port, localAddress: from, noDelay: true });
      const far = tls.connect({ socket, servername: name, ca: certificate });
      this.#pairs.add(near).add(far);
      for (const [one, other] of [[near, far], [far, near]]) {
        one.on('error', () => {}); // 'close' follows
        one.on('close', () => this.#pairs.delete(one) && other.destroy());
        one.pipe(other);
      }
    });
  }

  get address() {
    return { host: this.name, port: this.#listener.address().port };
  }

  stop() {
    this.#listener.close();
    for (const socket of this.#pairs) socket.destroy();
  }
}

module.exports = { TlsRelay };
