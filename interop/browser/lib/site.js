'use strict';

// pomelod with its page, behind a proxy: one address for the page and the connector, which outlives the server.

const { Server } = require('../../lib/server');
const { Proxy } = require('./proxy');

class Site {
  server = null;
  #options;

  // options are those of Server.start.
  static async start(options = {}) {
    const site = new Site();
    site.#options = { loops: 1, config: false, ...options };
    site.proxy = await Proxy.start();
    await site.startServer();
    return site;
  }

  // url is the page's address, and that of its gate.
  get url() {
    return `http://${this.proxy.host}:${this.proxy.port}/`;
  }

  get address() {
    return { host: this.proxy.host, port: this.proxy.port };
  }

  // startServer also makes the gate send clients to the proxy.
  async startServer() {
    process.env.POMELOD_ADVERTISE = `${this.proxy.host}:${this.proxy.port}`;
    try {
      this.server = await Server.start(this.#options);
    } finally {
      delete process.env.POMELOD_ADVERTISE;
    }
    this.proxy.target = this.server.connector;
  }

  // killServer gives it no time to say goodbye. Server ends servers in order only; the log has the process.
  killServer() {
    const { pid } = this.server.log.map((line) => JSON.parse(line)).find(({ msg }) => msg === 'ready');
    this.proxy.target = null;
    process.kill(pid, 'SIGKILL');
    this.server = null;
  }

  // restartServer ends it in order and starts the next.
  async restartServer() {
    this.proxy.target = null;
    this.proxy.cut();
    await this.server.stop();
    await this.startServer();
  }

  async stop() {
    this.proxy.stop();
    await this.server?.stop();
  }
}

module.exports = { Site };
