'use strict';

const assert = require('node:assert');
const { setTimeout: pause } = require('node:timers/promises');
const { ROUTES, enter } = require('./chat');
const { eventually } = require('./expect');
const { TcpClient } = require('./tcp');

const PER_SECOND = 200; // messages
const AT_ONCE = 1000; // messages that may wait for an answer
const REFUSED_MS = 120_000; // for so long all may be refused in the end: a slow machine is no fault here

// Speaker says numbers in a room, so many a second, from speak to stop.
class Speaker {
  said = 0;
  unsaid = new Set(); // numbers that were refused: perhaps nobody is told
  others = []; // what it was told of who came and went
  faults = [];
  failed; // rejects when it cannot speak any more
  #fail;
  #stopped = false;

  // server: {connector}. refusals are the reasons for which a number may be refused.
  constructor(server, room, refusals = []) {
    Object.assign(this, { server, room, refusals });
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => {}); // nobody need look
  }

  async begin() {
    this.client = await TcpClient.connect(this.server.connector);
    this.client.pushes = { put: ({ route, body }) => route !== 'onChat' && this.others.push(`${route} ${body.user}`), end() {} };
    await enter(this.client, 'speaker', this.room);
  }

  // say says the next number, and resolves when that was answered with whether it was said.
  async say() {
    const number = this.said++;
    const answer = await this.client.request(ROUTES.send, { content: number, target: '*' });
    if (Object.keys(answer).length === 0) return true;
    this.unsaid.add(number);
    if (!this.refusals.includes(answer.reason)) this.faults.push(`${number} is answered ${JSON.stringify(answer)}`);
    return false;
  }

  async speak() {
    const answers = [];
    const say = () => {
      const answer = this.say();
      answer.catch(this.#fail);
      answers.push(answer);
    };
    let due = performance.now();
    for (this.#stopped = false; !this.#stopped; await pause(1000 / PER_SECOND)) {
      due = Math.max(due, performance.now() - 100); // after a stall it does not say everything at once
      for (; due <= performance.now(); due += 1000 / PER_SECOND) say();
      if (answers.length >= AT_ONCE) await Promise.allSettled(answers.splice(0));
    }
    await Promise.allSettled(answers);
  }

  stop() {
    this.#stopped = true;
  }

  // finish says one more, for whoever has come back and is told how far the others are.
  async finish() {
    await eventually(() => this.say(), (said) => assert.ok(said, `all is refused, at last ${this.said - 1}: ${this.faults.at(-1)}`), REFUSED_MS);
  }
}

module.exports = { Speaker };
