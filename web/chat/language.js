// How a page says something: in the language that its user has chosen, and again when that is another one. Words are elsewhere: an entry is text, or a function
// that makes text of what it is given. say() remembers what an element says, so that all of them can be said again in another language.

/** Puts a name between isolates: one in a right-to-left script must not turn the sentence around. */
export const isolated = (name) => `\u2068${name}\u2069`;

const isChinese = (tag) => tag.toLowerCase().startsWith("zh");

let languages = {};
let language = "en";
const said = new WeakMap(); // element → what its text is made of

/** Has the page speak what is in the tables: {en: {key: entry}, zh: …}. */
export function speak(tables) {
  languages = tables;
}

export function t(key, given) {
  const entry = languages[language][key];
  return typeof entry === "function" ? entry(given) : entry;
}

/** Sets an element's text, and keeps it true when the language changes. Without a key the element says nothing. */
export function say(element, key, given) {
  if (key) element.dataset.t = key;
  else delete element.dataset.t;
  said.set(element, given);
  element.textContent = key ? t(key, given) : "";
}

export const currentLanguage = () => language;
export const preferredLanguage = () => (isChinese(navigator.language) ? "zh" : "en");
export const nextLanguage = () => (language === "en" ? "zh" : "en");

export function setLanguage(next) {
  language = next in languages ? next : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t, said.get(element));
  for (const element of document.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.matches("button")) element.title = t(element.dataset.tLabel);
  }
}

const DATES = {
  clock: { timeStyle: "short" },
  moment: { dateStyle: "full", timeStyle: "medium" },
  day: { weekday: "long", day: "numeric", month: "long" },
};
const formats = new Map(); // making one takes longer than a whole message

/** Writes a time as clock, moment or day, in the user's own locale as long as the page speaks their language. */
export function when(kind, time) {
  const locale = isChinese(navigator.language) === (language === "zh") ? navigator.language : language;
  const key = `${kind} ${locale}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, DATES[kind]));
  return formats.get(key).format(time);
}
