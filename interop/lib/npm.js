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

  const run = compiled(filename, ['exports', 'require', 'module', ...Object.keys(scope)]);
  run.call(module.exports, module.exports, inside, module, ...Object.values(scope));
  return module.exports;
}

const functions = new Map();

// compiled is the module as a function of what it sees: called again it makes a new instance.
function compiled(filename, names) {
  const key = [filename, ...names].join();
  if (!functions.has(key)) functions.set(key, vm.compileFunction(fs.readFileSync(filename, 'utf8'), names, { filename }));
  return functions.get(key);
}

module.exports = { load };
