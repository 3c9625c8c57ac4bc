// The people of the room. However many there are, only the rows in sight exist.

import { say } from "./i18n.js";

const OVERSCAN_ROWS = 4; // above and below what is in sight, so that scrolling finds rows there
const HUES = 10;

export class People {
  #list; // what scrolls, and has the focus
  #space; // as high as all rows
  #choose;
  #own = "";
  #target = null;
  #ignored = new Set();
  #here = new Set();
  #sorted = []; // all but oneself
  #shown = []; // what the filter leaves, oneself first
  #total = null; // in a large room: how many there are, listed or not
  #filter = "";
  #active = null; // the name that arrow keys are at
  #rows = new Map(); // name → element
  #ids = 0;
  #scheduled = false;
  #changed = false;
  #order = new Intl.Collator(undefined, { numeric: true });

  // choose(name) is called with the person a private message is for.
  constructor(list, choose) {
    this.#list = list;
    this.#choose = choose;
    this.#space = document.createElement("div");
    this.#space.className = "space";
    this.#space.setAttribute("role", "none");
    list.append(this.#space);
    list.addEventListener("scroll", () => this.#schedule(), { passive: true });
    list.addEventListener("click", (event) => this.#pick(event.target.closest(".person")?.dataset.name));
    list.addEventListener("keydown", (event) => this.#key(event));
    // Only for the keyboard: a list that scrolls while a finger is on it gets the wrong person.
    list.addEventListener("focus", () => list.matches(":focus-visible") && this.#moveTo(this.#shown.indexOf(this.#active)));
    new ResizeObserver(() => this.#schedule()).observe(list);
  }

  get count() {
    return this.#total ?? this.#here.size;
  }

  /** How many of them are listed. */
  get listed() {
    return this.#here.size;
  }

  get names() {
    return this.#here.values();
  }

  has(name) {
    return this.#here.has(name);
  }

  /** Whether the room is so large that nobody is told who comes and goes. */
  get many() {
    return this.#total !== null;
  }

  /** Sets how many there are in a large room. */
  set total(count) {
    this.#total = count;
  }

  /** reset starts over with those in users; own is oneself. total is how many there are in a large room, of which users are some. */
  reset(own, users, total = null) {
    this.#own = own;
    this.#total = total;
    this.#here = new Set(users);
    this.#sorted = [...this.#here].filter((name) => name !== own).sort(this.#compare);
    this.#update();
  }

  /** addAll adds names that were not listed before. */
  addAll(names) {
    for (const name of names) this.#here.add(name);
    this.reset(this.#own, this.#here, this.#total);
  }

  add(name) {
    if (this.#here.has(name)) return false;
    this.#here.add(name);
    this.#sorted.splice(this.#position(name), 0, name);
    this.#update();
    return true;
  }

  remove(name) {
    if (!this.#here.delete(name)) return false;
    this.#sorted.splice(this.#position(name), 1);
    this.#update();
    return true;
  }

  set filter(text) {
    this.#filter = text.trim().toLocaleLowerCase();
    this.#list.scrollTop = 0;
    this.#update();
  }

  /** target is the person who is marked as chosen, or null. */
  set target(name) {
    this.#target = name;
    this.#schedule();
  }

  /** ignored are the names that are marked as such. */
  set ignored(names) {
    this.#ignored = new Set(names);
    this.#schedule();
  }

  /** chooseFirst takes the first person whom the filter finds. */
  chooseFirst() {
    this.#refresh();
    this.#pick(this.#shown.find((name) => name !== this.#own));
  }

  // Names that collate alike, such as a and á in some locales, still have one order.
  #compare = (a, b) => this.#order.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

  // position is where name is, or would have to be.
  #position(name) {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.#sorted[middle], name) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #update() {
    this.#changed = true;
    this.#schedule();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#refresh();
      this.#render();
    });
  }

  #refresh() {
    if (!this.#changed) return;
    this.#changed = false;
    const all = this.#here.has(this.#own) ? [this.#own, ...this.#sorted] : this.#sorted;
    const wanted = this.#filter;
    this.#shown = wanted ? all.filter((name) => name.toLocaleLowerCase().includes(wanted)) : all;
    if (!this.#here.has(this.#active)) this.#active = null;
  }

  #render() {
    const height = this.#rowHeight();
    const first = Math.max(0, Math.floor(this.#list.scrollTop / height) - OVERSCAN_ROWS);
    const end = Math.ceil((this.#list.scrollTop + this.#list.clientHeight) / height) + OVERSCAN_ROWS;
    const visible = this.#shown.slice(first, end);

    // Rows stay as long as their person is in sight: an element that is replaced under a finger loses the tap.
    const rows = new Map();
    visible.forEach((name, n) => rows.set(name, this.#place(this.#rows.get(name) ?? this.#row(name), first + n, height)));
    for (const [name, row] of this.#rows) if (!rows.has(name)) row.remove();
    this.#rows = rows;
    let before = null;
    for (const row of rows.values()) {
      const next = before ? before.nextSibling : this.#space.firstChild;
      if (next !== row) this.#space.insertBefore(row, next);
      before = row;
    }
    this.#space.style.height = `${this.#shown.length * height}px`;
    const active = this.#rows.get(this.#active);
    if (active) this.#list.setAttribute("aria-activedescendant", active.id);
    else this.#list.removeAttribute("aria-activedescendant");
  }

  #row(name) {
    const row = document.createElement("div");
    row.className = "person";
    row.id = `person-${++this.#ids}`;
    row.setAttribute("role", "option");
    row.dataset.name = name;
    const label = document.createElement("bdi");
    label.textContent = name;
    row.append(avatar(name), label);
    if (name === this.#own) {
      const you = document.createElement("span");
      you.className = "you";
      say(you, "you");
      row.append(you);
      row.setAttribute("aria-disabled", "true");
    } else {
      row.append(document.createElement("span"));
      row.lastChild.className = "you";
    }
    return row;
  }

  #place(row, index, height) {
    row.style.transform = `translateY(${index * height}px)`;
    row.setAttribute("aria-setsize", this.#shown.length);
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-selected", row.dataset.name === this.#target);
    row.classList.toggle("active", row.dataset.name === this.#active);
    if (row.dataset.name !== this.#own) say(row.lastChild, this.#ignored.has(row.dataset.name) ? "ignored" : null);
    return row;
  }

  #key(event) {
    const at = this.#shown.indexOf(this.#active);
    const page = Math.max(1, Math.floor(this.#list.clientHeight / this.#rowHeight()) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.#moveTo(at + steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.#pick(this.#active);
    else return;
    event.preventDefault();
  }

  #moveTo(index) {
    this.#refresh();
    const at = Math.min(Math.max(index, 0), this.#shown.length - 1);
    this.#active = this.#shown[at] ?? null;
    const top = at * this.#rowHeight();
    const { scrollTop, clientHeight } = this.#list;
    if (top < scrollTop) this.#list.scrollTop = top;
    else if (top + this.#rowHeight() > scrollTop + clientHeight) this.#list.scrollTop = top + this.#rowHeight() - clientHeight;
    this.#render();
  }

  #pick(name) {
    if (name != null && name !== this.#own) this.#choose(name);
  }

  #rowHeight() {
    return parseFloat(getComputedStyle(this.#list).getPropertyValue("--row"));
  }
}

/** A round picture with the first character of a name, in a colour that stays with the name. */
export function avatar(name) {
  const picture = document.createElement("span");
  picture.className = "avatar";
  picture.setAttribute("aria-hidden", "true");
  picture.textContent = String.fromCodePoint(name.codePointAt(0) ?? 0x20).toLocaleUpperCase();
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 65521;
  picture.dataset.hue = hash % HUES;
  return picture;
}
