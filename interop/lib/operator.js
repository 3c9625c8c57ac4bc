'use strict';

// An operator, who does things by the admin API of a server that was started with -admin-token-file tokensFile().

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const TOKEN = 'a-token-of-sixteen-bytes-and-more';
let file;

// tokensFile is a file with TOKEN, which is ann's. It is removed when the process ends.
function tokensFile() {
  if (file) return file;
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pomelod-operator-'));
  process.once('exit', () => fs.rmSync(directory, { recursive: true }));
  file = path.join(directory, 'tokens');
  fs.writeFileSync(file, `ann ${TOKEN}\n`, { mode: 0o600 });
  return file;
}

// operate has the server do something, which must succeed.
async function operate(server, what, body) {
  const response = await fetch(`http://127.0.0.1:${server.admin.port}/v1/${what}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  assert.strictEqual(response.status, 200, `${what}: ${await response.text()}`);
}

module.exports = { TOKEN, operate, tokensFile };
