'use strict';

// A visitor does and sees in the chat page what a person does and sees.

const assert = require('node:assert');
const { watch } = require('./chromium');

class Visitor {
  name = null;

  // options: cuts and ours as in watch(), the rest is for Playwright's newContext.
  static async open(browser, url, { cuts, ours, ...options } = {}) {
    const context = await browser.visit(options);
    return Visitor.openTab(context, url, { cuts, ours });
  }

  // openTab is one more tab of a visit.
  static async openTab(context, url, { cuts, ours } = {}) {
    const visitor = new Visitor();
    visitor.context = context;
    visitor.page = await context.newPage();
    visitor.problems = await watch(visitor.page, { cuts, ours });
    visitor.sockets = 0;
    visitor.page.on('websocket', () => visitor.sockets++);
    await visitor.page.goto(url);
    return visitor;
  }

  // $ takes the options of Playwright's locator.
  $(selector, options) {
    return this.page.locator(selector, options);
  }

  async join(name, room) {
    this.name = name;
    await this.tryToJoin(name, room);
    await this.$('#chat').waitFor();
  }

  async tryToJoin(name, room) {
    await this.page.fill('#name', name);
    await this.page.fill('#room', room);
    await this.page.click('#join-button');
  }

  async say(text) {
    await this.page.fill('#text', text);
    await this.page.press('#text', 'Enter');
  }

  async writeTo(name) {
    await this.person(name).click();
    await this.$('#private').waitFor();
    await this.page.waitForFunction((to) => document.querySelector('.person[aria-selected="true"] bdi')?.textContent === to, name); // a frame later
  }

  // moveTo switches to a room, and is there when it resolves.
  async moveTo(room) {
    await this.switchTo(room);
    await this.$('#room-dialog').waitFor({ state: 'hidden' });
    await this.error('#room-name', room);
  }

  // switchTo asks for it, and does not wait for the answer.
  async switchTo(room) {
    await this.page.click('#room-button');
    await this.page.fill('#new-room', room);
    await this.page.click('#room-switch');
  }

  person(name) {
    return this.page.locator('.person', { has: this.page.locator('bdi', { hasText: exactly(name) }) });
  }

  // row is that of a message: its text, or a pattern.
  row(text) {
    const hasText = text instanceof RegExp ? text : exactly(text);
    return this.page.locator('.row', { has: this.page.locator('.text', { hasText }) });
  }

  // sees waits for a message.
  async sees(text) {
    await this.row(text).first().waitFor();
  }

  // seesNote waits for a line of the page's own that holds the words.
  async seesNote(words) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll('.note')].some((note) => note.textContent.replace(/[\u2068\u2069]/g, '').includes(wanted)),
      words,
    );
  }

  // seesPeople waits for the list to hold exactly these, in this order, and for every count to say how many they are.
  async seesPeople(...names) {
    await this.page.waitForFunction(
      (wanted) => {
        const rows = [...document.querySelectorAll('.person')];
        rows.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet);
        const counts = [...document.querySelectorAll('.people-count')];
        return (
          JSON.stringify(rows.map((row) => row.querySelector('bdi').textContent)) === JSON.stringify(wanted) &&
          counts.every((count) => count.textContent === String(wanted.length))
        );
      },
      names,
    );
  }

  // seesCount waits until the page says that so many are here, as it writes it.
  async seesCount(count) {
    await this.error('.people-head .people-count', count);
  }

  // returnsNow has the page try at once to come back, unless it has come back by itself. Who looks first and clicks then may be too late.
  async returnsNow() {
    await this.page.evaluate(() => document.getElementById('banner').hidden || document.getElementById('banner-button').click());
  }

  // messages are all that are shown: {who, to, text}.
  messages() {
    return this.$('.row').evaluateAll((rows) =>
      rows.map((row) => ({
        who: row.querySelector('.who').textContent,
        to: row.querySelector('.to')?.textContent.replace(/[\u2068\u2069]/g, '') ?? null,
        text: row.querySelector('.text').textContent,
      })),
    );
  }

  // error waits until an alert, or any element, says exactly this, without the isolates around names.
  async error(selector, text) {
    await this.page.waitForFunction(
      ([at, wanted]) => document.querySelector(at).textContent.replace(/[\u2068\u2069]/g, '') === wanted,
      [selector, text],
    );
  }

  expectNoProblems() {
    assert.deepStrictEqual(this.problems, [], this.name ?? 'a visitor');
  }
}

function exactly(text) {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
}

module.exports = { Visitor };
