'use strict';

module.exports = (app) => new EntryHandler(app);

class EntryHandler {
  constructor(app) {
    this.app = app;
  }

  // enter binds the session to its user and has the chat server add that to the room. A uid names the room too: users of
  // different rooms may be called the same.
  enter(msg, session, next) {
    const { rid } = msg;
    const uid = msg.username + '*' + rid;
    session.bind(uid);
    session.set('rid', rid);
    session.push('rid', (err) => err && console.error('session of', uid, 'was not stored:', err));
    session.on('closed', (s) => s && s.uid && this.app.rpc.chat.chatRemote.kick(s, s.uid, this.app.get('serverId'), s.get('rid'), null));
    this.app.rpc.chat.chatRemote.add(session, uid, this.app.get('serverId'), rid, true, (users) => next(null, { users }));
  }
}
