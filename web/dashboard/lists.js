// Lists that are shown by pages, and names as they are: whoever chose them may have meant to deceive.

import { isolated, say, t } from "../chat/language.js";

// What is not shown, or turns the text around: Unicode's others (controls, formats, surrogates, private ones), what it lets programs ignore, separators but for the
// blank, fillers, and blanks at an end or before another one.
const UNSEEN = /([\p{C}\p{DI}\p{Zl}\p{Zp}\u00a0\u2000-\u200a\u202f\u205f\u2800\u3000]|^ | $| (?= ))/u;

const numberOf = (unseen) => `U+${unseen.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** What nameOf shows, as text within a sentence. */
export const spelt = (text) => isolated(text.split(UNSEEN).map((part, i) => (i % 2 === 0 ? part : numberOf(part))).join(""));

/** An element that shows a name: it cannot turn the text around it, and what cannot be seen in it is written as a number. */
export function nameOf(text) {
  const name = document.createElement("bdi");
  for (const [i, part] of text.split(UNSEEN).entries()) {
    if (i % 2 === 0) {
      name.append(part);
      continue;
    }
    const unseen = document.createElement("span");
    unseen.className = "unseen";
    unseen.textContent = numberOf(part);
    name.append(unseen);
  }
  return name;
}

/** A button that says a key; what it is about stands beside it, so those who do not see hear both. */
export function button(key, about, pressed) {
  const b = document.createElement("button");
  b.type = "button";
  say(b, key);
  b.setAttribute("aria-label", `${t(key)} ${about}`.trim());
  b.addEventListener("click", pressed);
  return b;
}

/** A row: what it is called, an element or text; facts, elements and texts; buttons. */
export function rowOf(title, facts, buttons) {
  const row = document.createElement("li");
  const what = document.createElement("span");
  what.className = "what";
  const line = document.createElement("span");
  line.className = "facts";
  for (const [i, fact] of facts.filter(Boolean).entries()) line.append(i > 0 ? " · " : "", fact);
  title.classList.add("name");
  what.append(title, line);
  row.append(what, ...buttons);
  return row;
}

/** A list that is read by pages: read(after) resolves to {items, next}, and row(item) makes an element of one. */
export class Pages {
  #list;
  #read;
  #row;
  #reading = 0; // counts begun readings: an older one shows nothing any more

  constructor(list, read, row) {
    this.#list = list;
    this.#read = read;
    this.#row = row;
  }

  /** Shows the first page anew. */
  async show() {
    await this.#page(undefined);
  }

  async #page(after) {
    const reading = ++this.#reading;
    const { items, next } = await this.#read(after);
    if (reading !== this.#reading) return;
    if (after === undefined) this.#list.replaceChildren();
    else this.#list.lastElementChild?.remove(); // the button
    const first = items.map((item) => this.#list.appendChild(this.#row(item)))[0];
    if (after !== undefined) first?.querySelector("a, button")?.focus();
    if (next) this.#list.append(this.#moreRow(next));
    else if (!this.#list.firstChild) this.#list.append(rowOf(said("nothing"), [], []));
  }

  #moreRow(next) {
    const row = document.createElement("li");
    row.append(button("more", "", () => this.#page(next).catch((error) => this.#list.dispatchEvent(new CustomEvent("trouble", { bubbles: true, detail: error })))));
    return row;
  }
}

/** An element that says a key. */
export function said(key, given) {
  const element = document.createElement("span");
  say(element, key, given);
  return element;
}
