'use strict';

// Runs the cases of pomelo.cases.mjs in Node.js. No browser is needed, nor looked for.

const path = require('node:path');
const WebSocket = require('ws');
const { network, playCases } = require('./lib/cases');

playCases('Node.js', async (site) => {
  const lib = await import(path.join(__dirname, '..', '..', 'web', 'pomelo.js'));
  const { cases } = await import('./pomelo.cases.mjs');

  async function play(n, env) {
    const clients = [];
    try {
      await cases[n].run({ ...env, lib, WebSocket, clients, network: (what) => network(site, what) });
    } catch (error) {
      throw site.server.explain(error);
    } finally {
      for (const client of clients) client.disconnect();
      await network(site, 'up');
    }
  }

  return { play, close() {} };
});
