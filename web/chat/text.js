// What a message is made of: links, the reader's own name, and the rest. No DOM here, so that it can be tried without a browser.

const LINK = /https?:\/\/[^\s\p{C}<>"'`，。；：！？、（）《》「」『』【】“”‘’]+/giu;
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]/u; // words of these have no blanks between them

/** partsOf cuts text into {kind, text}: "link" with its href, "mention" of name (none if that is empty), and "text". Together their texts are the text. */
export function partsOf(text, name) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    const shown = withoutEnd(match[0]);
    const href = addressIn(shown);
    if (!href) continue;
    mentions(text.slice(from, match.index), name, parts);
    parts.push({ kind: "link", text: shown, href });
    from = match.index + shown.length;
  }
  mentions(text.slice(from), name, parts);
  return parts;
}

function addressIn(text) {
  try {
    const { href, host } = new URL(text);
    return host && href;
  } catch {
    return null;
  }
}

// withoutEnd leaves out what ends the sentence around a link, and a bracket that was opened before it.
function withoutEnd(text) {
  for (;;) {
    const last = text.at(-1);
    const opener = { ")": "(", "]": "[" }[last];
    if (opener ? text.split(opener).length >= text.split(last).length : !".,;:!?*_~…".includes(last)) return text;
    text = text.slice(0, -1);
  }
}

function mentions(text, name, parts) {
  let from = 0;
  const add = (kind, end) => {
    if (end > from) parts.push({ kind, text: text.slice(from, end) });
    from = end;
  };
  if (name) {
    for (const match of text.matchAll(patternOf(name))) {
      add("text", match.index);
      add("mention", match.index + match[0].length);
    }
  }
  add("text", text.length);
}

// A name is a word of its own; of one in a script without blanks two characters are enough.
function patternOf(name) {
  const escaped = name.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  if (UNSPACED.test(name) && [...name].length > 1) return new RegExp(`@?${escaped}`, "giu");
  return new RegExp(`(?<![\\p{L}\\p{N}_@])@?${escaped}(?![\\p{L}\\p{N}_])`, "giu");
}
