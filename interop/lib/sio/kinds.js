'use strict';

const { KINDS: HYBRID_KINDS, namesOf } = require('../cast');
const { foreign } = require('../foreign');
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
    // Half of the versions hold their connections, half open one for each request. The XMLHttpRequest of 4.8 is stuck when a
    // connection that was held is reset: it opens one for each, too, by an agent that can break them off.
    agent: ['2.5', '4.7'].includes(version) ? { keepAlive: true } : version.startsWith('4.8') ? { keepAlive: false } : null,
  };
  kind.connect = (address, options) => PageClient.connect(kind, address, options);
  return kind;
}

// PYTHON is python-socketio on python-engineio. It cannot be held in the middle of something, as PageClient can.
const PYTHON = ['websocket', 'polling', 'upgrade'].map((transport) => foreign('python', `python-socketio ${transport}`));

// EVERYBODY is every kind there is, as the lead of a scenario; everybodyWith those that a server with or without -config has.
const everybodyWith = (variant) => [...namesOf(variant).map((name) => HYBRID_KINDS[name]), ...KINDS, ...PYTHON];
const EVERYBODY = { name: 'everybody', kinds: everybodyWith({ config: false }) };

const kindNamed = (name) => KINDS.find((kind) => kind.name === name);

module.exports = { KINDS, PYTHON, EVERYBODY, everybodyWith, kindNamed };
