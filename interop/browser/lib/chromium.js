'use strict';

// One headless Chromium, and pages in it that tell what goes wrong in them.

const fs = require('node:fs');
const { chromium } = require('playwright-core');

const EXECUTABLES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'];
const DEADLINE_MS = 30_000; // a page that has lost its server tries again after up to 16 s, if that took as long to start

// Chromium without its sandbox runs as root too, and these tests open no page but ours.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

// What the console says of a connection that failed. Whether that is a fault depends on the test.
const NETWORK = /net::ERR_|WebSocket connection to/;

class Browser {
  #browser;

  // more are flags of Chromium's.
  static async start(more = []) {
    const executablePath = EXECUTABLES.find((path) => path && fs.existsSync(path));
    if (!executablePath) throw new Error('no Chromium: install the package chromium, or say in CHROMIUM where it is');
    const browser = new Browser();
    // Scrollbars are a part of what users take hold of.
    browser.#browser = await chromium.launch({ executablePath, args: [...FLAGS, ...more], ignoreDefaultArgs: ['--hide-scrollbars'] });
    return browser;
  }

  // visit opens a visit of its own, with a storage of its own. options are those of Playwright's newContext.
  async visit(options = {}) {
    const context = await this.#browser.newContext({ locale: 'en-GB', ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    return context;
  }

  stop() {
    return this.#browser.close();
  }
}

// watch collects what goes wrong in a page: errors nobody caught, violations of its policy, dialogs, what it loads from
// elsewhere. cuts: the test cuts connections, so their errors are expected. elsewhere: it may load from other servers.
// ours is a pattern of the problems that the test itself makes. They are told some time after it has, so no test can take them away again.
async function watch(page, { cuts = false, elsewhere = false, ours = null } = {}) {
  const problems = [];
  const tell = (problem) => ours?.test(problem) || problems.push(problem);
  page.on('pageerror', (error) => tell(`error: ${error.stack}`));
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    if (!(cuts && NETWORK.test(message.text()))) tell(`console: ${message.text()}`);
  });
  page.on('dialog', async (dialog) => {
    tell(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on('request', (request) => {
    const origin = new URL(request.url()).origin;
    const own = page.url().startsWith('http') ? new URL(page.url()).origin : origin;
    if (!elsewhere && origin !== own) tell(`loads ${request.url()}`);
  });
  await page.exposeFunction('tellViolation', (what) => tell(`policy: ${what}`));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => tellViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  return problems;
}

module.exports = { Browser, watch };
