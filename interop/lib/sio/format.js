'use strict';

// The string a page of the socket.io connector sends: four characters of message id, one of route length, the route,
// and JSON. It is a string, not bytes: lengths count UTF-16 code units, and a header character may be anything up to
// U+00FF.

const MAX_ROUTE = 255;

// encode takes the body as JSON text, so that a test may send what is none.
function encode(id, route, json) {
  if (route.length > MAX_ROUTE) throw new Error(`a route of ${route.length} code units`);
  const head = String.fromCharCode((id >>> 24) & 0xff, (id >>> 16) & 0xff, (id >>> 8) & 0xff, id & 0xff, route.length);
  return head + route + json;
}

module.exports = { encode };
