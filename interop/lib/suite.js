'use strict';

// Plays tests against every way to run the server.

const { after, before, describe, it } = require('node:test');
const { Cast, namesOf } = require('./cast');
const { Server } = require('./server');
const { WIRES } = require('./wire');

const TEST_TIMEOUT_MS = 60_000;

const VARIANTS = [
  { loops: 1, config: false },
  { loops: 1, config: true },
  { loops: 3, config: false },
  { loops: 3, config: true },
];

// suite calls define once per variant with what it needs to add tests:
//   scenario(title, run)   once per kind of client in the lead; run gets a Cast
//   once(title, run)       once; run gets a Cast
//   onWires(title, run)    once per transport; run gets {open, server, kind}, open() makes a Wire
//   variant                {loops, config}
// options: server flags beyond the variant's ({heartbeat}), concurrency of the tests, the variants to play, and who
// leads when a scenario does not say it.
function suite(subject, define, options = {}) {
  const { server: extra, concurrency = 1, variants = VARIANTS } = options;
  describe(subject, { concurrency }, () => {
    for (const variant of variants) describe(nameOf(variant), { concurrency }, () => play(variant));
  });

  function play(variant) {
    const allLeads = options.leads ?? namesOf(variant);
    let server;
    before(async () => {
      server = await Server.start({ ...variant, ...extra });
    });
    after(() => server?.stop());

    const test = (title, run) => it(title, { timeout: TEST_TIMEOUT_MS }, () => explained(server, run));
    const scenario = (title, run, leads = allLeads) => {
      for (const lead of leads) test(`${title} (${lead.name ?? lead} leads)`, () => withCast(server, lead, run));
    };
    const once = (title, run) => test(title, () => withCast(server, 'ws', run));
    const onWires = (title, run, kinds = Object.keys(WIRES)) => {
      for (const kind of kinds) test(`${title} (${kind})`, () => withWires(server, kind, run));
    };
    define({ variant, scenario, once, onWires });
  }
}

function nameOf({ loops, config }) {
  return `loops ${loops}, ${config ? 'dictionary and protobuf' : 'plain JSON'}`;
}

async function explained(server, run) {
  try {
    await run();
  } catch (err) {
    throw server.explain(err);
  }
}

async function withCast(server, lead, run) {
  const cast = new Cast(server, lead);
  try {
    await run(cast);
    cast.expectAllRead();
  } catch (err) {
    await cast.leave().catch(() => {}); // the first error says more
    throw err;
  }
  await cast.leave();
}

async function withWires(server, kind, run) {
  const wires = [];
  const open = async (address = server.connector) => {
    const wire = await WIRES[kind].open(address);
    wires.push(wire);
    return wire;
  };
  try {
    await run({ open, server, kind });
  } finally {
    await Promise.all(wires.map((wire) => wire.destroy()));
  }
}

module.exports = { suite, VARIANTS };
