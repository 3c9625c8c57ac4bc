// What tells of messages when nobody looks at the page: the count in its title, a sound, and pop-ups where the browser
// allows them, which is on https and on localhost.

const BODY_CHARACTERS = 200;
const NOTES_HZ = [659, 880];
const NOTE_S = 0.12;
const QUIET_MS = 3_000; // between sounds, however much is said

export class Alerts {
  #unread = 0;
  #title = "";
  #audio = null;
  #worker = null; // the service worker's registration, on browsers that need one
  #shown = new Map(); // pop-ups by tag
  #chimed = 0;
  sound = true;
  popups = false;

  constructor() {
    document.addEventListener("visibilitychange", () => document.hidden || this.seen());
    addEventListener("focus", () => this.seen());
    // A browser lets a page make sounds only once the user has touched it.
    for (const gesture of ["click", "keydown"]) addEventListener(gesture, () => this.#unlock(), { once: true });
  }

  set title(text) {
    this.#title = text;
    this.#showTitle();
  }

  /** popupsAllowed is "granted", "denied", "default" (the user was not asked yet) or "insecure". */
  get popupsAllowed() {
    return window.isSecureContext && "Notification" in window ? Notification.permission : "insecure";
  }

  /** askForPopups must be called in the handler of a click. */
  async askForPopups() {
    if (this.popupsAllowed === "default") await Notification.requestPermission();
    return this.popupsAllowed;
  }

  /** message counts one more and tells, unless somebody is looking. */
  message({ from, text, room }) {
    if (!document.hidden && document.hasFocus()) return;
    this.#unread++;
    this.#showTitle();
    if (this.sound) this.#chime();
    if (this.popups && this.popupsAllowed === "granted") this.#popUp(from, text, room);
  }

  seen() {
    this.#unread = 0;
    this.#showTitle();
    for (const popup of this.#shown.values()) popup.close();
    this.#shown.clear();
    this.#worker?.getNotifications().then((popups) => popups.forEach((popup) => popup.close()));
  }

  #showTitle() {
    document.title = this.#unread > 0 ? `(${this.#unread}) ${this.#title}` : this.#title;
  }

  // One pop-up a person: a later message takes the place of the earlier.
  async #popUp(from, text, room) {
    const options = { body: text.slice(0, BODY_CHARACTERS), tag: `${room}*${from}`, renotify: true, icon: "favicon.svg", silent: true };
    try {
      const popup = new Notification(from, options);
      popup.onclick = () => {
        window.focus();
        popup.close();
      };
      this.#shown.set(options.tag, popup);
    } catch {
      // Browsers of phones take pop-ups from a service worker only.
      this.#worker ??= await registerWorker();
      await this.#worker?.showNotification(from, options);
    }
  }

  #unlock() {
    this.#audio ??= window.AudioContext && new AudioContext();
    this.#audio?.resume();
  }

  #chime() {
    if (this.#audio?.state !== "running" || Date.now() - this.#chimed < QUIET_MS) return;
    this.#chimed = Date.now();
    NOTES_HZ.forEach((frequency, n) => {
      const start = this.#audio.currentTime + n * NOTE_S;
      const loudness = new GainNode(this.#audio, { gain: 0 });
      loudness.gain.setValueAtTime(0, start);
      loudness.gain.linearRampToValueAtTime(0.15, start + 0.01);
      loudness.gain.exponentialRampToValueAtTime(0.001, start + 2 * NOTE_S);
      loudness.connect(this.#audio.destination);
      const tone = new OscillatorNode(this.#audio, { frequency });
      tone.connect(loudness);
      tone.start(start);
      tone.stop(start + 2 * NOTE_S);
    });
  }
}

// The page's policy lets no text become a script's address but through this one, which is always the same.
const workerAddress = window.trustedTypes
  ? trustedTypes.createPolicy("chat-worker", { createScriptURL: () => "worker.js" }).createScriptURL("")
  : "worker.js";

async function registerWorker() {
  try {
    await navigator.serviceWorker.register(workerAddress);
    return await navigator.serviceWorker.ready;
  } catch {
    return null; // not there, or not allowed here: title and sound tell
  }
}
