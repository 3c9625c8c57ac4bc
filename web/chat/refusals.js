// What the server answers when it says no, and what the page then says: a key of i18n.js for each reason.

const REASONS = {
  // entering
  room_members: "roomFull",
  rooms: "roomsFull",
  memory: "serverFull",
  enter_rate: "enterTooFast",
  member_rate: "enterTooFast",
  name: "nameUnfit",
  name_alike: "nameAlike",
  reserved: "nameReserved",
  ban: "banned",
  room_locked: "locked",
  password: "passwordNeeded",
  login: "loginNotHere",
  sessions: "sessions",
  // reading the list of a large room
  cursor: "notListed",
  // sending
  slow_mode: "slowMode",
  mute: "muted",
  filter: "filtered",
  history: "notWritten",
  // both
  session_rate: "tooFast",
  send_rate: "tooFast",
  route_rate: "tooFast",
  package_rate: "tooFast",
};

const LOGIN_NEEDED = 401;

/** Refusal is an answer that says no, and what it was about: {name, room}. */
export class Refusal extends Error {
  /** key and given say it, as in say(). */
  key;
  given;

  // unexplained is the key for an answer that is what Pomelo itself answers: no reason, and no code of its own.
  constructor(answer, about, unexplained) {
    const { code, reason } = answer;
    super(`code ${code}, reason ${reason}`);
    this.given = { ...answer, ...about };
    if (typeof reason === "string" && reason) this.key = Object.hasOwn(REASONS, reason) ? REASONS[reason] : "otherReason";
    else if (code === LOGIN_NEEDED) this.key = "login";
    else this.key = code === 500 ? unexplained : "noReason";
  }
}
