'use strict';

// JSON web tokens as a login page would issue them, for a server of -auth jwt.

const { createHmac } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const KEY = 'a secret of the tests, which has 32 bytes or more'.replaceAll(' ', '-');

let file;

// keyFile is the -auth-key whose tokens mint makes.
function keyFile() {
  if (file) return file;
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pomelod-key-'));
  process.once('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
  file = path.join(dir, 'key');
  fs.writeFileSync(file, KEY, { mode: 0o600 });
  return file;
}

// mint makes a token; it expires in an hour unless claims say otherwise.
function mint(claims, key = KEY) {
  const encoded = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
}

module.exports = { keyFile, mint };
