// The page of operators: what goes on, rooms, users and rules, and what an operator does about them.

import { currentLanguage, nextLanguage, preferredLanguage, say, setLanguage, t } from "../chat/language.js";
import { Refusal, ask, put, takeToken, tell, useToken } from "./api.js";
import { showNodes, showStats } from "./figures.js";
import { Pages, button, nameOf, rowOf, said, spelt } from "./lists.js";
import "./words.js";

const LOOK_MS = 2_000;
const PAGE = 100; // rows
const HISTORY = 200; // messages, of which the server tells no more at once
const SAY_ROUTE = "onChat";
const EVERYONE = "*";

const $ = (id) => document.getElementById(id);

let before = null; // the answer of /v1/stats before the latest
let nodes = []; // of the fleet, as they were told last
let looking = null; // the timer of the next look
let view = { page: "", room: "" };
let doing = null; // what the dialog is about: {path, given, fields}

// ---- Where we are: #/now, #/rooms, #/room=NAME, #/users, #/rules ----

const pages = {
  now: () => look(),
  rooms: () => rooms.show(),
  room: () => showRoom(),
  users: () => users.show(),
  rules: () => rules.show(),
};

function placeOf(hash) {
  const [page, name] = hash.slice(2).split(/=(.*)/s);
  if (!(page in pages)) return { page: "now", room: "" };
  try {
    return { page, room: decodeURIComponent(name ?? "") };
  } catch {
    return { page: "rooms", room: "" };
  }
}

const roomPlace = (room) => `#/room=${encodeURIComponent(room)}`;

function go() {
  takeToken(); // also in a tab that was open: an address that differs behind the # alone loads nothing
  view = placeOf(location.hash);
  for (const page of Object.keys(pages)) $(page).hidden = page !== view.page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash.slice(2) === view.page || (view.page === "room" && link.hash === "#/rooms")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  tellNotice(null);
  return refresh();
}

// refresh shows the page anew. A server that wants a token is asked for nothing more until there is one.
async function refresh() {
  try {
    await pages[view.page]();
    $("login").hidden = true;
    $("desk").hidden = false;
    say($("trouble"), null);
  } catch (error) {
    tellTrouble(error);
  }
}

function tellTrouble(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) {
    $("desk").hidden = true;
    if ($("login").hidden) {
      $("login").hidden = false;
      $("token").focus();
    } else say($("login-error"), "badToken");
    return;
  }
  $("desk").hidden = false;
  if (error.status === 0) say($("trouble"), "unreachable");
  else say($("trouble"), "failed", { text: error.message });
}

function tellNotice(key, given) {
  say($("notice"), key, given);
}

// ---- What goes on ----

async function look() {
  clearTimeout(looking);
  looking = setTimeout(() => {
    if (view.page === "now" && $("login").hidden && !document.hidden) refresh();
    else looking = null;
  }, LOOK_MS);
  const [now, fleet] = await Promise.all([ask("stats"), ask("nodes")]);
  showStats(before, now, { tiles: $("tiles"), loops: $("loops"), version: $("version") });
  nodes = fleet.nodes;
  showNodes(fleet, { fleet: $("fleet"), body: $("nodes") });
  before = now;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && view.page === "now" && looking === null) refresh();
});

// ---- Rooms ----

const rooms = new Pages(
  $("rooms-list"),
  async (after) => {
    const by = $("rooms-by").value;
    const answer = await ask("rooms", { prefix: $("rooms-prefix").value, by, after, limit: PAGE });
    return { items: answer.rooms, next: answer.next };
  },
  (room) => {
    const link = document.createElement("a");
    link.href = roomPlace(room.name);
    link.append(nameOf(room.name));
    return rowOf(link, [said("roomFacts", room)], roomButtons(room.name));
  },
);

function roomButtons(room) {
  return [
    button("lock", room, () => act("lock", { room })),
    button("close", room, () => act("close", { room })),
  ];
}

let inside = { room: "", names: [] }; // the members that are shown, and where they are

async function showRoom() {
  const { room } = view;
  $("room-title").replaceChildren(nameOf(room));
  const [lock, close] = roomButtons(room);
  const read = button("keptMessages", room, () => showMessages(room).catch(tellTrouble));
  const policy = button("policy", room, () => openPolicy(room).catch(tellTrouble));
  $("room-actions").replaceChildren(read, policy, lock, button("unlock", room, () => lift({ kind: "lock", room })), close);
  let answer = { members: 0, kept: 0 };
  try {
    answer = await ask("room", { name: room });
  } catch (error) {
    if (error.status !== 404) throw error; // nobody is there
  }
  if (view.room !== room) return; // by now another one is shown, in which others have these names
  inside = { room, names: answer.users ?? [] };
  say($("room-facts"), "roomFacts", answer);
  await members.show();
  await showMessages(reading === room ? room : null);
}

// openPolicy opens the dialog about what holds in a room, with what an operator has said of it in its fields.
async function openPolicy(room) {
  const { policy, holds } = await ask("policy", { room });
  act("policy", { room, ...policy }, { text: policyText(holds) });
}

// policyOf is what the dialog says of a room. A field that is empty says nothing.
function policyOf({ room, ...said }) {
  const policy = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== ""));
  for (const limit of ["members", "list"]) if (/^\d+$/.test(policy[limit])) policy[limit] = Number(policy[limit]);
  if ("locked" in policy) policy.locked = String(policy.locked) === "true";
  return policy;
}

// pageOf is a page of a list that is here already.
const pageOf = (list, after = 0) => ({ items: list.slice(after, after + PAGE), next: after + PAGE < list.length ? after + PAGE : 0 });

// What the room keeps is shown when somebody wants to see it: what people have said is not read in passing.
let reading = null; // the room whose messages are shown

const messages = new Pages(
  $("messages-list"),
  async (after) => {
    try {
      const { history } = await ask("history", { room: reading, limit: HISTORY });
      return pageOf(history.messages.reverse(), after);
    } catch (error) {
      if (error.status !== 404) throw error; // it has ended
      return pageOf([]);
    }
  },
  ({ seq, time, from, msg }) => {
    const room = reading;
    const text = typeof msg === "string" ? msg : JSON.stringify(msg);
    return rowOf(nameOf(from), [nameOf(text), new Date(time).toLocaleString()], [button("delete", from, () => act("delete", { room, seq }))]);
  },
);

async function showMessages(room) {
  reading = room;
  $("kept").hidden = room === null;
  if (room !== null) await messages.show();
}

const members = new Pages(
  $("members-list"),
  async (after) => {
    const wanted = $("members-filter").value.toLowerCase();
    return pageOf(inside.names.filter((name) => name.toLowerCase().includes(wanted)), after);
  },
  (name) => {
    const { room } = inside;
    return rowOf(nameOf(name), [], [
      button("kick", name, () => act("kick", { name, room })),
      button("mute", name, () => act("mute", { name, room })),
      button("ban", name, () => act("ban", { name })),
    ]);
  },
);

$("say-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("say-text").value;
  if (!text) return;
  try {
    await tell("publish", { room: view.room, route: SAY_ROUTE, body: { msg: text, from: $("say-from").value || "system", target: EVERYONE } });
    $("say-text").value = "";
    tellNotice("said");
  } catch (error) {
    tellTrouble(error);
  }
});

// ---- Users ----

const users = new Pages(
  $("users-list"),
  async (after) => {
    const answer = await ask("sessions", { prefix: $("users-prefix").value, address: $("users-address").value.trim(), after, limit: PAGE });
    return { items: answer.sessions, next: answer.next };
  },
  ({ name, room, uid, address, transport }) => {
    const host = hostOf(address);
    const buttons = [button("banAddressShort", host, () => act("ban-address", { address: host }))];
    if (!name) return rowOf(said("noName"), [address, transport], [button("kick", host, () => act("kick", { address: host })), ...buttons]);
    const place = document.createElement("a");
    place.href = roomPlace(room);
    place.append(nameOf(room));
    return rowOf(nameOf(name), [place, uid && uid !== name && said("uid", { uid }), address, transport], [
      button("kick", name, () => act("kick", { name, room })),
      button("mute", name, () => act("mute", { name, room })),
      button("ban", name, () => act("ban", { name })),
      ...buttons,
    ]);
  },
);

// hostOf is an address without its port.
function hostOf(address) {
  if (address.startsWith("[")) return address.slice(1, address.indexOf("]"));
  return address.indexOf(":") === address.lastIndexOf(":") ? address.split(":")[0] : address;
}

// ---- Rules ----

const KINDS = { ban: "ruleBan", mute: "ruleMute", lock: "ruleLock", policy: "rulePolicy" };

const rules = new Pages(
  $("rules-list"),
  async (after) => {
    const answer = await ask("rules");
    $("unkept").hidden = answer.kept;
    const wanted = $("rules-filter").value.toLowerCase();
    const has = (text) => text?.toLowerCase().includes(wanted);
    return pageOf(answer.rules.filter((rule) => !wanted || has(rule.name) || has(rule.room) || has(rule.address)).reverse(), after);
  },
  (rule) => {
    const title = document.createElement("span");
    const about = rule.name || rule.address || rule.room;
    title.append(said(KINDS[rule.kind]), " ", nameOf(about));
    const where = rule.kind === "mute" && (rule.room ? said("inRoom", { room: rule.room }) : said("everywhere"));
    const until = rule.until ? said("until", { text: new Date(rule.until).toLocaleString() }) : said("forEverFact");
    return rowOf(title, [where, until, rule.reason && nameOf(rule.reason), rule.policy && policyText(rule.policy), rule.by && said("by", { by: rule.by })], [button("lift", about, () => lift(rule))]);
  },
);

// policyText is what a policy says, in the words of the command and of files.
const policyText = (policy) => Object.entries(policy).map(([limit, value]) => `${limit} ${value}`).join(", ");

function lift({ kind, name, address, room }) {
  if (kind === "policy") return carryOut(() => put("policy", { room }, {}));
  return carryOut(() => tell(`un${kind}`, { name, address, room }));
}

// ---- What an operator does ----

const acts = {
  kick: { fields: ["reason"], title: "kickTitle", hint: "kickHint", verb: "kick" },
  ban: { fields: ["name", "for", "reason"], title: "banTitle", hint: "banHint", verb: "ban" },
  "ban-address": { path: "ban", fields: ["address", "for", "reason"], title: "banAddressTitle", hint: "banAddressHint", verb: "ban" },
  mute: { fields: ["name", "room", "for"], title: "muteTitle", hint: "muteHint", verb: "mute" },
  lock: { fields: ["room", "for"], title: "lockTitle", hint: "lockHint", verb: "lock" },
  delete: { fields: [], title: "deleteTitle", hint: "deleteHint", verb: "delete" },
  policy: { fields: ["slow", "hold", "members", "list", "enter", "history", "locked"], title: "policyTitle", hint: "policyHint", verb: "save" },
  drain: { fields: ["node"], title: "drainTitle", hint: "drainHint", verb: "drain" },
  close: { fields: ["reason"], title: "closeTitle", hint: "closeHint", verb: "close" },
};

// act opens the dialog. What is given stands in its fields, or goes along where there is none.
function act(what, given, told = {}) {
  const { path = what, fields, title, hint, verb } = acts[what];
  doing = { path, given, fields };
  say($("act-title"), title, { name: given.name ?? given.address ?? "", room: given.room ?? "" });
  say($("act-hint"), hint, told);
  say($("act-do"), verb);
  say($("act-error"), null);
  for (const box of document.querySelectorAll("[data-field]")) {
    const { field } = box.dataset;
    box.hidden = !fields.includes(field);
    const input = box.querySelector("input, select");
    if (field === "for") input.value = "24h";
    else input.value = given[field] ?? (field === "reason" && what !== "ban" && what !== "ban-address" ? t("reasonByDefault") : "");
  }
  $("act").showModal();
}

$("act-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { path, given, fields } = doing;
  const body = { ...given };
  for (const field of fields) body[field] = $(`act-${field}`).value;
  try {
    await perform(path, body);
    $("act").close();
    await refresh();
  } catch (error) {
    if (error.status === 401) {
      $("act").close();
      tellTrouble(error);
    } else if (error instanceof Refusal) say($("act-error"), error.status === 0 ? "unreachable" : "failed", { text: error.message });
    else throw error;
  }
});

// perform has the server do it, and tells what has come of it.
async function perform(path, body) {
  if (path === "policy") {
    await put("policy", { room: body.room }, policyOf(body));
    tellNotice("done");
    return;
  }
  const { count, warning, node } = await tell(path, body);
  if (warning) tellNotice("warned", { text: warning });
  else if (node) tellNotice("drained", { name: node.name, state: node.state });
  else if (count === undefined) tellNotice("done");
  else if (path === "delete") tellNotice("deleted", { count });
  else tellNotice("doneCount", { count });
}

async function carryOut(what) {
  try {
    await what();
    tellNotice("done");
    await refresh();
  } catch (error) {
    tellTrouble(error);
  }
}

// ---- Controls ----

const actions = {
  language: () => {
    setLanguage(nextLanguage());
    try {
      localStorage.setItem("pomelod admin language", currentLanguage());
    } catch {
      // forbidden
    }
    refresh();
  },
  cancel: () => $("act").close(),
  ban: () => act("ban", {}),
  "ban-address": () => act("ban-address", {}),
  mute: () => act("mute", {}),
  lock: () => act("lock", {}),
  drain: () => {
    $("act-node").replaceChildren(...nodes.map(({ name }) => new Option(spelt(name), name)));
    act("drain", { node: nodes[0]?.name });
  },
};

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-action]");
  if (pressed) actions[pressed.dataset.action]();
});

for (const form of document.querySelectorAll("[data-list]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const lists = { rooms, members, users, rules };
    lists[form.dataset.list].show().then(() => say($("trouble"), null), tellTrouble);
  });
}

document.addEventListener("trouble", (event) => tellTrouble(event.detail));

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value.trim());
  $("token").value = "";
  say($("login-error"), null);
  go();
});

function keptLanguage() {
  try {
    return localStorage.getItem("pomelod admin language");
  } catch {
    return null;
  }
}

setLanguage(keptLanguage() ?? preferredLanguage());
addEventListener("hashchange", go);
go();
