'use strict';

const { once } = require('node:events');
const http2 = require('node:http2');
const net = require('node:net');
const WebSocket = require('ws');
const { within } = require('../lib/expect');
const { fetch } = require('../lib/sio/http');
const { packages } = require('../lib/wire');

// Callers open a connection or a session by hand, with headers of their own. They leave it to the server to close it.

// openWebSocket fails with the status of the answer when it is refused.
async function openWebSocket({ host, port, localAddress }, headers = {}) {
  const socket = new WebSocket(`ws://${host}:${port}`, { headers, localAddress });
  socket.on('error', () => {}); // once() tells those that matter here
  await within(once(socket, 'open'), 'open a WebSocket');
}

// openPoll begins a session of Engine.IO 4 that polls, and returns the status of the answer.
async function openPoll(address, headers = {}) {
  const { status } = await fetch(address, '/socket.io/?EIO=4&transport=polling', { headers });
  return status;
}

// openRaw shakes hands by raw TCP, and fails when the connection is closed instead. Before that it sends prefix.
async function openRaw({ host, port, localAddress }, prefix = '') {
  const socket = net.connect({ host, port, localAddress });
  socket.write(Buffer.concat([Buffer.from(prefix), packages.handshake()]));
  const closed = once(socket, 'close').then(() => Promise.reject(new Error('closed without an answer')));
  closed.catch(() => {}); // for afterwards
  await within(Promise.race([once(socket, 'data'), closed]), 'shake hands');
  return socket;
}

// openHttp2 opens a connection to a site as browsers do, on which all their requests go.
async function openHttp2({ ports, certificate }, from) {
  const name = 'chat.example.com';
  const connection = http2.connect(`https://${name}:${ports.https}`, { ca: certificate.text, localAddress: from });
  await within(once(connection, 'remoteSettings'), 'HTTP/2');
  return connection;
}

// askHttp2 makes a request there, and returns the status of the answer.
async function askHttp2(connection, headers) {
  const stream = connection.request(headers, { endStream: headers[':method'] !== 'CONNECT' });
  stream.on('error', () => {}); // the connection is destroyed while a WebSocket is open
  const [answer] = await within(once(stream, 'response'), 'an answer by HTTP/2');
  return answer[':status'];
}

// countsOf is what the server says: how many addresses it knows, how many connections it refused for their address, and
// which addresses its log has named for that. It names one in ten seconds.
async function countsOf(server) {
  const { text } = await fetch(server.admin, '/metrics');
  const value = (sample) => Number(text.split('\n').find((line) => line.startsWith(`${sample} `))?.slice(sample.length));
  const entries = server.log.filter((line) => line.includes('an address is at its limit')).map((line) => JSON.parse(line));
  return {
    addresses: value('pomelod_addresses'),
    refused: value('pomelod_refused_total{reason="addr_conns"}'),
    named: entries.map(({ addr }) => addr),
  };
}

module.exports = { openWebSocket, openPoll, openRaw, openHttp2, askHttp2, countsOf };
