'use strict';

// The configurations that docs/OPERATIONS.md shows, so that what is tried is what is written there.

const fs = require('node:fs');
const path = require('node:path');

const DOCUMENT = path.join(__dirname, '..', '..', 'docs', 'OPERATIONS.md');

// configurationsUnder returns the indented blocks of the section with this heading, in order.
function configurationsUnder(heading) {
  const lines = fs.readFileSync(DOCUMENT, 'utf8').split('\n');
  const begin = lines.indexOf(heading);
  if (begin < 0) throw new Error(`OPERATIONS.md has no heading ${heading}`);
  const blocks = [];
  let open = false;
  for (const line of lines.slice(begin + 1)) {
    if (line.startsWith('#')) break;
    if (line.startsWith('    ')) {
      if (!open) blocks.push('');
      blocks.push(`${blocks.pop()}${line.slice(4)}\n`);
    }
    open = line.startsWith('    ');
  }
  return blocks;
}

// placed replaces the addresses and files of an example. Each must be there: an example that reads otherwise was not tried.
function placed(text, replacements) {
  for (const [shown, real] of Object.entries(replacements)) {
    if (!text.includes(shown)) throw new Error(`OPERATIONS.md does not say ${JSON.stringify(shown)} any more:\n${text}`);
    text = text.replaceAll(shown, real);
  }
  return text;
}

module.exports = { configurationsUnder, placed };
