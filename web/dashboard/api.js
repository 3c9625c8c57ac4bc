// How the page asks the server (docs/ADMIN.md), and with what token. By a unix socket, as `ssh -L` forwards it, none is needed.

const KEPT = "pomelod admin token"; // in sessionStorage: the tab's alone, and gone with it

/** A refusal of the server's. status 0: it has not answered. */
export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let token = kept();

/** Uses the token behind the # of the address, where pomelod dashboard puts it, if there is one. It is taken out of there at once. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  history.replaceState(null, "", location.pathname);
  useToken(given);
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null; // forbidden
  }
}

function keep(given) {
  try {
    sessionStorage.setItem(KEPT, given);
  } catch {
    // forbidden: it is asked for again
  }
}

export function useToken(given) {
  token = given;
  keep(given);
}

async function request(path, options) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let answer;
  try {
    response = await fetch(`../v1/${path}`, { ...options, headers, credentials: "omit", redirect: "error" });
    answer = await response.json();
  } catch (error) {
    throw new Refusal(response && !response.ok ? response.status : 0, error.message);
  }
  if (!response.ok) throw new Refusal(response.status, answer.error ?? response.statusText);
  return answer;
}

/** Asks; given is the query, of which what is empty is left out. */
export function ask(what, given = {}) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  return request(`${what}?${query}`, {});
}

/** Has the server do something. What is empty in body is left out. */
export function tell(what, body) {
  const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value));
  return request(what, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) });
}

/** Has this hold from now on; given is the query. */
export function put(what, given, body) {
  return request(`${what}?${new URLSearchParams(given)}`, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}
