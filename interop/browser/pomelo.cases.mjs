// What web/pomelo.js promises, as cases that run in Node.js and in a browser alike (pomelo.test.js runs them in both).
// A case gets
//   lib             the module
//   WebSocket       the runtime's class
//   address, gate   of the server, behind a proxy; closedGate is an address where nobody listens
//   config          whether the server has a dictionary and protobuf definitions
//   network(what)   'cut', 'stall', 'down' (no server) or 'up'
//   vectors         codec/testdata/vectors/protobuf.json
// and nothing else: no module of Node's, no element of a page.

import { BODIES_REFUSED, BYTES_REFUSED, EMPTY_BODIES } from "./pomelo.vectors.mjs";
import { Clock, Script, answer, data, pack, push, request, text } from "./pomelo.script.mjs";

const ENTER = "connector.entryHandler.enter";
const SEND = "chat.chatHandler.send";
const DEADLINE_MS = 40_000;

export const cases = [];
const check = (title, run) => cases.push({ title, run });

// ---- Helpers ----

function fail(message) {
  throw new Error(message);
}

function ok(value, what) {
  if (!value) fail(what);
}

function sorted(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

// show is JSON in which members have one order, and numbers that JSON has not are written as in the vectors.
const show = (value) =>
  JSON.stringify(value, (key, inner) => (typeof inner === "number" && !Number.isFinite(inner) ? `@${inner}` : sorted(inner)));

export function same(actual, expected, what = "value") {
  if (show(actual) !== show(expected)) fail(`${what}: ${show(actual)}, not ${show(expected)}`);
}

async function rejects(promise, code) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    same(error.code, code, `code of "${error.message}"`);
    return error;
  }
  return fail(`resolved with ${show(result)}, should have failed with ${code}`);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const told = (client, event) => within(new Promise((resolve) => client.once(event, resolve)), event);

// trace notes events in the order in which they are told.
function trace(client, ...events) {
  const seen = [];
  for (const event of events) client.on(event, () => seen.push(event));
  return seen;
}

let rooms = 0;
const newRoom = () => `module ${Math.random().toString(36).slice(2)} ${++rooms}`;

// connect makes a client that ends with its case.
async function connect(env, options = {}) {
  const client = make(env);
  await within(client.init({ ...env.address, WebSocket: env.WebSocket, storage: undefined, ...options }), "init");
  return client;
}

function make(env) {
  const client = new env.lib.Pomelo();
  env.clients.push(client);
  return client;
}

async function enter(env, username, rid, options) {
  const client = await connect(env, options);
  await within(client.request(ENTER, { username, rid }), "enter");
  return client;
}

class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
}

// recorder is a WebSocket class that keeps what went through it, as text.
function recorder(WebSocket) {
  const record = { sent: [], received: [] };
  const note = (list, bytes) => list.push(text(new Uint8Array(bytes)));
  record.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      this.binaryType = "arraybuffer";
      this.addEventListener("message", ({ data: bytes }) => note(record.received, bytes));
    }
    send(bytes) {
      note(record.sent, bytes);
      super.send(bytes);
    }
  };
  return record;
}

const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const unhex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const revive = (value) =>
  JSON.parse(JSON.stringify(value), (key, inner) => ({ "@NaN": NaN, "@Infinity": Infinity, "@-Infinity": -Infinity })[inner] ?? inner);

// ---- Protobuf ----

check("protobuf writes what the original writes", ({ lib, vectors }) => {
  const { parsed } = vectors.cases.find((vector) => vector.op === "definitions");
  let refused = 0;
  for (const { route, msg, hex: expected } of vectors.cases.filter((vector) => vector.op === "encode")) {
    const about = `${route} ${JSON.stringify(msg).slice(0, 100)}`;
    let bytes;
    try {
      bytes = hex(lib.protobuf.encode(parsed, route, revive(msg)));
    } catch (error) {
      ok(BODIES_REFUSED.has(`${route} ${JSON.stringify(msg)}`), `${about}: ${error.message}`);
      refused++;
      continue;
    }
    const other = EMPTY_BODIES.get(`${route} ${JSON.stringify(msg)}`);
    same(bytes, other ?? expected, about);
  }
  same(refused, BODIES_REFUSED.size, "refused");
});

check("protobuf reads what the original writes, and its browser build", ({ lib, vectors }) => {
  const { parsed } = vectors.cases.find((vector) => vector.op === "definitions");
  let refused = 0;
  const read = (route, bytes, expected) => {
    let message;
    try {
      message = lib.protobuf.decode(parsed, route, unhex(bytes));
    } catch (error) {
      refused++;
      return ok(BYTES_REFUSED.has(`${route} ${bytes}`), `${route} ${bytes}: ${error.message}`);
    }
    same(message, expected, `${route} ${bytes}`);
  };
  let fromBrowsers = 0;
  for (const { op, route, hex: written, decoded, inHex, browserHex } of vectors.cases) {
    if (op === "decode") read(route, inHex, decoded);
    if (op === "encode" && written) read(route, written, decoded);
    // Other wire types are no harm; where a browser writes fewer or more bytes it has lost some.
    if (op !== "encode" || !browserHex || browserHex.length !== written?.length) continue;
    read(route, browserHex, decoded);
    fromBrowsers++;
  }
  same(refused, BYTES_REFUSED.size, "refused");
  ok(fromBrowsers > 20, "no vectors of the browser build");
});

// ---- Requests and pushes ----

check("connects, enters, talks, leaves", async (env) => {
  const room = newRoom();
  const alice = await enter(env, "alice", room);
  const [came, bob] = await Promise.all([told(alice, "onAdd"), enter(env, "bob", room)]);
  same(came, { route: "onAdd", user: "bob" });
  for (const content of ["hello", "你好 😀 Ünïcödé", "\u0000\u001f\"\\", "x".repeat(60_000), ""]) {
    const heard = [told(alice, "onChat"), told(bob, "onChat")];
    same(await alice.request(SEND, { content, target: "*" }), {});
    for (const message of await Promise.all(heard)) same(message, { msg: content, from: "alice", target: "*" });
  }
  const secretly = told(bob, "onChat");
  await alice.request(SEND, { content: "psst", target: "bob" });
  same(await secretly, { msg: "psst", from: "alice", target: "bob" });
  const left = told(alice, "onLeave");
  bob.disconnect();
  same(await left, { route: "onLeave", user: "bob" });
});

check("answers by promise or callback, whatever their code", async (env) => {
  const client = await connect(env);
  same(await client.request("no.such.route"), { code: 500 });
  const bodies = [];
  await within(
    new Promise((resolve) => {
      client.request("no.such.route", {}, (body) => bodies.push(body));
      client.request("no.such.route", (body) => resolve(bodies.push(body)));
    }),
    "callbacks",
  );
  same(bodies, [{ code: 500 }, { code: 500 }]);
});

check("a callback of init is called with the socket; notify tells whether it could", async (env) => {
  const client = make(env);
  same(client.notify(SEND, {}), false);
  const socket = await within(
    new Promise((resolve) => client.init({ ...env.address, WebSocket: env.WebSocket }, resolve)),
    "init",
  );
  ok(socket instanceof env.WebSocket, "not the socket");
  same(client.connected, true);
  await client.request(ENTER, { username: "alice", rid: newRoom() });
  const heard = told(client, "onChat");
  same(client.notify(SEND, { content: "quietly", target: "*" }), true);
  same((await heard).msg, "quietly");
});

check("tells hundreds of requests on a connection apart", async (env) => {
  const client = await enter(env, "alice", newRoom());
  const heard = [];
  client.on("onChat", ({ msg }) => heard.push(msg));
  for (let n = 0; n < 150; n++) {
    same(await client.request(n % 2 ? SEND : "no.such.route", { content: n, target: "*" }), n % 2 ? {} : { code: 500 });
  }
  same(heard.length, 75, "messages");
});

check("asks the gate by HTTP", async (env) => {
  const { queryEntry } = env.lib;
  same(await queryEntry(env.gate, "alice"), env.address);
  same(await queryEntry(env.gate.replace(/\/$/, ""), "爱丽丝 &=?#"), env.address);
  await rejects(queryEntry(env.gate, ""), "REFUSED");
  await rejects(queryEntry(env.closedGate, "alice"), "UNREACHABLE");
  const client = make(env);
  await client.init({ gate: env.gate, uid: "alice", WebSocket: env.WebSocket });
  same((await client.request(ENTER, { username: "alice", rid: newRoom() })).users, ["alice"]);
  await rejects(client.init({ gate: env.closedGate, uid: "alice", WebSocket: env.WebSocket }), "UNREACHABLE");
  await rejects(client.request(SEND), "NOT_CONNECTED");
});

check("uses the dictionary and the definitions of the handshake, and keeps them for the next", async (env) => {
  const room = newRoom();
  const storage = new Storage();
  for (const visit of ["first", "second"]) {
    const record = recorder(env.WebSocket);
    const client = await enter(env, visit, room, { WebSocket: record.WebSocket, storage });
    const heard = told(client, "onChat");
    await client.request(SEND, { content: "hello", target: "*" });
    same(await heard, { msg: "hello", from: visit, target: "*" });
    client.disconnect();

    const [handshake, ...rest] = record.sent;
    const settings = record.received[0];
    same(rest.join("").includes(ENTER), !env.config, "the route travels as text");
    same(record.received.join("").includes(`"msg":"hello"`), !env.config, "the push travels as JSON");
    same(handshake.includes(`"protoVersion":0`), !env.config || visit === "first", "protoVersion is unknown");
    same(settings.includes(`"dict":`), env.config && visit === "first", "the dictionary is sent");
    same(settings.includes(`"protos":`), env.config && visit === "first", "the definitions are sent");
  }
  same(storage.items.size, env.config ? 1 : 0, "servers in storage");
});

check("listeners come and go", (env) => {
  const client = make(env);
  const seen = [];
  const listener = (argument) => seen.push(argument);
  client.on("x", listener).on("x", listener).once("x", listener);
  same(client.emit("x", 1), true);
  same(client.emit("x", 2), true);
  client.removeListener("x", listener);
  client.once("y", listener).off("y", listener).on("y", listener).off("y");
  same([client.emit("x", 3), client.emit("y", 3)], [false, false]);
  same(seen, [1, 1, 1, 2, 2]);
});

// ---- Cuts and returns ----

check("a cut fails requests in flight, and without automatic return that is the end", async (env) => {
  const client = await connect(env);
  const seen = trace(client, "close", "disconnect", "returning");
  await env.network("stall");
  const failed = rejects(within(client.request("no.such.route"), "rejection"), "CLOSED");
  const never = client.request("no.such.route", {}, () => fail("a callback is called without an answer"));
  same(never, undefined);
  const disconnected = told(client, "disconnect");
  await env.network("cut");
  await failed;
  await disconnected;
  await rejects(client.request("no.such.route"), "NOT_CONNECTED");
  same(seen, ["close", "disconnect"]);
});

check("returns after a cut, and again", async (env) => {
  const room = newRoom();
  const onReturn = (client) => client.request(ENTER, { username: "alice", rid: room });
  const alice = await enter(env, "alice", room, { onReturn });
  const seen = trace(alice, "close", "disconnect", "returning", "reconnect", "returned");
  for (let n = 0; n < 2; n++) {
    const returned = told(alice, "returned");
    await env.network("cut");
    await returned;
    const heard = told(alice, "onChat");
    same(await alice.request(SEND, { content: `back ${n}`, target: "*" }), {});
    same((await heard).msg, `back ${n}`);
  }
  const once = ["close", "disconnect", "returning", "reconnect", "returned"];
  same(seen, [...once, ...once]);
});

check("an extended client enters its room again by itself, and is told all it missed, once and in order", async (env) => {
  const room = newRoom();
  const options = { extended: true, user: { secret: env.lib.newSecret() } };
  const alice = await connect(env, options);
  const bob = await connect(env);
  const heard = [];
  alice.on("onChat", ({ msg }) => heard.push(msg));
  ok(alice.extended && !bob.extended, "alice is extended, and bob is not");
  const answer = await alice.enter({ username: "alice", rid: room });
  ok(typeof answer.seq === "string", `the answer to enter: ${show(answer)}`);
  same((await bob.enter({ username: "bob", rid: room })).seq, undefined, "the answer to who is not extended");
  let said = 0;
  const say = (n) => bob.request(SEND, { content: `m${(said += n)}`, target: "*" });
  for (let round = 0; round < 3; round++) {
    await say(1);
    const cut = told(alice, "close");
    const bobs = told(bob, "returned");
    const back = told(alice, "returned");
    env.network("cut");
    await cut;
    await bobs;
    await say(1);
    await say(1);
    const { complete } = await back;
    ok(complete, "the return is complete");
    await say(1);
  }
  const all = new Promise((resolve) => {
    const look = () => heard.length >= said && resolve();
    alice.on("onChat", look);
    look();
  });
  await within(all, "what was said");
  same(heard, Array.from({ length: said }, (_, i) => `m${i + 1}`), "what alice heard");
});

// missing is an extended client that returns to a room and is told that the answer has the newest only: {client, told, returned, asked()}. asked is the next
// page that it wants, {id, body}.
async function missing(env) {
  const script = new Script({ code: 200, sys: { extended: 1 } });
  const client = await connect(env, { extended: true, WebSocket: script.WebSocket });
  const heard = [];
  client.on("onChat", ({ seq }) => heard.push(seq));
  client.on("onAdd", ({ user }) => heard.push(user));
  client.on("returning", () => queueMicrotask(() => client.returnNow())); // this test has no time
  let asked = 0; // requests that were looked at
  const next = async () => {
    const requests = () => script.sent.filter((bytes) => bytes[0] === 4).map(request);
    await within(script.waitFor(() => requests().length > asked), "request");
    return requests()[asked++];
  };
  const entered = client.enter({ username: "alice", rid: "r" });
  script.deliver(answer((await next()).id, { users: ["alice"], seq: "i.1" }), chat(2));
  await entered;
  await soon(() => same(heard, ["i.2"]));
  const lost = async (rest = true) => {
    script.close();
    const { id, body } = await next();
    same(body, { username: "alice", rid: "r", since: heard.findLast((seq) => seq.startsWith("i.")) });
    script.deliver(answer(id, { users: ["alice"], seq: "i.9", complete: false, rest }), chat(7), chat(8), push("onAdd", { user: "bob", rid: "r", seq: "i.10" }));
    return next();
  };
  return { script, client, heard, next, lost };
}

const said = (n) => ({ msg: n, from: "bob", target: "*", seq: `i.${n}`, time: n });
const chat = (n) => push("onChat", { ...said(n), rid: "r" });

// soon has a check pass as soon as what was delivered has been told.
async function soon(look) {
  for (const end = Date.now() + DEADLINE_MS; ; await new Promise((resolve) => setTimeout(resolve, 1))) {
    try {
      return look();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

check("what is too much to follow the answer to a return is read by pages, and told once and in order", async (env) => {
  const { script, client, heard, next, lost } = await missing(env);
  const back = told(client, "returned").then((answer) => [answer.complete, [...heard]]);
  let page = await lost();
  same([page.route, page.body], ["chat.chatHandler.history", { rid: "r", before: "i.9", limit: 200 }]);
  script.deliver(chat(11), answer(page.id, { messages: [5, 6, 7, 8].map(said), more: true }));
  page = await next();
  same(page.body.before, "i.5");
  script.deliver(answer(page.id, { messages: [1, 2, 3, 4].map(said), more: true }), chat(12));
  same(await within(back, "returned"), [true, ["i.2"]], "the return, before what was missed");
  const all = ["i.2", "i.3", "i.4", "i.5", "i.6", "i.7", "i.8", "bob", "i.11", "i.12"];
  await soon(() => same(heard, all));
});

check("what was missed is asked for again when the connection ends before it was read", async (env) => {
  const { script, client, heard, lost } = await missing(env);
  await lost();
  same(heard, ["i.2"], "told of a return that was not complete");
  const page = await lost(); // with the same since
  const back = told(client, "returned");
  script.deliver(answer(page.id, { messages: [2, 3, 6, 7, 8].map(said), more: false }));
  same((await back).complete, true);
  await soon(() => same(heard, ["i.2", "i.3", "i.6", "i.7", "i.8", "bob"]));
});

check("a return says that something is missing where the server does, though pages go back as far", async (env) => {
  const { script, client, heard, lost } = await missing(env);
  const page = await lost(false);
  const back = told(client, "returned");
  script.deliver(answer(page.id, { messages: [2, 7, 8].map(said), more: false }));
  same((await back).complete, false);
  await soon(() => same(heard, ["i.2", "i.7", "i.8", "bob"]));
});

check("a return says that something is missing where pages do not go back as far, or are refused", async (env) => {
  const { script, client, heard, next, lost } = await missing(env);
  let page = await lost();
  let back = told(client, "returned");
  script.deliver(answer(page.id, { messages: [6, 7, 8].map(said), more: false }));
  same((await back).complete, false);
  await soon(() => same(heard, ["i.2", "i.6", "i.7", "i.8", "bob"]));
  heard.length = 0;

  script.deliver(chat(20));
  await soon(() => same(heard, ["i.20"]));
  script.close();
  const { id, body } = await next();
  same(body.since, "i.20");
  script.deliver(answer(id, { users: ["alice"], seq: "j.3", complete: false }), push("onChat", { msg: 2, rid: "r", seq: "j.2" }));
  page = await next();
  back = told(client, "returned");
  script.deliver(answer(page.id, { code: 500, reason: "enter_rate" }));
  same((await back).complete, false, "another numbering, and no page");
  await soon(() => same(heard, ["i.20", "j.2"]));

  script.close();
  const again = await next();
  same(again.body.since, "j.2");
  script.deliver(answer(again.id, { users: ["alice"], seq: "j.9", complete: false }));
  page = await next();
  back = told(client, "returned");
  script.deliver(answer(page.id, { messages: [], more: false }));
  await back;
  script.close();
  same((await next()).body.since, "j.9", "since, where nothing follows");
});

check("enter shows what was said to who may read it, before anything else; reenter needs an enter", async (env) => {
  const room = newRoom();
  const user = { secret: env.lib.newSecret() };
  const alice = await connect(env, { extended: true, user });
  await rejects(alice.reenter(), "NOT_CONNECTED");
  await alice.enter({ username: "alice", rid: room });
  for (const content of ["one", "two", "three"]) await alice.request(SEND, { content, target: "*" });
  const again = await connect(env, { extended: true, user });
  const heard = [];
  again.on("onChat", ({ msg, seq, time }) => heard.push([msg, typeof seq, typeof time]));
  const { seq } = await again.enter({ username: "alice", rid: room, history: 2 });
  await again.request(SEND, { content: "four", target: "*" });
  same(heard.map(([msg]) => msg), ["two", "three", "four"], "what was told");
  ok(heard.every(([, place, time]) => place === "string" && time === "number"), "places and times");
  ok(typeof seq === "string", "a place in the answer");
});

check("members reads the list by pages, in order of entry", async (env) => {
  const room = newRoom();
  const names = ["alice", "bob", "carol", "dan", "eve"];
  const clients = [];
  for (const name of names) clients.push(await enter(env, name, room));
  const pages = [];
  for (let after; ; ) {
    const { users, count, next } = await clients[1].members({ rid: room, after, limit: 2 });
    same(count, names.length, "count");
    pages.push(users);
    if (!(after = next)) break;
  }
  same(pages, [["alice", "bob"], ["carol", "dan"], ["eve"]], "pages");
  same((await clients[0].members()).users, names, "without bounds");
  same((await clients[0].members({ after: "none.1" })).reason, "cursor", "a place of no room");
  same(await (await connect(env)).members(), { code: 500 }, "outside of rooms");
});

check("keeps trying while there is no server, and is back soon after it", async (env) => {
  const client = await connect(env, { reconnect: true });
  const failed = told(client, "io-error");
  await env.network("down");
  await failed;
  const returned = told(client, "returned");
  await env.network("up");
  await returned;
  same(client.connected, true);
});

check("waits longer with each attempt, and not as long as others", async (env) => {
  const script = new Script();
  const client = await connect(env, { reconnect: true, WebSocket: script.WebSocket });
  const delays = [];
  client.on("returning", ({ attempt, delay }) => {
    same(attempt, delays.push(delay), "attempt");
    queueMicrotask(() => client.returnNow()); // this test has no time
  });
  script.refuse();
  await within(
    new Promise((resolve) => client.on("returning", () => delays.length === 9 && resolve())),
    "nine attempts",
  );
  client.disconnect();
  delays.forEach((delay, n) => {
    const most = Math.min(30_000, 1_000 * 2 ** n);
    ok(delay >= most / 2 && delay <= most, `attempt ${n + 1} waits ${delay} ms, not ${most / 2} to ${most}`);
  });
  ok(new Set(delays.slice(5)).size > 1, "no jitter");
});

check("a failing onReturn is tried again with a new connection", async (env) => {
  let calls = 0;
  const onReturn = async (client) => {
    await client.request("no.such.route");
    if (++calls < 3) throw new Error("not yet");
  };
  const client = await connect(env, { onReturn });
  client.on("returning", () => queueMicrotask(() => client.returnNow()));
  const seen = trace(client, "reconnect", "returned");
  const returned = told(client, "returned");
  await env.network("cut");
  await returned;
  same(seen, ["reconnect", "reconnect", "reconnect", "returned"]);
});

check("a cut while onReturn runs is one more attempt, whether or not it notices", async (env) => {
  const script = new Script();
  let calls = 0;
  const onReturn = async (client) => {
    if (++calls === 3) return;
    const ended = told(client, "disconnect");
    script.close();
    await ended;
    if (calls === 1) await client.request(ENTER); // fails; the second time it does not even ask
  };
  const client = await connect(env, { onReturn, WebSocket: script.WebSocket });
  client.on("returning", () => queueMicrotask(() => client.returnNow()));
  const seen = trace(client, "disconnect", "returning", "reconnect", "returned");
  const returned = told(client, "returned");
  script.close();
  await returned;
  same(calls, 3, "calls of onReturn");
  const attempt = ["disconnect", "returning", "reconnect"];
  same(seen, [...attempt, ...attempt, ...attempt, "returned"]);
  same(client.connected, true);
});

check("gives up after maxReconnectAttempts", async (env) => {
  const client = await connect(env, { reconnect: true, maxReconnectAttempts: 2 });
  const seen = trace(client, "returning", "returned");
  client.on("returning", () => queueMicrotask(() => client.returnNow()));
  const gaveUp = told(client, "error");
  await env.network("down");
  same((await gaveUp).code, "UNREACHABLE");
  same(seen, ["returning", "returning"]);
  await env.network("up");
});

check("disconnect ends connection, requests and return", async (env) => {
  const client = await connect(env, { reconnect: true });
  const seen = trace(client, "close", "disconnect", "returning", "returned");
  const answered = client.request("no.such.route");
  client.disconnect();
  await rejects(answered, "CLOSED");
  same(seen, ["close", "disconnect"]);

  await client.init({ ...env.address, WebSocket: env.WebSocket, reconnect: true });
  const returning = told(client, "returning");
  await env.network("cut");
  await returning;
  client.disconnect();
  client.returnNow();
  // A second client needs a whole connection, in which the first would have returned.
  await connect(env);
  same(client.connected, false);
  same(seen.filter((event) => event === "returned"), []);
});

check("notices a server that falls silent, and returns", async (env) => {
  const client = await connect(env, { reconnect: true });
  const seen = trace(client, "heartbeat timeout", "close", "returned");
  const returned = told(client, "returned");
  await env.network("stall");
  await returned;
  same(seen, ["heartbeat timeout", "close", "returned"]);
});

check("a new session with the same secret takes the name over, and the old one stays away", async (env) => {
  const room = newRoom();
  const user = { secret: env.lib.newSecret() };
  ok(user.secret.length >= 16 && user.secret.length <= 128 && user.secret !== env.lib.newSecret(), "a bad secret");
  const witness = await enter(env, "witness", room);
  const first = await enter(env, "alice", room, { user, reconnect: true });
  const stranger = await connect(env, { user: { secret: env.lib.newSecret() } });
  same(await stranger.request(ENTER, { username: "alice", rid: room }), { code: 500, error: true });

  const seen = trace(witness, "onAdd", "onLeave");
  const ends = trace(first, "onKick", "close", "disconnect", "returning");
  const kicked = told(first, "onKick");
  const second = await connect(env, { user });
  const { users } = await second.request(ENTER, { username: "alice", rid: room });
  same([...users].sort(), ["alice", "witness"]);
  same(await kicked, { reason: env.lib.REPLACED });

  const [heard] = await Promise.all([told(second, "onChat"), witness.request(SEND, { content: "hello", target: "alice" })]);
  same(heard.msg, "hello");
  same(seen, [], "what others were told");
  same(ends, ["onKick", "close", "disconnect"]);
  same(first.connected, false);
});

// ---- A server that does what pomelod does not ----

check("takes several packages of a frame in order, and an answer before what follows it", async (env) => {
  const script = new Script();
  const client = await connect(env, { WebSocket: script.WebSocket });
  const seen = [];
  client.on("onChat", ({ msg }) => seen.push(msg));
  client.on("close", () => seen.push("close"));
  const asked = async () => {
    const { users } = await client.request(ENTER, {});
    return users;
  };
  const entered = asked().then((users) => seen.push(users));
  client.request(SEND, {}, () => seen.push("callback"));
  script.deliver(push("onChat", { msg: 1 }), answer(1, { users: 2 }), push("onChat", { msg: 3 }), answer(2, {}), push("onChat", { msg: 4 }));
  script.close();
  await within(entered, "the answer");
  await told(client, "disconnect");
  same(seen, [1, 2, 3, "callback", 4, "close"]);
});

check("gives each answer to its request, whatever their order, with ids of one byte to three", async (env) => {
  const script = new Script();
  const client = await connect(env, { WebSocket: script.WebSocket });
  const count = 17_000;
  const bodies = Array.from({ length: count }, (_, n) => client.request(ENTER, { n }));
  const asked = script.sent.slice(2).map(request); // behind handshake and ack
  same(asked.length, count, "requests");
  for (const { id, body } of asked.reverse()) script.deliver(answer(id, body));
  (await within(Promise.all(bodies), "the answers")).forEach(({ n }, wanted) => same(n, wanted, "the answer"));
});

check("stays as long as packages come, although none is the heartbeat's answer", (env) =>
  Clock.stopped(async (clock) => {
    const script = new Script({ code: 200, sys: { heartbeat: 3 } });
    const client = await connect(env, { WebSocket: script.WebSocket });
    const seen = trace(client, "heartbeat timeout");
    await clock.pass(3_000);
    same(script.sent.at(-1), pack(3, []), "the heartbeat");
    // Its answer is overdue after 6 s. Two such times pass, in which something else comes often enough.
    for (let n = 0; n < 4; n++) {
      script.deliver(push("onChat", {}));
      await clock.pass(3_000);
    }
    same([client.connected, ...seen], [true], "connected");
    await clock.pass(3_000);
    same([client.connected, ...seen], [false, "heartbeat timeout"], "connected");
  }),
);

check("says what to do where there is no WebSocket", async (env) => {
  const { WebSocket: own } = globalThis;
  const lacking = async (options) => {
    const client = make(env);
    const { message } = await rejects(client.init({ ...env.address, ...options }), "UNSUPPORTED");
    ok(message.includes("Node.js 22") && message.includes("package ws"), message);
    let thrown;
    try {
      client.init({ ...env.address, ...options }, () => fail("called back"));
    } catch (error) {
      thrown = error.code;
    }
    same([thrown, client.connected], ["UNSUPPORTED", false]);
  };
  await lacking({ WebSocket: { default: env.WebSocket } }); // import * as WebSocket from "ws"
  delete globalThis.WebSocket;
  try {
    await lacking({});
  } finally {
    if (own) globalThis.WebSocket = own;
  }
});

check("says what to do where there is no crypto", (env) => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "crypto");
  Object.defineProperty(globalThis, "crypto", { configurable: true, value: undefined });
  try {
    env.lib.newSecret();
    fail("made a secret");
  } catch (error) {
    same(error.code, "UNSUPPORTED", error.message);
  } finally {
    Object.defineProperty(globalThis, "crypto", own);
  }
});

check("keeps heartbeats, and notices silence also behind other packages", (env) =>
  Clock.stopped(async (clock) => {
    const beat = pack(3, []);
    const script = new Script({ code: 200, sys: { heartbeat: 2 } });
    const client = await connect(env, { WebSocket: script.WebSocket });
    const seen = trace(client, "heartbeat timeout");
    const beats = () => script.sent.filter((bytes) => bytes[0] === 3).length;
    script.deliver(beat);
    for (let n = 1; n <= 3; n++) {
      await clock.pass(1_999);
      same(beats(), n - 1, "heartbeats before one is due");
      await clock.pass(1);
      same(beats(), n, "heartbeats");
      if (n < 3) script.deliver(beat);
    }
    script.deliver(push("onChat", {})); // not the answer
    await clock.pass(3_999);
    same([client.connected, ...seen], [true], "connected");
    await clock.pass(1);
    same([client.connected, ...seen], [false, "heartbeat timeout"], "connected");
    same(beats(), 3, "heartbeats");
  }),
);

check("tells of a message that it cannot read, and goes on", async (env) => {
  const script = new Script();
  const client = await connect(env, { WebSocket: script.WebSocket });
  const errors = [];
  client.on("error", ({ code }) => errors.push(code));
  const answered = client.request(ENTER, {});
  script.deliver(data([2 << 1, 1, 0x7b])); // the answer is {
  await rejects(answered, "MALFORMED");
  const heard = [];
  client.on("onChat", (message) => heard.push(message));
  script.deliver(push("onChat", "no object"), data([(3 << 1) | 1, 0, 9]), answer(7, {}), push("onChat", { msg: "fine" }));
  same(heard, ["no object", { msg: "fine" }]);
  same(errors, ["MALFORMED", "MALFORMED", "MALFORMED"]);
});

check("ends a connection on which packages make no sense", async (env) => {
  for (const bytes of [pack(9, []), pack(4, [16 | (3 << 1), 0]), Uint8Array.of(4, 0, 0, 5, 1), Uint8Array.of(4, 0)]) {
    const script = new Script();
    const client = await connect(env, { WebSocket: script.WebSocket });
    const closed = told(client, "close");
    script.deliver(bytes);
    same((await closed).wasClean, false);
    same(client.connected, false);
  }
});

check("is refused by a handshake with another code than 200", async (env) => {
  for (const code of [500, 501]) {
    const script = new Script({ code });
    const client = make(env);
    const told = [];
    client.on("error", (error) => told.push(error.code));
    await rejects(client.init({ host: "scripted", WebSocket: script.WebSocket }), "REFUSED");
    same(told, ["REFUSED"]);
  }
});

check("a handshake tells who the client is, and hears what the server adds", async (env) => {
  const script = new Script({ code: 200, sys: {}, user: { motd: "hi" } });
  const client = make(env);
  const heard = [];
  const options = { host: "2001:db8::1", port: 3050, secure: true, WebSocket: script.WebSocket, user: { secret: "s".repeat(16) } };
  const user = await client.init({ ...options, handshakeCallback: (told) => heard.push(told) });
  same([user, ...heard], [{ motd: "hi" }, { motd: "hi" }]);
  same(script.url, "wss://[2001:db8::1]:3050/");
  const { sys, user: sent } = JSON.parse(text(script.sent[0].subarray(4)));
  same(sent, { secret: "s".repeat(16) });
  ok(sys.type && sys.type !== "js-websocket", `type ${sys.type}`);
  same(script.sent[1], pack(2, []), "ack");
});

check("stays away after a kick, except after an invitation or by choice", async (env) => {
  const kick = (reason) => pack(5, new TextEncoder().encode(JSON.stringify({ reason })));
  const returns = async (reason, options) => {
    const script = new Script();
    const client = await connect(env, { WebSocket: script.WebSocket, reconnect: true, ...options });
    const seen = trace(client, "onKick", "close", "disconnect", "returning");
    const closed = told(client, "disconnect");
    script.deliver(kick(reason));
    await closed;
    client.disconnect();
    return seen.includes("returning");
  };
  same(await returns("be gone"), false);
  same(await returns(env.lib.REPLACED), false);
  same(await returns("messages were lost; please enter again"), true);
  same(await returns("the room was lost; please enter again"), true);
  same(await returns("be gone", { returnAfterKick: (reason) => reason === "be gone" }), true);
});
