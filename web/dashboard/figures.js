// What goes on: tiles, loops and nodes, of two answers of /v1/stats.

import { say, t } from "../chat/language.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytesText(n) {
  let unit = 0;
  for (; n >= 1024 && unit < UNITS.length - 1; unit++) n /= 1024;
  return `${n.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

const rateText = (n) => (n === null ? "–" : n >= 100 || n === 0 ? Math.round(n).toLocaleString() : n.toFixed(1));

// rate is by how much a total grew in a second; null if that is not known, as where another process answers.
function rate(before, now, ...names) {
  if (!before || now.time <= before.time) return null;
  let sum = 0;
  for (const name of names) {
    if (now.totals[name] < before.totals[name]) return null;
    sum += now.totals[name] - before.totals[name];
  }
  return sum / ((now.time - before.time) / 1000);
}

/** The time within which 99 of 100 events came to their loop between two answers, as "≤ 0.5 ms"; null if none did. */
export function waitText(before, now) {
  const counts = now.waits.map(({ count }, i) => count - (before?.waits[i]?.count ?? 0));
  const total = counts.reduce((a, b) => a + b, 0);
  if (!before || total <= 0 || counts.some((n) => n < 0)) return null;
  let sum = 0;
  const at = counts.findIndex((n) => (sum += n) >= 0.99 * total);
  const bound = now.waits[at].up_to_us || now.waits[at - 1].up_to_us;
  const text = bound < 1000 ? `${bound} µs` : `${(bound / 1000).toFixed(bound < 10_000 ? 1 : 0)} ms`;
  return `${now.waits[at].up_to_us ? "≤" : ">"} ${text}`;
}

// row puts texts into a row of a table.
function row(body, texts) {
  const tr = body.insertRow();
  for (const text of texts) tr.insertCell().textContent = text;
}

function tile(list, key, text, note = "") {
  const box = document.createElement("div");
  const [name, value, small] = ["dt", "dd", "small"].map((tag) => document.createElement(tag));
  say(name, key);
  value.textContent = text;
  small.textContent = note;
  if (note) value.append(small);
  box.append(name, value);
  list.append(box);
}

export function showStats(before, now, { tiles, loops, version }) {
  tiles.replaceChildren();
  const count = (n) => n.toLocaleString();
  tile(tiles, "connections", count(now.connections));
  tile(tiles, "members", count(now.members), now.away > 0 ? t("away", { count: now.away }) : "");
  tile(tiles, "rooms", count(now.rooms));
  tile(tiles, "messages", rateText(rate(before, now, "sends")));
  tile(tiles, "requests", rateText(rate(before, now, "requests")));
  tile(tiles, "waitTile", waitText(before, now) ?? "–");
  tile(tiles, "memory", now.memory ? bytesText(now.memory) : "–", now.memory_budget ? t("ofBudget", { text: bytesText(now.memory_budget) }) : "");
  const sent = rate(before, now, "written_bytes");
  tile(tiles, "written", sent === null ? "–" : bytesText(sent));
  tile(tiles, "refusals", rateText(rate(before, now, "limited", "refused")));
  version.textContent = now.version;
  loops.replaceChildren();
  for (const [i, loop] of now.loops.entries()) {
    row(loops, [i, count(loop.connections), count(loop.slow), `${loop.delay_ms.toFixed(1)} ms`, bytesText(loop.backlog)]);
  }
}

export function showNodes({ nodes, asked }, { fleet, body }) {
  fleet.hidden = nodes.length === 0;
  body.replaceChildren();
  for (const node of nodes) {
    row(body, [node.name === asked ? `${node.name} *` : node.name, node.state, node.roles.join(", "), node.sessions.toLocaleString(), node.owns, node.follows]);
  }
}
