'use strict';

module.exports = (app) => new ChatHandler(app);

class ChatHandler {
  constructor(app) {
    this.app = app;
  }

  // send pushes a message to everybody in the sender's room, or to one of them.
  send(msg, session, next) {
    const rid = session.get('rid');
    const param = { msg: msg.content, from: session.uid.split('*')[0], target: msg.target };
    const channels = this.app.get('channelService');
    const channel = channels.getChannel(rid, false);
    if (!channel) {
      next(null, { code: 500 });
      return;
    }
    if (msg.target === '*') {
      channel.pushMessage('onChat', param);
    } else {
      const member = channel.getMember(msg.target + '*' + rid);
      channels.pushMessageByUids('onChat', param, member ? [member] : []);
    }
    next(null, { route: msg.route });
  }
}
