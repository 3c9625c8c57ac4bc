'use strict';

// Waiting for events with a deadline, and nothing else: no test sleeps and hopes.

const { setTimeout: pause } = require('node:timers/promises');

const DEADLINE_MS = 20_000;

// within settles as the promise does, or fails once the deadline is over.
async function within(promise, what, deadlineMs = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const ASK_AGAIN_MS = 20;

// eventually asks until check no longer throws: for what a server shows to whoever asks and does not tell by itself.
// It resolves with the answer.
async function eventually(ask, check, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const answer = await ask();
    try {
      check(answer);
      return answer;
    } catch (err) {
      if (Date.now() > end) throw err;
    }
    await pause(ASK_AGAIN_MS);
  }
}

// Queue hands out what arrives, in the order of arrival, to whoever waits for it.
class Queue {
  #items = [];
  #waiting = [];
  #ended = null;

  put(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#items.push(item);
  }

  // end fails everybody who waits, now or later, for more than has arrived.
  end(reason) {
    this.#ended = reason;
    for (const { reject, what } of this.#waiting.splice(0)) reject(new Error(`${what}: ${reason}`));
  }

  next(what, deadlineMs) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#ended) return Promise.reject(new Error(`${what}: ${this.#ended}`));
    const arrival = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject, what }));
    return within(arrival, what, deadlineMs);
  }

  // unread is what arrived and nobody asked for.
  get unread() {
    return [...this.#items];
  }

  // drain hands out what is unread all at once.
  drain() {
    return this.#items.splice(0);
  }
}

module.exports = { within, eventually, Queue };
