'use strict';

const assert = require('node:assert');
const { eventually } = require('../expect');
const { fetch } = require('./http');

// What the server itself says about its sessions. It says it for each of its loops; here they are one.

// samplesOf returns the samples of one metric as {labels, value}.
function samplesOf(text, name) {
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  assert.ok(lines.length > 0, `no ${name} in the metrics`);
  return lines.map((line) => {
    const labels = Object.fromEntries([...line.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, value]) => [label, value]));
    return { labels, value: Number(line.slice(line.lastIndexOf(' '))) };
  });
}

// readCounts returns {sessions: {transport: number} without the zeros, upgrades}.
async function readCounts(server) {
  const { text } = await fetch(server.admin, '/metrics');
  const sessions = {};
  for (const { labels, value } of samplesOf(text, 'pomelod_sessions')) {
    if (value > 0) sessions[labels.transport] = (sessions[labels.transport] ?? 0) + value;
  }
  const upgrades = samplesOf(text, 'pomelod_upgrades_total').reduce((sum, { value }) => sum + value, 0);
  return { sessions, upgrades };
}

// expectCounts waits until the server counts exactly this.
function expectCounts(server, expected) {
  return eventually(() => readCounts(server), (counts) => assert.deepStrictEqual(counts, expected));
}

module.exports = { readCounts, expectCounts };
