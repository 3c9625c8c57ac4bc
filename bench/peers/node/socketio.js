'use strict';

// A chat on socket.io 4: rooms are its rooms, and a message goes out by io.to(room).emit.

const http = require('http');
const { Server } = require('socket.io');
const { option, address, listening, ready } = require('./announce');

const { host, port } = address(option('listen', '127.0.0.1:0'));
const server = http.createServer();
const io = new Server(server, { transports: ['websocket'], perMessageDeflate: false });

// Nobody needs the request any more, as its documentation says where it is about memory.
io.engine.on('connection', (socket) => {
  socket.request = null;
});

io.on('connection', (socket) => {
  socket.on('enter', (room, name, done) => {
    socket.data.room = room;
    socket.data.name = name;
    socket.join(room);
    done();
  });
  socket.on('send', (msg, done) => {
    const { room, name } = socket.data;
    if (room === undefined) {
      done('not in a room');
      return;
    }
    io.to(room).emit('chat', { msg, from: name });
    done();
  });
});

process.on('SIGTERM', () => process.exit());
process.on('SIGINT', () => process.exit());
server.listen(port, host, () => {
  listening('connector', host, server.address().port);
  ready([process.pid]);
});
