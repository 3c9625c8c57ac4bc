'use strict';

// A visitor does and sees in the chat page what a person does and sees.

const assert = require('node:assert');
const { watch } = require('./chromium');

class Visitor {
  name = null;

  // options: cuts as in watch(), the rest is for Playwright's newContext.
  static async open(browser, url, { cuts, ...options } = {}) {
    const context = await browser.visit(options);
    return Visitor.openTab(context, url, { cuts });
  }

  // openTab is one more tab of a visit.
  static async openTab(context, url, { cuts } = {}) {
    const visitor = new Visitor();
    visitor.context = context;
    visitor.page = await context.newPage();
    visitor.problems = await watch(visitor.page, { cuts });
    visitor.sockets = 0;
    visitor.page.on('websocket', () => visitor.sockets++);
    await visitor.page.goto(url);
    return visitor;
  }

  $(selector) {
    return this.page.locator(selector);
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
  }

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

  // seesPeople waits for the list to hold exactly these, in this order.
  async seesPeople(...names) {
    await this.page.waitForFunction(
      (wanted) => {
        const rows = [...document.querySelectorAll('.person')];
        rows.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet);
        return JSON.stringify(rows.map((row) => row.querySelector('bdi').textContent)) === JSON.stringify(wanted);
      },
      names,
    );
    for (const count of await this.$('.people-count').allTextContents()) assert.strictEqual(count, String(names.length));
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

  // error is what an alert says, without the isolates around names.
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
