'use strict';

module.exports = (app) => new ChatRemote(app);

// ChatRemote is what connectors call by rpc. Pomelo looks for methods that can be enumerated; those of a class cannot.
function ChatRemote(app) {
  this.app = app;
}

const userOf = (uid) => uid.split('*')[0];

// add has a user enter a room, tells those who are there, and gives back who that is.
ChatRemote.prototype.add = function (uid, sid, name, create, done) {
  const channel = this.app.get('channelService').getChannel(name, create);
  if (channel) {
    channel.pushMessage('onAdd', { user: userOf(uid) });
    channel.add(uid, sid);
  }
  this.get(name, done);
};

// get lists the users of a room.
ChatRemote.prototype.get = function (name, done) {
  const channel = this.app.get('channelService').getChannel(name, false);
  done(channel ? channel.getMembers().map(userOf) : []);
};

// kick has a user leave a room, and tells those who stay.
ChatRemote.prototype.kick = function (uid, sid, name, done) {
  const channel = this.app.get('channelService').getChannel(name, false);
  if (channel) {
    channel.leave(uid, sid);
    channel.pushMessage('onLeave', { user: userOf(uid) });
  }
  done();
};
