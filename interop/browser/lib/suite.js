'use strict';

// Plays tests of the page: one Chromium and one site for all of a file, visitors of its own for each test.

const { after, before, describe, it } = require('node:test');
const { Browser } = require('./chromium');
const { Site } = require('./site');
const { Visitor } = require('./visitor');

const TEST_TIMEOUT_MS = 120_000;

let rooms = 0;

// suite calls define(test). test(title, run, timeout) gives run {site, browser, room, visit}, and so much time: visit(options) opens the page for
// somebody new, as in Visitor.open, at options.url or the site's. At the end nothing may have gone wrong in any page.
// options of suite are for Site.start.
function suite(subject, define, options) {
  describe(subject, { concurrency: 1 }, () => {
    let site;
    let browser;
    before(async () => {
      site = await Site.start(options);
      browser = await Browser.start();
    });
    after(async () => {
      await browser?.stop();
      await site?.stop();
    });
    define((title, run, timeout = TEST_TIMEOUT_MS) => it(title, { timeout }, () => play(site, browser, run)));
  });
}

async function play(site, browser, run) {
  const visitors = [];
  const visit = async ({ url = site.url, ...options } = {}) => {
    const visitor = await Visitor.open(browser, url, options);
    visitors.push(visitor);
    return visitor;
  };
  try {
    await run({ site, browser, visit, room: `room${++rooms}` });
    for (const visitor of visitors) visitor.expectNoProblems();
  } catch (error) {
    throw site.server?.explain(error) ?? error;
  } finally {
    for (const visitor of visitors) await visitor.context.close();
  }
}

module.exports = { suite };
