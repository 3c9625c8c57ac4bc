'use strict';

// What Pomelo lets nobody configure about its own connections, those between its servers.

const net = require('net');

// loopbackOnly has servers that name no host listen on 127.0.0.1, not on every address of the machine.
exports.loopbackOnly = () => {
  const listen = net.Server.prototype.listen;
  net.Server.prototype.listen = function (port, ...rest) {
    if (typeof port === 'number' && typeof rest[0] !== 'string') rest.unshift('127.0.0.1');
    return listen.call(this, port, ...rest);
  };
};

// noDelay sends what is written at once. Pomelo writes an rpc call in several pieces, and without this the last one may wait
// for the other side's delayed acknowledgement of the first, some 40 ms.
exports.noDelay = () => {
  const { createConnection } = net;
  net.createConnection = (...args) => createConnection(...args).setNoDelay(true);
  const listen = net.Server.prototype.listen;
  net.Server.prototype.listen = function (...args) {
    this.on('connection', (socket) => socket.setNoDelay(true));
    return listen.apply(this, args);
  };
};
