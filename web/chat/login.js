// Who the visitor is, where the server wants to know that: a token, and the way to where one is given.

/**
 * The token in the page's address, `#token=…` and perhaps `&name=…`; null if there is none. Browsers send what stands behind the # to no server and in no
 * Referer. It is taken out of the address at once, so that nobody copies it along, and the history does not keep it.
 */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (!token) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return { token, name: given.get("name") ?? subjectOf(token) };
}

// subjectOf is the name in a JSON web token, which the server will verify; null if it is no such token, or says it elsewhere.
function subjectOf(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const { sub } = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0))));
    return typeof sub === "string" ? sub : null;
  } catch {
    return null;
  }
}

/**
 * Where visitors get a token, as the operator has it (`-login-url`), with this page's address to come back to in the query member `return`; null if the
 * operator has not said. Nothing in the page's own address changes where that is.
 */
export function loginAddress() {
  const place = document.querySelector('meta[name="login-url"]').content;
  if (!place) return null;
  const address = new URL(place);
  address.searchParams.set("return", location.origin + location.pathname + location.search);
  return address.href;
}
