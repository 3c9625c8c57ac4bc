// The messages of the room. What arrives is gathered and shown once per frame; the oldest rows go when there are many,
// and rows out of sight cost nothing (chat.css: content-visibility on each chunk).

import { say, when } from "./i18n.js";
import { avatar } from "./people.js";
import { partsOf } from "./text.js";

const CHUNK_ROWS = 100;
const MAX_CHUNKS = 30;
const MAX_WAITING = CHUNK_ROWS * MAX_CHUNKS; // a page out of sight has no frames, and need not keep more than it will show
const FRAME_ROWS = 300; // more than that wait for the next frame
const MAX_NAMES = 3; // of those who came or left, in one line
const LINES = new Set(["away", "awayGap", "unread"]); // notes that divide what was said before from what comes
const TOGETHER_MS = 5 * 60_000; // messages of one person within this time stand together
const AT_END_PX = 40; // from the end of the log: whoever is this close wants to follow
const SETTLE_MS = 150; // after the last scrolling of a gesture: smooth scrolling and momentum outlast the hand

export class Log {
  #element;
  #newer;
  #ignores;
  #waiting = [];
  #scheduled = false;
  #last = null; // entry of the last row
  #lastRow = null;
  #entries = new WeakMap(); // of rows
  #day = "";
  #mark = null; // the line before what has not been read
  #unseen = 0;
  // Following ends only by hand. Where the log stands does not tell: rows that come into sight turn out higher or lower than
  // was guessed, so the end moves away by itself.
  #following = true;
  #held = false; // a hand is on it, or was a moment ago: what comes must not pull it to the end
  #settling = 0; // the timer that ends that
  #top = 0; // as of the latest scrolling
  #sizes = new ResizeObserver(() => this.#keepUp()); // of the log and its chunks

  // element is what scrolls; newer is the button that tells of messages below; ignores(name) tells whose messages are not shown.
  constructor(element, newer, ignores) {
    this.#element = element;
    this.#newer = newer;
    this.#ignores = ignores;
    element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#sizes.observe(element);
    this.#watchHands();
  }

  /**
   * message is {from, text, own, to, time, seq, me}; to is set when it is private, time if it was said at another time than now, seq if it has a place in the room's stream, me if that
   * name is to be marked in it.
   */
  message({ from, text, own, to, time = Date.now(), seq, me }) {
    this.#add({ kind: "message", from, text, own, to, time, seq, me });
  }

  /** refilter shows and hides messages, as others are ignored now. */
  refilter() {
    for (const row of this.#element.querySelectorAll(".row")) row.hidden = this.#hides(this.#entries.get(row));
    this.#keepUp();
  }

  /** remove takes the message away that has a place, if it is here. */
  remove(seq) {
    this.#waiting = this.#waiting.filter((entry) => entry.seq !== seq);
    const row = this.#element.querySelector(`.row[data-seq="${CSS.escape(seq)}"]`);
    if (!row) return;
    const chunk = row.parentElement;
    if (this.#unseen > 0 && this.#isAmongLast(row, this.#unseen)) this.#setUnseen(this.#unseen - 1);
    const next = row.nextElementSibling ?? chunk.nextElementSibling?.firstElementChild;
    if (!row.classList.contains("follows")) next?.classList.remove("follows"); // it has nobody's name above it any more
    if (row === this.#lastRow) {
      this.#lastRow = row.previousElementSibling ?? chunk.previousElementSibling?.lastElementChild ?? null;
      this.#last = this.#entries.get(this.#lastRow) ?? null;
    }
    row.remove();
    if (chunk.childElementCount === 0) chunk.remove();
    this.#keepUp();
  }

  /** unread draws a line before what comes next, as nobody looks at the page. There is one such line. */
  unread() {
    this.#add({ kind: "note", key: "unread", mark: true });
  }

  /** note is a line of the page's own; key and given are as in say(). */
  note(key, given) {
    this.#add({ kind: "note", key, given });
  }

  /** presence tells that somebody "came" or "left". Many at once become one line. */
  presence(key, name) {
    const last = this.#waiting.at(-1) ?? this.#last;
    if (last?.kind !== "presence" || last.key !== key) {
      return this.#add({ kind: "presence", key, given: { names: [name], count: 1 } });
    }
    last.given.count++;
    if (last.given.names.length < MAX_NAMES) last.given.names.push(name);
    last.changed = true;
    this.#schedule();
  }

  clear() {
    this.#waiting = [];
    this.#last = this.#lastRow = this.#mark = null;
    this.#day = "";
    this.#element.replaceChildren();
    this.follow();
  }

  follow() {
    this.#following = true;
    this.#held = false;
    this.#keepUp();
  }

  #add(entry) {
    if (this.#waiting.push(entry) > MAX_WAITING) this.#waiting.shift();
    this.#schedule();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#show();
    });
  }

  #show() {
    if (this.#last?.changed) {
      this.#last.changed = false;
      say(this.#lastRow, this.#last.key, this.#last.given);
    }
    const entries = this.#waiting.splice(0, FRAME_ROWS);
    for (const entry of entries) this.#append(entry);
    if (entries.some((entry) => entry.own)) this.follow(); // who writes wants to see it
    if (this.#following) this.#keepUp();
    else this.#setUnseen(this.#unseen + entries.filter((entry) => entry.kind === "message" && !this.#hides(entry)).length);
    if (this.#waiting.length > 0) this.#schedule();
  }

  #append(entry) {
    if (entry.kind === "message") this.#newDay(entry);
    const row = entry.kind === "message" ? this.#messageRow(entry) : noteRow(entry);
    this.#put(row);
    if (entry.mark) {
      this.#mark?.remove();
      this.#mark = row;
    }
    entry.changed = false;
    this.#last = entry;
    this.#lastRow = row;
    this.#entries.set(row, entry);
  }

  #newDay({ time }) {
    const day = new Date(time).toDateString();
    if (day !== this.#day && this.#day) {
      const row = noteRow({});
      row.textContent = when("day", time);
      this.#put(row);
      this.#last = null;
    }
    this.#day = day;
  }

  #put(row) {
    let chunk = this.#element.lastElementChild;
    if (!chunk || chunk.childElementCount >= CHUNK_ROWS) {
      chunk = document.createElement("div");
      chunk.className = "chunk";
      this.#element.append(chunk);
      this.#sizes.observe(chunk);
      if (this.#element.childElementCount > MAX_CHUNKS) this.#element.firstElementChild.remove();
    }
    chunk.append(row);
  }

  #hides(entry) {
    return !entry.own && this.#ignores(entry.from);
  }

  #messageRow(entry) {
    const row = element("div", "row");
    row.hidden = this.#hides(entry);
    if (entry.seq) row.dataset.seq = entry.seq;
    row.classList.toggle("own", entry.own);
    row.classList.toggle("secret", Boolean(entry.to));
    row.classList.toggle("follows", follows(this.#last, entry));

    const who = element("span", "who");
    if (entry.own) say(who, "you");
    else who.append(entry.to ? answering(entry.from) : name(entry.from));
    const head = element("div", "head");
    head.append(who);
    if (entry.to) {
      const to = element("span", "to");
      if (entry.own) say(to, "privateTo", { name: entry.to });
      else say(to, "privateFrom");
      head.append(" ", to);
    }

    const text = element("p", "text");
    text.dir = "auto";
    for (const part of partsOf(entry.text, entry.me)) {
      if (part.kind === "mention") row.classList.add("mention");
      text.append(partOf(part));
    }
    const bubble = element("div", "bubble");
    bubble.append(head, text, clock(entry.time));
    if (!entry.own) row.append(avatar(entry.from));
    row.append(bubble);
    return row;
  }

  // watchHands notes wheel, keys, fingers, and the mouse, which may drag the scrollbar or select text beyond the edge.
  #watchHands() {
    const on = (target, events, act) => events.forEach((event) => target.addEventListener(event, act, { passive: true }));
    on(this.#element, ["wheel", "keydown"], () => this.#letGo());
    on(this.#element, ["pointerdown", "touchstart"], () => this.#hold());
    on(window, ["pointerup", "touchend", "touchcancel"], () => this.#held && this.#letGo());
    // Not every browser tells that a scrollbar was let go; the mouse then comes without its button.
    on(window, ["pointermove"], ({ buttons }) => this.#held && !this.#settling && buttons === 0 && this.#letGo());
  }

  #hold() {
    clearTimeout(this.#settling);
    this.#settling = 0;
    this.#held = true;
  }

  #letGo() {
    this.#hold();
    this.#settling = setTimeout(() => {
      this.#settling = 0;
      this.#held = false;
      this.#keepUp();
    }, SETTLE_MS);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#element;
    const up = scrollTop < this.#top;
    this.#top = scrollTop;
    if (scrollHeight - scrollTop - clientHeight < AT_END_PX) this.#following = true;
    else if (this.#held && up) this.#following = false;
    if (this.#settling) this.#letGo(); // it goes on
    this.#keepUp();
  }

  #keepUp() {
    if (!this.#following) return;
    if (!this.#held) this.#element.scrollTop = this.#element.scrollHeight;
    this.#setUnseen(0);
  }

  // isAmongLast tells whether a message is one of the last so many.
  #isAmongLast(row, count) {
    return [...this.#element.querySelectorAll(".row:not([hidden])")].slice(-count).includes(row);
  }

  #setUnseen(count) {
    this.#unseen = count;
    this.#newer.hidden = count === 0;
    if (count > 0) say(this.#newer, "newer", { count });
  }
}

function follows(last, entry) {
  return last?.kind === "message" && last.from === entry.from && last.to === entry.to && entry.time - last.time < TOGETHER_MS;
}

function noteRow({ key, given }) {
  const row = element("p", LINES.has(key) ? "note line" : "note");
  if (key) say(row, key, given);
  return row;
}

function clock(time) {
  const clock = element("time", "clock");
  clock.dateTime = new Date(time).toISOString();
  clock.title = when("moment", time);
  clock.textContent = when("clock", time);
  return clock;
}

// answering is the name of who has written privately: a button that writes back. Not one of the keyboard's: there the list of people has the same.
function answering(from) {
  const button = element("button", "answer");
  button.type = "button";
  button.tabIndex = -1;
  button.dataset.action = "answer";
  button.dataset.name = from;
  button.append(name(from));
  return button;
}

function partOf({ kind, text, href }) {
  if (kind === "text") return text;
  const made = element(kind === "link" ? "a" : "mark");
  made.textContent = text;
  if (kind === "link") {
    made.href = href;
    made.target = "_blank";
    made.rel = "noopener noreferrer nofollow";
  }
  return made;
}

function name(text) {
  const bdi = element("bdi");
  bdi.textContent = text;
  return bdi;
}

function element(tag, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}
