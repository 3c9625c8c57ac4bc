'use strict';

// Loads a fresh, unmodified instance of an npm module. The Pomelo modules are singletons made for one page (or one
// process); every client of a test needs its own.

const fs = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');
const vm = require('node:vm');

// load runs the module and everything it requires by relative path. scope names the globals the module sees
// besides Node's, such as window.
function load(name, scope = {}, loaded = new Map()) {
  const filename = require.resolve(name);
  if (loaded.has(filename)) return loaded.get(filename).exports;

  const module = { exports: {} };
  loaded.set(filename, module);
  const outside = createRequire(filename);
  const inside = (id) => (id.startsWith('.') ? load(path.resolve(path.dirname(filename), id), scope, loaded) : outside(id));

  const names = ['exports', 'require', 'module', ...Object.keys(scope)];
  const run = vm.compileFunction(source(filename), names, { filename });
  run.call(module.exports, module.exports, inside, module, ...Object.values(scope));
  return module.exports;
}

const sources = new Map();

function source(filename) {
  if (!sources.has(filename)) sources.set(filename, fs.readFileSync(filename, 'utf8'));
  return sources.get(filename);
}

module.exports = { load };
