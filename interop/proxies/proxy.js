'use strict';

// Runs one proxy with a configuration of the document, in a directory of its own and in the foreground.

const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const { setTimeout: pause } = require('node:timers/promises');
const { within } = require('../lib/expect');

const NGINX_MODULES = '/usr/lib/nginx/modules';

class Directory {
  #atExit = () => this.remove();

  constructor() {
    this.path = fs.mkdtempSync(path.join(os.tmpdir(), 'try-proxies-'));
    process.once('exit', this.#atExit);
  }

  file(name) {
    return path.join(this.path, name);
  }

  write(name, text) {
    fs.writeFileSync(this.file(name), text);
    return this.file(name);
  }

  remove() {
    process.off('exit', this.#atExit);
    fs.rmSync(this.path, { recursive: true, force: true });
  }
}

// makeCertificate returns {pem, key, both}, files with a certificate for the names of the document, and its text.
function makeCertificate(directory) {
  const [pem, key] = [directory.file('chat.pem'), directory.file('chat.key')];
  const names = 'subjectAltName=DNS:chat.example.com,DNS:gate.example.com';
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  execFileSync('openssl', [...args, '-subj', '/CN=chat.example.com', '-addext', names, '-out', pem, '-keyout', key], {
    stdio: 'ignore',
  });
  const [text, secret] = [pem, key].map((file) => fs.readFileSync(file, 'utf8'));
  return { pem, key, both: directory.write('both.pem', text + secret), text };
}

// freePorts are ports on which nobody listens now. They are below those that the kernel gives to connections, of which there may
// be many between now and when somebody listens.
async function freePorts(count) {
  const ports = new Set();
  while (ports.size < count) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = net.createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
      ports.add(port);
    } catch {
      continue; // it is taken
    }
    await once(server.close(), 'close');
  }
  return [...ports];
}

class Proxy {
  #process;
  #exited;
  #output = [];

  // start resolves when the proxy listens at all ends.
  static async start(directory, command, args, ends) {
    const proxy = new Proxy(directory, command, args);
    try {
      await Promise.race([
        within(Promise.all(ends.map(listens)), `${command} listens`),
        proxy.#exited.then((how) => Promise.reject(new Error(`${command} ended by itself: ${how}`))),
      ]);
    } catch (err) {
      proxy.#process.kill('SIGKILL');
      err.message += `\n${proxy.#output.join('')}`;
      throw err;
    }
    return proxy;
  }

  constructor(directory, command, args) {
    const env = { PATH: process.env.PATH, HOME: directory.path }; // Caddy writes there
    this.#process = spawn(command, args, { cwd: directory.path, env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.on('data', (text) => this.#output.push(text));
    const end = () => this.#process.kill('SIGTERM');
    process.once('exit', end);
    this.#exited = once(this.#process, 'exit').then(([code, signal]) => signal ?? code);
    this.#exited.then(() => process.off('exit', end), () => {});
  }

  get output() {
    return this.#output.join('');
  }

  async stop() {
    this.#process.kill('SIGTERM');
    await within(this.#exited, 'the proxy ends').catch(() => this.#process.kill('SIGKILL'));
  }
}

// listens resolves when a connection succeeds; name: with TLS for it, whatever the certificate.
async function listens({ port, name }) {
  for (;;) {
    const at = { port, host: '127.0.0.1' };
    const socket = name ? tls.connect({ ...at, servername: name, rejectUnauthorized: false }) : net.connect(at);
    try {
      await once(socket, name ? 'secureConnect' : 'connect');
      socket.destroy();
      return;
    } catch {
      await pause(20);
    }
  }
}

function startNginx(directory, { http, stream }, ends) {
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const temporary = kinds.map((kind) => `${kind}_temp_path ${directory.file(kind)};`);
  const module = path.join(NGINX_MODULES, 'ngx_stream_module.so');
  const text = [
    fs.existsSync(module) ? `load_module ${module};` : '',
    'daemon off;',
    `pid ${directory.file('nginx.pid')};`,
    'error_log stderr warn;',
    'events { worker_connections 1024; }',
    `http { access_log off; ${temporary.join(' ')}\n${http} }`,
    stream,
  ];
  const file = directory.write('nginx.conf', text.join('\n'));
  return Proxy.start(directory, 'nginx', ['-e', 'stderr', '-p', directory.path, '-c', file], ends);
}

function startHaproxy(directory, text, ends) {
  return Proxy.start(directory, 'haproxy', ['-db', '-f', directory.write('haproxy.cfg', text)], ends);
}

// Caddy makes certificates of its own, after it listens; asking an authority for them, as it would by default, is not for a
// trial.
function startCaddy(directory, text, { https, http }, ends) {
  const ports = [`https_port ${https}`, `http_port ${http}`, 'default_bind 127.0.0.1'];
  const global = [...ports, 'admin off', 'local_certs', 'skip_install_trust', `storage file_system ${directory.path}`].join('\n');
  const file = directory.write('Caddyfile', `{\n${global}\n}\n${text}`);
  return Proxy.start(directory, 'caddy', ['run', '--adapter', 'caddyfile', '--config', file], ends);
}

module.exports = { Directory, makeCertificate, freePorts, startNginx, startHaproxy, startCaddy };
