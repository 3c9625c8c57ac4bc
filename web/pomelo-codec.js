/**
 * The bytes of Pomelo's hybrid connector: packages, messages, protobuf. No socket, no clock, no state.
 * pomelo.js is the client that uses it. MIT licence, like pomelod.
 */

// ---- The wire: packages in WebSocket frames, messages in packages -------------------------------------------------
//
//   package   type (1) | length of the body (3, big-endian) | body
//   message   flag (1) | id (request, response) | route (not in a response) | body
//   flag      bit 0: the route is a code of the dictionary | bits 1..3: kind | bit 4: gzip, which no server uses

export const HANDSHAKE = 1;
export const HANDSHAKE_ACK = 2;
export const HEARTBEAT = 3;
export const DATA = 4;
export const KICK = 5;

const REQUEST = 0;
const NOTIFY = 1;
const RESPONSE = 2;
const PUSH = 3;

const HEAD_BYTES = 4;
const MAX_BODY = 2 ** 24 - 1;
const MAX_ROUTE = 255;
const NOTHING = new Uint8Array(0);

const toBytes = (text) => new TextEncoder().encode(text);
const toText = (bytes) => new TextDecoder().decode(bytes);
export const toJSON = (value) => toBytes(JSON.stringify(value));
export const fromJSON = (bytes) => JSON.parse(toText(bytes));

export function encodePackage(type, body = NOTHING) {
  if (body.length > MAX_BODY) throw new RangeError(`a message of ${body.length} bytes does not fit into a package`);
  const bytes = new Uint8Array(HEAD_BYTES + body.length);
  bytes.set([type, body.length >> 16, body.length >> 8, body.length]);
  bytes.set(body, HEAD_BYTES);
  return bytes;
}

// A frame holds one package or several.
export function decodePackages(bytes) {
  const packages = [];
  for (let at = 0; at < bytes.length; ) {
    const start = at + HEAD_BYTES;
    const end = start + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]);
    if (!(end <= bytes.length)) throw new RangeError("a frame ends within a package");
    packages.push({ type: bytes[at], body: bytes.subarray(start, end) });
    at = end;
  }
  return packages;
}

export function encodeMessage(id, route, code, body) {
  const kind = id ? REQUEST : NOTIFY;
  const writer = new Writer();
  writer.byte((kind << 1) | (code ? 1 : 0));
  if (id) writer.varint(id);
  if (code) {
    writer.byte(code >> 8);
    writer.byte(code);
  } else {
    const text = toBytes(route);
    if (text.length > MAX_ROUTE) throw new RangeError(`a route has at most ${MAX_ROUTE} bytes: ${route}`);
    writer.byte(text.length);
    writer.append(text);
  }
  writer.append(body);
  return writer.bytes();
}

export function decodeMessage(bytes) {
  const reader = new Reader(bytes);
  const flag = reader.byte();
  const kind = (flag >> 1) & 7;
  if (flag & 16) throw new Error("a message is compressed");
  if (kind === RESPONSE) return { id: reader.varint(), body: reader.rest() };
  if (kind !== PUSH) throw new Error(`a server does not send messages of kind ${kind}`);
  if (flag & 1) return { id: 0, code: (reader.byte() << 8) | reader.byte(), body: reader.rest() };
  return { id: 0, route: toText(reader.take(reader.byte())), body: reader.rest() };
}

// Numbers beyond 32 bits travel too, so varints are taken apart by division, not by shifts.
class Writer {
  #bytes = new Uint8Array(64);
  length = 0;

  byte(b) {
    this.#room(1)[this.length++] = b;
  }

  varint(n) {
    for (; n > 127; n = Math.floor(n / 128)) this.byte((n % 128) | 128);
    this.byte(n);
  }

  append(bytes) {
    this.#room(bytes.length).set(bytes, this.length);
    this.length += bytes.length;
  }

  float(n, size) {
    const view = new DataView(new ArrayBuffer(size));
    if (size === 4) view.setFloat32(0, n, true);
    else view.setFloat64(0, n, true);
    this.append(new Uint8Array(view.buffer));
  }

  bytes() {
    return this.#bytes.subarray(0, this.length);
  }

  #room(more) {
    if (this.length + more > this.#bytes.length) {
      const larger = new Uint8Array(2 * (this.length + more));
      larger.set(this.bytes());
      this.#bytes = larger;
    }
    return this.#bytes;
  }
}

class Reader {
  #bytes;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  get done() {
    return this.#at >= this.#bytes.length;
  }

  byte() {
    return this.take(1)[0];
  }

  varint() {
    let n = 0;
    for (let unit = 1; ; unit *= 128) {
      const b = this.byte();
      n += (b & 127) * unit;
      if (b < 128) return n;
    }
  }

  take(length) {
    const start = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new RangeError("a body ends too early");
    return this.#bytes.subarray(start, this.#at);
  }

  rest() {
    return this.take(this.#bytes.length - this.#at);
  }

  float(size) {
    const { buffer, byteOffset } = this.take(size);
    const view = new DataView(buffer, byteOffset, size);
    return size === 4 ? view.getFloat32(0, true) : view.getFloat64(0, true);
  }
}

// ---- Protobuf as Pomelo has it -------------------------------------------------------------------------------------
//
// The bytes look like Google's, the rules differ: fields go in the order of the object's keys, every signed integer is
// zigzag, repeated numbers are one field headed by a count, and a reader goes by the definition, never by the wire type.

const integer = (value) => {
  const n = Math.trunc(Number(value));
  if (!Number.isSafeInteger(n)) throw new TypeError(`not an integer: ${value}`);
  return n;
};

const unsigned = {
  wire: 0,
  write(writer, value) {
    const n = integer(value);
    if (n < 0) throw new RangeError(`not an unsigned integer: ${value}`);
    writer.varint(n);
  },
  read: (reader) => reader.varint(),
};

const signed = {
  wire: 0,
  write(writer, value) {
    const n = integer(value);
    writer.varint(n < 0 ? -2 * n - 1 : 2 * n);
  },
  read(reader) {
    const n = reader.varint();
    return n % 2 ? -(n + 1) / 2 : n / 2;
  },
};

const real = (wire, size) => ({
  wire,
  write: (writer, value) => writer.float(Number(value), size),
  read: (reader) => reader.float(size),
});

const NUMBERS = new Map([
  ["uInt32", unsigned], ["uInt64", unsigned],
  ["int32", signed], ["sInt32", signed], ["sInt64", signed],
  ["float", real(5, 4)], ["double", real(1, 8)],
]);

const TEXT_OR_MESSAGE = 2; // wire type

export const own = (object, key) => (object && Object.hasOwn(object, key) ? object[key] : undefined);

/** The codec, with definitions in the parsed form in which a handshake carries them. */
export const protobuf = {
  encode(protos, route, message) {
    const writer = new Writer();
    writeFields(writer, definition(route, protos), message, protos);
    return writer.bytes();
  },

  decode(protos, route, bytes) {
    return readFields(new Reader(bytes), definition(route, protos), protos);
  },
};

function definition(name, protos) {
  const found = own(protos, name);
  if (!found) throw new TypeError(`no definition of ${name}`);
  return found;
}

const inner = (type, enclosing, protos) =>
  own(enclosing.__messages, type) ?? definition(`message ${type}`, protos);

function writeFields(writer, def, message, protos) {
  for (const [name, field] of Object.entries(def)) {
    if (field.option === "required" && message[name] == null) throw new TypeError(`required field is missing: ${name}`);
  }
  for (const [name, value] of Object.entries(message)) {
    const field = name.startsWith("__") ? undefined : own(def, name);
    if (!field || value == null) continue;
    if (field.option === "repeated" && !Array.isArray(value)) throw new TypeError(`not a list: ${name}`);
    const number = NUMBERS.get(field.type);
    const head = field.tag * 8 + (number?.wire ?? TEXT_OR_MESSAGE);
    if (field.option !== "repeated") {
      writer.varint(head);
      writeValue(writer, number, field.type, value, def, protos);
    } else if (!number) {
      for (const element of value) {
        writer.varint(head);
        writeValue(writer, number, field.type, element, def, protos);
      }
    } else if (value.length > 0) {
      writer.varint(head);
      writer.varint(value.length);
      for (const element of value) number.write(writer, element);
    }
  }
}

function writeValue(writer, number, type, value, enclosing, protos) {
  if (number) return number.write(writer, value);
  let bytes;
  if (type === "string") {
    bytes = toBytes(typeof value === "object" ? JSON.stringify(value) : String(value));
  } else {
    const part = new Writer();
    writeFields(part, inner(type, enclosing, protos), value, protos);
    bytes = part.bytes();
  }
  writer.varint(bytes.length);
  writer.append(bytes);
}

function readFields(reader, def, protos) {
  const message = {};
  while (!reader.done) {
    const name = own(def.__tags, Math.floor(reader.varint() / 8));
    if (name === undefined) throw new TypeError("a field has an unknown tag");
    const field = def[name];
    const number = NUMBERS.get(field.type);
    if (field.option !== "repeated") {
      message[name] = readValue(reader, number, field.type, def, protos);
      continue;
    }
    const list = (message[name] ??= []);
    for (let left = number ? reader.varint() : 1; left > 0; left--) {
      list.push(readValue(reader, number, field.type, def, protos));
    }
  }
  return message;
}

function readValue(reader, number, type, enclosing, protos) {
  if (number) return number.read(reader);
  const bytes = reader.take(reader.varint());
  return type === "string" ? toText(bytes) : readFields(new Reader(bytes), inner(type, enclosing, protos), protos);
}
