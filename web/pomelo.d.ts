/** Types of pomelo.js, a client of Pomelo's hybrid connector for browsers and Node.js 18 or later. */

/** The address of a server, as a gate tells it. */
export interface Address {
  host: string;
  port: number;
}

/** What the handshake sends as `user`. An application may add what it likes. */
export interface HandshakeUser {
  /**
   * A string of 16 to 128 bytes of UTF-8 that only this client knows; see `newSecret`. A session that enters a room under a name that an older
   * session with the same secret still holds takes the older one's place, and nobody else notices. Keep it for as
   * long as the client is the same one: a page keeps it in `sessionStorage`.
   */
  secret?: string;
  [member: string]: unknown;
}

export interface InitOptions {
  /** The host of the connector. Not needed with `gate`. */
  host?: string;
  /** The port of the connector; without one the default of the scheme. */
  port?: number;
  /** Asks this gate by HTTP for a connector, at first and before each return, for example `http://127.0.0.1:3014`. */
  gate?: string;
  /** For whom the gate is asked. The gate sends the same uid to the same connector. */
  uid?: string;
  /** `wss:` instead of `ws:`. By default what suits the page: true on `https:`. */
  secure?: boolean;
  /** Sent with the handshake. */
  user?: HandshakeUser;
  /**
   * Asks the server for places and times with each push, so that `reenter` can return without a gap (docs/PROTOCOL.md). A server that does not
   * know of this answers as ever; see `Pomelo.extended`. Bodies are JSON then, without protobuf.
   */
  extended?: boolean;
  /** Called with the `user` member of the server's handshake, after each handshake. */
  handshakeCallback?: (user: any) => void;
  /** Return by itself after a cut. By default true if there is an `onReturn`, or `enter` was used. */
  reconnect?: boolean;
  /** How many attempts to return in a row before it gives up with the event `error`. By default without end. */
  maxReconnectAttempts?: number;
  /**
   * Called after each handshake that follows a cut: the place to enter the room again. Without it the client calls `reenter` by itself, if `enter` was used. While it runs, requests work already.
   * If it throws or rejects, the attempt has failed and the next one follows.
   */
  onReturn?: (pomelo: Pomelo) => unknown;
  /**
   * Whether to return after a kick. By default only after those with which pomelod asks for it ("messages were lost; please
   * enter again", and others that end so); never return after `REPLACED`, or two clients with one secret push each other out without end.
   */
  returnAfterKick?: (reason: string) => boolean;
  /**
   * The WebSocket class. By default the global one, which Node.js has from version 22 on; where there is none, `init` fails with
   * `UNSUPPORTED`.
   */
  WebSocket?: new (url: string) => any;
  /**
   * Where dictionary and protobuf definitions are kept from one visit to the next, by server. By default the page's
   * `localStorage`; without any, each handshake carries them.
   */
  storage?: Pick<Storage, "getItem" | "setItem">;
}

/** A close event of the WebSocket, or an object like it when the client itself ended the connection. */
export interface CloseLike {
  code: number;
  reason: string;
  wasClean: boolean;
}

/**
 * The events of the client itself. Every other event is a push, with its route as name and its body as argument.
 *
 * The order after a cut: `close` and `disconnect`; then for each attempt `returning` and, once a socket is open, `reconnect`; at
 * last `returned`. A `disconnect()` of one's own also tells `close` and `disconnect`.
 */
export interface PomeloEvents {
  /** The connection has ended. */
  close: CloseLike;
  /** The same as `close`. */
  disconnect: CloseLike;
  /** The WebSocket failed. `close` follows. */
  "io-error": any;
  /** The server refused the handshake (`REFUSED`), sent what cannot be read (`MALFORMED`), or the return was given up (`UNREACHABLE`). */
  error: PomeloError;
  /** The server has fallen silent. `close` follows. */
  "heartbeat timeout": undefined;
  /** The server ended the session, with a reason. `close` follows. */
  onKick: { reason: string };
  /** The next attempt to return is made after `delay` milliseconds. The first is attempt 1. */
  returning: { attempt: number; delay: number };
  /** An attempt to return has opened a socket. */
  reconnect: undefined;
  /** The client is back, and `onReturn` has finished; or the client has entered its room again by itself, and this is the answer. */
  returned: EnterAnswer | undefined;
}

/** A place in a room. */
export interface Place {
  username: string;
  rid: string;
  /** Of the room, where a program has given it one. */
  password?: string;
}

/** What an enter is answered. `users` is there when it was not refused. */
export interface EnterAnswer {
  users?: string[];
  /** In a large room, where nobody is told who comes and goes: how many are there. `users` are the newest 200 of them. */
  count?: number;
  /** With `count`: whether there are others than `users`. */
  more?: boolean;
  /** How far the room's stream has come; to extended clients. */
  seq?: string;
  /** To `reenter` of an extended client: with the pushes that follow, every `onChat` since the last push that was told. */
  complete?: boolean;
  /** The server's answer was not complete, but `history` had all that was missing. */
  rest?: boolean;
  code?: number;
  reason?: string;
  [member: string]: unknown;
}

/** What `history` is answered. `messages` is there when it was not refused. */
export interface HistoryAnswer {
  messages?: { msg: any; from: string; target: string; seq: string; time: number }[];
  /** Whether there are older ones. */
  more?: boolean;
  code?: number;
  reason?: string;
}

/** What `members` is answered. `users` is there when it was not refused. */
export interface MembersAnswer {
  users?: string[];
  /** How many are in the room. */
  count?: number;
  /** What to give as `after` for the next page; absent on the last one. */
  next?: string;
  code?: number;
  reason?: string;
}

type Listener<T> = (argument: T) => void;

/** A client. It has one connection at a time. */
export class Pomelo {
  /** True from handshake to the end of the connection. */
  readonly connected: boolean;

  /**
   * Connects and shakes hands; an older connection of this client ends. The promise resolves with the `user` member of the
   * server's handshake and rejects with a `PomeloError`: automatic return begins only after a first success.
   */
  init(options: InitOptions): Promise<any>;
  /** The same with a callback, which is called after each handshake, also those of a return, with the WebSocket. */
  init(options: InitOptions, callback: (socket: any) => void): void;

  /** Sends a request and calls back with the answer, or not at all: listen to `disconnect` for cuts. */
  request<T = any>(route: string, callback: (body: T) => void): void;
  request<T = any>(route: string, message: object | undefined, callback: (body: T) => void): void;
  /**
   * Sends a request. The promise resolves with the body of the answer, whatever `code` it has, before pushes that came after the
   * answer are told; it rejects with a `PomeloError` when there is no connection, or the connection ends before the answer.
   */
  request<T = any>(route: string, message?: object): Promise<T>;

  /** Sends a message that is not answered. False when there is no connection. */
  notify(route: string, message?: object): boolean;

  /** Whether the server has taken this client for an extended one. */
  readonly extended: boolean;

  /**
   * Enters a room (`connector.entryHandler.enter`), and remembers it for `reenter`. To an extended client the last `history` messages that it
   * may read follow as `onChat`, oldest first, before anything that is said later; they have a smaller number than the answer's `seq`.
   */
  enter(place: Place & { history?: number }): Promise<EnterAnswer>;

  /**
   * Enters the room of the last `enter` again. To an extended client everything follows that was said there since the last push that was told,
   * once and in order; or `complete` is false. What is too much to follow the server's answer is read by up to ten pages of `history` first, and what comes
   * meanwhile waits. Give a `secret` in `user`, or the name may be taken until the server has noticed the cut.
   */
  reenter(): Promise<EnterAnswer>;

  /**
   * Asks what was said in the room before a place in its stream, or the newest: at most `limit` (50, at most 200) messages, oldest first. A page costs
   * what an enter costs, and one more for each 16 KiB.
   */
  history(page?: { rid?: string; before?: string; limit?: number }): Promise<HistoryAnswer>;

  /**
   * Asks who is in the room, by pages, in the order in which they entered: at most `limit` (200, at most 500) of those behind `after`. Who stays while all pages
   * are read is told exactly once. A page costs what an enter costs.
   */
  members(page?: { rid?: string; after?: string; limit?: number }): Promise<MembersAnswer>;

  /** Ends the connection and every attempt to return. */
  disconnect(): void;

  /** Ends the wait before the next attempt to return. The client does so itself when the page is seen again, or the network is back. */
  returnNow(): void;

  on<E extends keyof PomeloEvents>(event: E, listener: Listener<PomeloEvents[E]>): this;
  on(route: string, listener: Listener<any>): this;
  once<E extends keyof PomeloEvents>(event: E, listener: Listener<PomeloEvents[E]>): this;
  once(route: string, listener: Listener<any>): this;
  /** Without a listener: removes all of the event. */
  off(event: string, listener?: Listener<any>): this;
  removeListener(event: string, listener?: Listener<any>): this;
  /** Calls the listeners; false when there are none. */
  emit(event: string, argument?: unknown): boolean;
}

/** The client of programs that need only one. */
export const pomelo: Pomelo;
export default pomelo;

/**
 * - `UNREACHABLE`: gate or connector do not answer, or the connection ended before the handshake.
 * - `REFUSED`: the gate answered with another code than 200, or the server refused the handshake.
 * - `NOT_CONNECTED`: a request without a connection.
 * - `CLOSED`: the connection ended before the answer, so nobody knows whether the server acted on the request; or `disconnect` was called.
 * - `MALFORMED`: the server sent what cannot be read.
 * - `UNSUPPORTED`: the runtime lacks what the client needs; the message says what to do. `init` with a callback throws it.
 */
export class PomeloError extends Error {
  readonly name: "PomeloError";
  readonly code: "UNREACHABLE" | "REFUSED" | "NOT_CONNECTED" | "CLOSED" | "MALFORMED" | "UNSUPPORTED";
  readonly cause?: unknown;
}

/** The reason of the kick that tells: a new session with the same secret took this one's place. Do not return after it. */
export const REPLACED: string;

/** A new secret for `HandshakeUser.secret`. Needs a global `crypto`: every browser, Node.js from version 20 on; else throws `UNSUPPORTED`. */
export function newSecret(): string;

/** Asks a gate by HTTP which connector takes `uid`. */
export function queryEntry(gate: string, uid: string, options?: { signal?: AbortSignal }): Promise<Address>;

/** Parsed protobuf definitions by route, as a handshake carries them. */
export type Protos = Record<string, any>;

/** Pomelo's protobuf, as `request`, `notify` and pushes use it. Both throw when a body does not fit the definition of its route. */
export const protobuf: {
  encode(protos: Protos, route: string, message: object): Uint8Array;
  decode(protos: Protos, route: string, bytes: Uint8Array): any;
};
