'use strict';

const { Queue, within } = require('./expect');

// Client is what every kind of client offers to a scenario. A kind implements
//   static connect(address, options)         up to and including the handshake ack
//   sendRequest(route, body, answered), notify(route, body)
//   batch(fill)    what fill sends goes out as closely together as the kind can
//   leave()        the orderly goodbye
//   vanish()       the socket is closed without a word
//   cut()          the connection is reset
//   freeze()       no timer runs any more: the client falls silent
// and calls pushed() and ended().
class Client {
  // pushes are handed out in order; a scenario reads every one of them.
  pushes = new Queue();
  // trace names everything that arrived, in order: routes of pushes, and 'answer'.
  trace = [];
  // heartbeats are those that arrived from the server.
  heartbeats = new Queue();
  // user is {name, room} after an enter.
  user = null;
  // faults are what the server did that no scenario would notice; at the end of a scenario there may be none.
  faults = [];

  constructor() {
    this.closed = new Promise((resolve) => (this.ended = resolve));
    this.closed.then((how) => {
      const reason = `the connection is closed, ${JSON.stringify(how)}`;
      this.pushes.end(reason);
      this.heartbeats.end(reason);
    });
  }

  request(route, body) {
    const answer = new Promise((resolve, reject) => {
      this.sendRequest(route, body, (answerBody) => {
        this.trace.push('answer');
        resolve(answerBody);
      });
      this.closed.then(() => reject(new Error(`${route}: the connection is closed`)));
    });
    answer.catch(() => {}); // a scenario that does not ask for the answer is not disturbed by a close
    return within(answer, `answer of ${route}`);
  }

  fault(what) {
    this.faults.push(what);
  }

  pushed(route, body) {
    this.trace.push(route);
    this.pushes.put({ route, body });
  }
}

module.exports = { Client };
