'use strict';

const { KINDS: HYBRID_KINDS } = require('../cast');
const { PageClient } = require('./pageclient');
const { VERSIONS } = require('./versions');

// A kind is one client version on one transport. It has the connect of every kind of client (cast.js), and
//   arrays     the server speaks the flavour of 2013 with it
//   counted    under which transport the server counts its sessions, once it has settled
//   polls      it never opens a websocket
const KINDS = Object.entries(VERSIONS).flatMap(([version, driver]) =>
  driver.transports.map((transport) => kindOf(version, driver, transport)),
);

function kindOf(version, driver, transport) {
  const isOld = driver.generation === 'sio09';
  const upgrades = transport.endsWith('upgrade');
  const polls = transport !== 'websocket' && !upgrades;
  const kind = {
    name: `${version} ${transport}`,
    version,
    driver,
    transport,
    upgrades,
    arrays: isOld,
    polls,
    counted: `${driver.generation}-${isOld ? transport : polls ? 'polling' : 'websocket'}`,
    // Half of the versions hold their connections, half open one for each request.
    keepAlive: version === '2.5' || version === '4.7',
  };
  kind.connect = (address, options) => PageClient.connect(kind, address, options);
  return kind;
}

// EVERYBODY is every kind there is, as the lead of a scenario.
const EVERYBODY = { name: 'everybody', kinds: [...Object.values(HYBRID_KINDS), ...KINDS] };

const kindNamed = (name) => KINDS.find((kind) => kind.name === name);

module.exports = { KINDS, EVERYBODY, kindNamed };
