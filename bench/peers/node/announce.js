'use strict';

// What a server says to the load generator (bench/README.md, "Servers"), and what that tells it.

// option gives the value of -name, and what it is without.
exports.option = (name, otherwise) => {
  const i = process.argv.indexOf('-' + name);
  return i < 0 || i + 1 === process.argv.length ? otherwise : process.argv[i + 1];
};

// address takes host:port apart.
exports.address = (text) => {
  const i = text.lastIndexOf(':');
  return { host: text.slice(0, i), port: Number(text.slice(i + 1)) };
};

exports.listening = (server, host, port) => say({ msg: 'listening', server, addr: host + ':' + port });
exports.ready = (pids) => say({ msg: 'ready', pids });

function say(line) {
  process.stderr.write(JSON.stringify(line) + '\n');
}
