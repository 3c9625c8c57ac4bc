'use strict';

// A site as docs/OPERATIONS.md describes it: pomelod, a proxy with TLS in front, and ways to it from addresses of one's own.

const fs = require('node:fs');
const { Server } = require('../lib/server');
const { configurationsUnder, placed } = require('./document');
const { Directory, freePorts, makeCertificate, startCaddy, startHaproxy, startNginx } = require('./proxy');
const { TlsRelay } = require('./relay');

// Each starts one proxy with what the document says, where its servers, certificate and ports are the trial's. raw: it has a
// port for raw TCP.
const PROXIES = {
  nginx: {
    raw: true,
    start({ directory, certificate, backends, ports }) {
      const [http, stream] = configurationsUnder('### nginx');
      const files = { '/etc/ssl/chat.pem': certificate.pem, '/etc/ssl/chat.key': certificate.key };
      return startNginx(
        directory,
        {
          http: placed(http, { ...files, ...backends.both, 'listen 443 ': `listen 127.0.0.1:${ports.https} ` }),
          stream: placed(stream, { ...files, ...backends.connector, 'listen 3443 ': `listen 127.0.0.1:${ports.raw} ` }),
        },
        endsOf(ports),
      );
    },
  },
  HAProxy: {
    raw: true,
    start({ directory, certificate, backends, ports, change = (text) => text }) {
      const text = placed(change(configurationsUnder('### HAProxy')[0]), {
        '/etc/haproxy/chat.pem': certificate.both,
        ...backends.both,
        'bind :443 ': `bind 127.0.0.1:${ports.https} `,
        'bind :3443 ': `bind 127.0.0.1:${ports.raw} `,
      });
      return startHaproxy(directory, text, endsOf(ports));
    },
  },
  Caddy: {
    raw: false,
    async start({ directory, certificate, backends, ports }) {
      const proxy = await startCaddy(directory, placed(configurationsUnder('### Caddy')[0], backends.both), ports, namesOf(ports));
      certificate.text = fs.readFileSync(directory.file('pki/authorities/local/root.crt'), 'utf8');
      return proxy;
    },
  },
};

const NAMES = ['chat.example.com', 'gate.example.com'];
const namesOf = ({ https }) => NAMES.map((name) => ({ port: https, name }));
const endsOf = (ports) => [...namesOf(ports), { port: ports.raw }];

// documentedFlags are the settings that the document has for pomelod behind a proxy.
function documentedFlags() {
  const settings = configurationsUnder('## TLS by a proxy').join('').trim().split('\n');
  return settings.flatMap((line) => {
    const [, name, value] = /^POMELOD_([A-Z_]+)=(.*)$/.exec(line);
    return [`-${name.toLowerCase().replaceAll('_', '-')}`, value];
  });
}

// startServer takes the options of Server.start, and flags, more of them.
const startServer = ({ flags = [], ...options } = {}) =>
  Server.start({ loops: 2, drain: '1s', ...options, more: [...documentedFlags(), ...flags] });

class Site {
  static #running = new Set();

  // stopAll is for those that a failed test has left.
  static async stopAll() {
    for (const site of Site.#running) await site.stop();
  }

  #relays = [];

  // options: those of startServer, and change, which may change the proxy's configuration.
  static async start(name, { change, ...options } = {}) {
    const site = new Site();
    site.directory = new Directory();
    site.server = await startServer(options);
    Site.#running.add(site);
    const [https, raw, http] = await freePorts(3);
    site.ports = { https, raw, http };
    site.certificate = makeCertificate(site.directory);
    const at = ({ port }) => `127.0.0.1:${port}`;
    const connector = { '127.0.0.1:3050': at(site.server.connector) };
    const backends = { connector, both: { ...connector, '127.0.0.1:3014': at(site.server.gate) } };
    try {
      site.proxy = await PROXIES[name].start({ ...site, backends, change });
    } catch (err) {
      await site.stop();
      throw err;
    }
    return site;
  }

  // toConnector, toGate and toRaw are the address at which a client without TLS gets there, seen at the proxy as from.
  toConnector(from) {
    return this.#relay(this.ports.https, 'chat.example.com', from);
  }

  toGate(from) {
    return this.#relay(this.ports.https, 'gate.example.com', from);
  }

  toRaw(from) {
    return this.#relay(this.ports.raw, 'chat.example.com', from);
  }

  async #relay(port, name, from) {
    const relay = await TlsRelay.start({ port, name, certificate: this.certificate.text }, from);
    this.#relays.push(relay);
    return relay.address;
  }

  // explain adds what the server and the proxy said to an error.
  explain(err) {
    const explained = this.server.explain(err);
    explained.message += `  proxy:\n${this.proxy.output}`;
    return explained;
  }

  async stop() {
    Site.#running.delete(this);
    for (const relay of this.#relays) relay.stop();
    await this.proxy?.stop();
    await this.server.stop().finally(() => this.directory.remove());
  }
}

module.exports = { PROXIES, Site, startServer };
