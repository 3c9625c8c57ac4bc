// The chat page: what the elements of index.html do, and how the page stays in its room.

import { Alerts } from "./chat/alerts.js";
import { currentLanguage, nextLanguage, preferredLanguage, say, setLanguage, t } from "./chat/i18n.js";
import { Log } from "./chat/log.js";
import { loginAddress, takeToken } from "./chat/login.js";
import { People } from "./chat/people.js";
import { Refusal } from "./chat/refusals.js";
import { Pomelo, REPLACED, newSecret } from "./pomelo.js";

const SEND = "chat.chatHandler.send";
const LOGIN_EXPIRED = "login expired"; // the reason of a kick
const EVERYONE = "*";

const MAX_NAME_BYTES = 64;
const MAX_CHARACTERS = 4_000; // of a message
const CHARACTERS_LEFT = 200; // from here on the page tells how many are left
const MEMBERS = 500; // names on a page of a large room's list
const HISTORY = 50; // messages of before that a newcomer is shown, if it may read them
// How long to ask for the own place after a cut. A server that does not know the secret sets the name free when the old
// session's heartbeats have been missing for long enough.
const REFUSED_PATIENCE_MS = 3 * 60_000;
// The same where the server refuses the login.
const LOGIN_PATIENCE_MS = 30_000;
// How long those who were here before a cut may take to come back, as the page does: longer than its longest pause.
const ALL_BACK_MS = 60_000;

const $ = (id) => document.getElementById(id);

// What the browser keeps: settings in localStorage for every visit, place and secret in sessionStorage for this tab.
// Either may be forbidden; the page then forgets.
function kept(area, key, fallback) {
  try {
    return JSON.parse(window[area].getItem(`chat ${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

function keep(area, key, value) {
  try {
    window[area].setItem(`chat ${key}`, JSON.stringify(value));
  } catch {
    // forbidden, or full
  }
}

// Each tab has a secret of its own: by it the server knows this page again after a cut, and gives it back its name.
const secret = kept("sessionStorage", "secret", null) ?? newSecret();
keep("sessionStorage", "secret", secret);

// The login is the tab's too: {token, name}, or null.
let login = takeToken() ?? kept("sessionStorage", "login", null);
keep("sessionStorage", "login", login);
// The server has refused it. It is kept all the same, as the server says no more of a token that it cannot judge just now than of one that is no good.
let doubted = false;

const pomelo = new Pomelo();
const alerts = new Alerts();
const ignored = new Set(kept("localStorage", "ignored", []));
const log = new Log($("log"), $("newer"), (name) => ignored.has(name));
const people = new People($("list"), writeTo);
people.ignored = ignored;

let me = null; // {name, room} while in a room, also when cut off
let target = EVERYONE;
let refusal = null; // of the latest attempt to return
let refusedSince = 0;
let entered = 0; // number of the room's pushes at the latest enter: what has none greater was said before
let reading = null; // of a large room's list: {after, told}; told are those of the pages so far
let unsure = null; // {content, to, mid} of the latest message that perhaps did not arrive
let unread = false; // the log has its line before what came while nobody looked
let awaited = new Set(); // who was here before a cut and may be on the way back
let awaiting = 0; // the timer that ends that
let walking = Promise.resolve(); // Back and Forward, one after the other

// ---- Entering and leaving ----

async function enter(name, room) {
  const returns = me?.room === room && me.name === name;
  const answer = await (returns ? pomelo.reenter() : pomelo.enter({ username: name, rid: room, history: HISTORY, token: login?.token }));
  const { users, seq, complete, count } = answer;
  if (!users) throw new Refusal(answer, { name, room }, "nameTaken");
  entered = numberOf(seq);
  if (returns) {
    awaitOthers(users, count !== undefined);
    log.note({ true: "away", false: "awayGap" }[complete] ?? "back");
  } else {
    unsure = null;
    awaited.clear();
    log.clear();
    log.note("entered", { room });
    $("filter").value = people.filter = "";
  }
  me = { name, room };
  keep("sessionStorage", "place", me);
  people.reset(name, users, count);
  reading = null;
  showPlace();
}

async function join(name, room) {
  const gate = new URL(".", document.baseURI).href;
  await pomelo.init({ gate, uid: name, user: { secret }, extended: true, onReturn: comeBack });
  await enter(name, room);
}

async function comeBack() {
  try {
    await enter(me.name, me.room);
  } catch (error) {
    if (error instanceof Refusal) notLetBack(error);
    throw error;
  }
  refusedSince = 0;
}

function notLetBack(error) {
  refusal = error;
  refusedSince ||= Date.now();
  const nameTaken = error.key === "nameTaken";
  const patience = error.key === "login" ? LOGIN_PATIENCE_MS : REFUSED_PATIENCE_MS;
  const [key, given] = inWords(error);
  if (Date.now() - refusedSince < patience) return showBanner(nameTaken ? "nameHeld" : key, given, "tryNow");
  leave();
  doubted = error.key === "login";
  showForm();
  say($("join-error"), nameTaken ? "nameLost" : key, given);
}

// loginExpired goes back to the form, where a login that is good no longer is not used again.
function loginExpired() {
  leave();
  login = null;
  keep("sessionStorage", "login", null);
  showForm();
  say($("join-error"), "loginExpired");
}

// awaitOthers remembers who was here before the cut and is not among users. When a server begins anew all come back one after
// the other, and for those who stayed nobody has joined.
// In a large room nobody is told.
function awaitOthers(users, many) {
  if (many) return awaited.clear();
  for (const name of people.names) awaited.add(name);
  for (const name of users) awaited.delete(name);
  clearTimeout(awaiting);
  awaiting = setTimeout(() => {
    for (const name of awaited) log.presence("left", name);
    awaited.clear();
  }, ALL_BACK_MS);
}

// readMore lists the next page of a large room's people. The last one ends a reading that has told everybody who was there all the time, so who was not told
// has left.
async function readMore() {
  const { room } = me;
  const now = (reading ??= { after: undefined, told: [] });
  $("more-button").disabled = true;
  try {
    const answer = await pomelo.members({ after: now.after, limit: MEMBERS });
    if (me?.room !== room || reading !== now) return;
    if (!answer.users) {
      if (answer.reason === "cursor") reading = null;
      throw new Refusal(answer, { name: me.name, room }, "notListed");
    }
    now.told.push(...answer.users);
    people.total = answer.count;
    if ((now.after = answer.next)) people.addAll(answer.users);
    else people.reset(me.name, now.told, answer.count);
    if (!now.after) reading = null;
    say($("tools-note"), null);
  } catch (error) {
    if (error instanceof Refusal) say($("tools-note"), error.key === "enterTooFast" ? "tooFast" : error.key, error.given);
  } finally {
    $("more-button").disabled = false;
    showCount();
  }
}

function leave() {
  me = null;
  refusal = null;
  refusedSince = 0;
  awaited.clear();
  keep("sessionStorage", "place", null);
  pomelo.disconnect();
  log.clear();
  people.reset("", []);
  closePeople();
  writeTo(EVERYONE);
  showBanner(null);
  $("chat").hidden = true;
  $("join").hidden = false;
  showTitle();
  $("name").focus();
}

// submitted is what the button of the form does, which showForm has named.
function submitted() {
  if (loginAddress() && (doubted || !login)) location.assign(loginAddress());
  else tryToJoin();
}

async function tryToJoin() {
  const name = $("name").value.trim();
  const room = $("room").value.trim();
  const fault = faultOf(name, "name") ?? faultOf(room, "room");
  say($("join-error"), fault);
  if (fault) return $(fault.startsWith("name") ? "name" : "room").focus();
  $("join-button").disabled = $("again-button").disabled = true;
  say($("join-button"), "joining");
  try {
    await join(name, room);
    doubted = false;
    keep("localStorage", "last", me);
    history.replaceState(null, "", addressOf(room));
    showChat();
  } catch (error) {
    pomelo.disconnect();
    doubted = error.key === "login";
    say($("join-error"), ...inWords(error));
  } finally {
    $("join-button").disabled = $("again-button").disabled = false;
    showForm();
  }
}

async function switchRoom() {
  const room = $("new-room").value.trim();
  const fault = room === me.room ? "sameRoom" : faultOf(room, "room");
  say($("room-error"), fault);
  if (fault) return $("new-room").focus();
  $("room-switch").disabled = true;
  try {
    await enter(me.name, room);
    history.pushState(null, "", addressOf(room)); // Back goes to the room before
    writeTo(EVERYONE);
    $("room-dialog").close();
    $("text").focus();
  } catch (error) {
    say($("room-error"), ...inWords(error));
  } finally {
    $("room-switch").disabled = false;
  }
}

const addressOf = (room) => `?${new URLSearchParams({ room })}`;
const roomInAddress = () => new URLSearchParams(location.search).get("room");

// followAddress goes to the room in the address, as Back and Forward have changed it. Where that is refused, the address is again that of the room in which one stays.
async function followAddress() {
  const room = roomInAddress();
  if (!me) $("room").value = room ?? "";
  if (!me || !room || room === me.room) return;
  try {
    await enter(me.name, room);
    $("room-dialog").close();
    writeTo(EVERYONE);
  } catch (error) {
    if (!me) return;
    history.replaceState(null, "", addressOf(me.room));
    say($("notice"), ...inWords(error));
  }
}

// faultOf is the key of what is wrong with a name or a room; the server has the same rules.
function faultOf(text, kind) {
  if (!text) return `${kind}Missing`;
  if (/[*\p{Cc}]/u.test(text)) return `${kind}Star`;
  if (new TextEncoder().encode(text).length > MAX_NAME_BYTES) return `${kind}Long`;
  return null;
}

function inWords(error) {
  if (error instanceof Refusal) return [error.key === "login" && login ? "loginRefused" : error.key, error.given];
  return [error.code === "REFUSED" ? "refused" : "unreachable", {}];
}

// ---- Talking ----

async function write() {
  const content = $("text").value.trim();
  if (!content) return;
  if (content.length > MAX_CHARACTERS) return say($("notice"), "textLong", { max: MAX_CHARACTERS });
  if (!pomelo.connected) return say($("notice"), "waitForConnection");
  const to = target;
  $("text").value = "";
  fitText();
  say($("notice"), null);
  const trouble = await send(content, to);
  if (!trouble) return;
  giveBack(content, to);
  say($("notice"), ...trouble);
}

// giveBack puts what was not sent in front of what has been written since; but what was for one must not get before everyone.
function giveBack(content, to) {
  const field = $("text");
  if (to !== target && field.value) return;
  if (to !== target) writeTo(to);
  field.setRangeText(field.value ? `${content}\n` : content, 0, 0, field.value ? "preserve" : "end");
  fitText();
}

// send resolves to what to say when it did not work. A message that perhaps did not arrive has the same id when it is sent again, and is said once.
async function send(content, to) {
  const again = unsure?.content === content && unsure.to === to;
  const mid = again ? unsure.mid : newSecret();
  try {
    const answer = await pomelo.request(SEND, { content, target: to, mid });
    unsure = null;
    if (answer.code) {
      const { key, given } = new Refusal(answer, { name: to, room: me?.room }, to === EVERYONE || people.has(to) ? "notSent" : "gone");
      return [key, given];
    }
    // A message to everyone comes back from the server; of a private one the sender gets no copy.
    if (to !== EVERYONE && to !== me?.name) log.message({ from: me.name, text: content, own: true, to });
    return null;
  } catch {
    unsure = { content, to, mid };
    return ["unsure"];
  }
}

function received({ msg, from, target: to, seq, time }) {
  const text = typeof msg === "string" ? msg : JSON.stringify(msg);
  const own = from === me.name;
  const before = numberOf(seq) <= entered && seq !== undefined;
  const heard = !own && !before && !ignored.has(from);
  if (document.hidden && heard && !unread) {
    unread = true;
    log.unread();
  }
  const everyone = to === EVERYONE;
  log.message({ from, text, own, to: everyone ? undefined : to, time, seq, me: everyone && !own ? me.name : undefined });
  if (heard) alerts.message({ from, text, room: me.room });
}

// numberOf is the number of a place in a room's stream: what stands behind the dot.
function numberOf(seq = "") {
  return Number(seq.slice(seq.lastIndexOf(".") + 1));
}

function writeTo(name) {
  target = name;
  const everyone = name === EVERYONE;
  people.target = everyone ? null : name;
  $("private").hidden = everyone;
  $("composer").classList.toggle("secret", !everyone);
  say($("private-text"), everyone ? null : "privateTo", { name });
  say($("ignore"), ignored.has(name) ? "heed" : "ignore");
  say($("notice"), null);
  closePeople();
  $("text").focus();
}

// ignore has messages of the person who is written to not shown, or shown again.
function ignore() {
  const name = target;
  const heed = ignored.delete(name);
  if (!heed) ignored.add(name);
  keep("localStorage", "ignored", [...ignored]);
  people.ignored = ignored;
  log.refilter();
  log.note(heed ? "heeding" : "ignoring", { name });
  writeTo(EVERYONE);
}

// copy puts the room's address where it can be pasted, or shows it, as not every page may do that: only those that came by https, and of this machine.
async function copy() {
  const link = new URL(addressOf(me.room), location).href;
  try {
    await navigator.clipboard.writeText(link);
    say($("copy"), "copied");
  } catch {
    say($("alone-text"), "copyByHand", { link });
  }
}

// fitText makes the field as high as its text; chat.css says how high it may get.
function fitText() {
  const field = $("text");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
  const left = MAX_CHARACTERS - field.value.length;
  $("chars-left").textContent = left <= CHARACTERS_LEFT ? left.toLocaleString() : "";
  $("chars-left").classList.toggle("over", left < 0);
}

// edited also takes away what was said of the text as it was.
function edited() {
  fitText();
  const tooLong = $("text").value.trim().length > MAX_CHARACTERS;
  if (tooLong && $("notice").dataset.t !== "textLong") say($("notice"), "textLong", { max: MAX_CHARACTERS });
  else if (!tooLong && pomelo.connected) say($("notice"), null);
}

// ---- Showing ----

// showForm shows what can be done in the form: where a login was refused, two things.
function showForm() {
  const elsewhere = Boolean(loginAddress());
  $("name").readOnly = Boolean(login?.name);
  say($("join-button"), elsewhere && (doubted || !login) ? "logIn" : "join");
  $("again-button").hidden = !(elsewhere && doubted && login);
}

function showChat() {
  $("join").hidden = true;
  $("chat").hidden = false;
  showState("connected");
  showBanner(null);
  fitText();
  $("text").focus();
}

function showPlace() {
  $("room-name").textContent = me.room;
  showTitle();
  showCount();
}

function showTitle() {
  alerts.title = me ? `${me.room} – ${t("title")}` : t("title");
}

function showCount() {
  for (const element of document.querySelectorAll(".people-count")) element.textContent = people.count.toLocaleString();
  $("more").hidden = !people.many;
  const alone = people.count === 1;
  if (alone && $("alone").hidden) {
    say($("alone-text"), "alone");
    say($("copy"), "copyLink");
  }
  $("alone").hidden = !alone;
  say($("more-button"), reading || people.listed < people.count ? "more" : "refresh");
}

function showState(key) {
  const status = $("status");
  if (status.dataset.t === key) return;
  say(status, key);
  status.dataset.state = key;
}

// showBanner shows what keeps the page from working, and what to do about it: the key of the button says which.
function showBanner(key, given, button) {
  $("banner").hidden = !key;
  if (!key || $("banner-text").textContent !== t(key, given)) say($("banner-text"), key, given); // it is an alert: not twice
  say($("banner-button"), button);
}

function showSettings() {
  const { sound, popups } = alerts;
  $("sound").setAttribute("aria-pressed", sound);
  $("notify").setAttribute("aria-pressed", popups && alerts.popupsAllowed === "granted");
  keep("localStorage", "settings", { language: currentLanguage(), sound, popups });
}

function openPeople() {
  $("chat").classList.add("with-people");
  $("people-button").setAttribute("aria-expanded", "true");
  $("talk").inert = true;
  $("close-people").focus();
}

// closePeople only matters on small screens, where the people are over the messages.
function closePeople() {
  if (!$("chat").classList.contains("with-people")) return;
  $("chat").classList.remove("with-people");
  $("people-button").setAttribute("aria-expanded", "false");
  $("talk").inert = false;
  $("people-button").focus();
}

// ---- What the server tells ----

pomelo.on("onChat", (message) => me && received(message));

pomelo.on("onDelete", ({ deleted }) => deleted && log.remove(deleted));

pomelo.on("onAdd", ({ user }) => {
  if (!people.add(user)) return;
  if (!awaited.delete(user)) log.presence("came", user);
  showCount();
});

pomelo.on("onLeave", ({ user }) => {
  if (!people.remove(user)) return;
  log.presence("left", user);
  showCount();
});

pomelo.on("onCount", ({ rid, count }) => {
  if (rid !== me?.room) return;
  people.total = count;
  showCount();
});

pomelo.on("returning", () => {
  showState("offline");
  if (!refusal) {
    refusedSince = 0; // by now the trouble is another
    showBanner("lost", {}, "tryNow");
  }
  refusal = null;
});

// What was wrong while there was no connection is not wrong any more; what could not be sent may be sent now.
pomelo.on("returned", () => {
  showState("connected");
  showBanner(null);
  say($("room-error"), null);
  const now = { waitForConnection: "sendNow", unsure: "sendAgain" }[$("notice").dataset.t];
  if (now) say($("notice"), now);
  else edited(); // what is left of it
});

// Whoever is replaced stays away: the place has been taken over by its owner.
pomelo.on("onKick", ({ reason }) => {
  if (!me) return;
  showState("offline");
  if (reason === REPLACED) showBanner("replaced", {}, "useHere");
  else if (reason === LOGIN_EXPIRED) loginExpired();
  else showBanner("kicked", { reason }, "joinAgain");
});

// ---- What the user does ----

const ACTIONS = {
  language() {
    setLanguage(nextLanguage());
    showTitle();
    showSettings();
  },
  room() {
    $("new-room").value = "";
    say($("room-error"), null);
    $("room-dialog").showModal();
  },
  stay: () => $("room-dialog").close(),
  people: openPeople,
  "close-people": closePeople,
  everyone: () => writeTo(EVERYONE),
  answer: ({ name }) => writeTo(name),
  ignore,
  copy,
  newer: () => log.follow(),
  more: readMore,
  leave,
  again: tryToJoin,
  sound() {
    alerts.sound = !alerts.sound;
    showSettings();
  },
  async notify() {
    alerts.popups = !(alerts.popups && alerts.popupsAllowed === "granted");
    const allowed = alerts.popups ? await alerts.askForPopups() : "granted";
    say($("tools-note"), { denied: "notificationsDenied", insecure: "notificationsInsecure" }[allowed]);
    showSettings();
  },
  async banner() {
    if ($("banner-button").dataset.t === "tryNow") return pomelo.returnNow();
    try {
      await join(me.name, me.room);
      showChat();
    } catch (error) {
      pomelo.disconnect();
      showBanner(...inWords(error), "joinAgain");
    }
  },
};

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) unread = false;
});

addEventListener("click", ({ target: clicked }) => {
  const { action, ...given } = clicked.closest("[data-action]")?.dataset ?? {};
  ACTIONS[action]?.(given);
});

addEventListener("popstate", () => (walking = walking.then(followAddress)));

function onSubmit(form, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

onSubmit("join-form", submitted);
onSubmit("room-form", switchRoom);
onSubmit("composer", write);

$("join-form").addEventListener("input", () => say($("join-error"), null));
$("room-form").addEventListener("input", () => say($("room-error"), null));
$("text").addEventListener("input", edited);
$("text").addEventListener("keydown", (event) => {
  // While an input method composes, Enter accepts what it proposes. Safari tells that by the key code only.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  write();
});

$("filter").addEventListener("input", () => (people.filter = $("filter").value));
$("filter").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter") people.chooseFirst();
  else if (event.key === "ArrowDown") $("list").focus();
  else return;
  event.preventDefault();
});

$("chat").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if ($("chat").classList.contains("with-people")) closePeople();
  else if (target !== EVERYONE) writeTo(EVERYONE);
});

// A link with a new token, followed while the page is open, changes only what stands behind the #.
addEventListener("hashchange", () => {
  const given = takeToken();
  if (!given) return;
  keep("sessionStorage", "login", given);
  location.reload();
});

// ---- Start ----

const settings = kept("localStorage", "settings", {});
alerts.sound = settings.sound ?? true;
alerts.popups = settings.popups ?? false;
setLanguage(settings.language ?? preferredLanguage());
showSettings();

const place = kept("sessionStorage", "place", null); // this tab was in a room, and was loaded again
const last = place ?? kept("localStorage", "last", {});
showTitle();
$("name").value = login?.name ?? last.name ?? "";
showForm();
$("room").value = place?.room ?? roomInAddress() ?? last.room ?? "lobby";
$("join").hidden = false;
if (place || login?.name || loginAddress()) submitted();
else $($("name").value ? "room" : "name").focus();
