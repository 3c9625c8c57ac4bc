'use strict';

// A suite (lib/suite.js) led by every socket.io kind. The dictionary and protobuf are none of their business, so the
// servers are without; where hybrid clients matter, a test asks for all the variants.

const { suite, VARIANTS } = require('../suite');
const { KINDS } = require('./kinds');

const PLAIN = VARIANTS.filter(({ config }) => !config);

function sioSuite(subject, define, options = {}) {
  suite(`socket.io: ${subject}`, define, { variants: PLAIN, leads: KINDS, concurrency: 4, ...options });
}

module.exports = { sioSuite };
