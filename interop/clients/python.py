"""Plays Python's clients for the interop tests: python-socketio on python-engineio, and a hybrid client on websocket-client.

Commands and events are lines of JSON, as lib/foreign.js says. Bodies are read by the json module, which is told to be strict:
equal keys, a number beyond a double, or bytes that are no UTF-8 end the program, and so fail the test.
"""

import json
import os
import socket
import struct
import sys
import threading
import traceback

import engineio
import socketio
import websocket

HANDSHAKE, ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5
REQUEST, NOTIFY, RESPONSE, PUSH = 0, 1, 2, 3

telling = threading.Lock()


def tell(event, client, **more):
    with telling:
        print(json.dumps({"event": event, "client": client.number, **more}), flush=True)


def no_equal_keys(pairs):
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"equal keys: {pairs}")
    return members


def finite(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"beyond a double: {text}")
    return value


def no_constant(text):
    raise ValueError(f"not JSON: {text}")


def strict(text):
    if isinstance(text, (bytes, bytearray)):
        text = text.decode("utf-8")
    value = json.loads(text, object_pairs_hook=no_equal_keys, parse_float=finite, parse_constant=no_constant)
    return value


def fatal():
    """A fault in the server, or here: the whole program ends, and says why."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


class Hybrid:
    """A hybrid client on websocket-client, which asks for the subprotocol "pomelo" and sends the server's own origin."""

    def __init__(self, number):
        self.number = number
        self.sending = threading.Lock()
        self.last_id = 0
        self.waiting = {}
        self.timer = None
        self.is_frozen = False

    def connect(self, host, port, **_):
        url = f"ws://{host}:{port}/"
        self.ws = websocket.create_connection(url, timeout=10, subprotocols=["pomelo"])
        if self.ws.getsubprotocol() != "pomelo":
            raise ValueError(f"subprotocol {self.ws.getsubprotocol()}")
        self.ws.settimeout(None)
        self.send(HANDSHAKE, json.dumps({"sys": {"type": "python", "version": "1.0"}, "user": {}}).encode())
        kind, body = self.package(self.ws.recv())
        answer = strict(body)
        if kind != HANDSHAKE or answer["code"] != 200:
            raise ValueError(f"handshake: {kind} {answer}")
        settings = answer["sys"]
        self.interval = settings.get("heartbeat", 0)
        self.code_of = settings.get("routeToCode", {})
        self.route_of = {int(code): route for code, route in settings.get("codeToRoute", {}).items()}
        self.protos = settings.get("protos", {}).get("server", {})
        self.send(ACK)
        threading.Thread(target=self.read, daemon=True).start()

    def send(self, kind, body=b""):
        self.write(self.ws_frame(kind, body))

    def write(self, frames):
        with self.sending:
            try:
                self.ws.sock.sendall(frames)
            except (OSError, AttributeError):
                pass  # the reader sees it as well

    def ws_frame(self, kind, body):
        package = struct.pack(">B", kind) + struct.pack(">I", len(body))[1:] + body
        return websocket.ABNF.create_frame(package, websocket.ABNF.OPCODE_BINARY).format()

    def package(self, frame):
        if not frame:
            raise ConnectionError("closed")
        kind, length = frame[0], int.from_bytes(frame[1:4], "big")
        if length != len(frame) - 4:
            raise ValueError(f"a frame of {len(frame)} bytes with a package of {length}")
        return kind, frame[4:]

    def read(self):
        reason = "closed"
        try:
            while True:
                kind, body = self.package(self.ws.recv())
                self.received(kind, body)
        except (OSError, websocket.WebSocketException) as err:
            reason = repr(err)
        except Exception:
            fatal()
        self.freeze()
        self.ws.shutdown()
        tell("closed", self, reason=reason)

    def received(self, kind, body):
        if kind == HEARTBEAT:
            tell("heartbeat", self)
            if self.interval and not self.is_frozen:
                self.timer = threading.Timer(self.interval, self.send, [HEARTBEAT])
                self.timer.daemon = True
                self.timer.start()
        elif kind == DATA:
            self.message(body)
        elif kind == KICK:
            tell("push", self, route="onKick", body=strict(body))
        else:
            raise ValueError(f"a package of type {kind}")

    def message(self, text):
        flag, at = text[0], 1
        if flag >> 1 & 7 == RESPONSE:
            number, at = varint(text, at)
            theirs, route = self.waiting.pop(number)
            tell("answer", self, id=theirs, body=self.decode(route, text[at:]))
            return
        if flag >> 1 & 7 != PUSH:
            raise ValueError(f"a message with flag {flag}")
        if flag & 1:
            route, at = self.route_of[int.from_bytes(text[1:3], "big")], 3
        else:
            at = 2 + text[1]
            route = text[2:at].decode()
        tell("push", self, route=route, body=self.decode(route, text[at:]))

    def decode(self, route, text):
        proto = self.protos.get(route)
        if proto is None:
            return strict(text)
        body, at = {}, 0
        while at < len(text):
            head, at = varint(text, at)
            length, at = varint(text, at)
            name = proto["__tags"][str(head >> 3)]
            if proto[name]["type"] != "string":
                raise ValueError(f"{name} is no string")
            body[name] = text[at : at + length].decode("utf-8")
            at += length
        return body

    def encode(self, command):
        is_request = command["do"] == "request"
        route = command["route"]
        code = self.code_of.get(route)
        text = bytes([(REQUEST if is_request else NOTIFY) << 1 | (code is not None)])
        if is_request:
            self.last_id += 1
            self.waiting[self.last_id] = command["id"], route
            text += bytes_of(self.last_id)
        text += struct.pack(">H", code) if code is not None else bytes([len(route)]) + route.encode()
        if "body" in command:
            text += json.dumps(command["body"], ensure_ascii=False, separators=(",", ":")).encode()
        return self.ws_frame(DATA, text)

    def request(self, command):
        self.write(self.encode(command))

    notify = request

    def batch(self, command):
        self.write(b"".join(self.encode(message) for message in command["messages"]))

    def leave(self, _):
        with self.sending:
            self.ws.send_close()

    def vanish(self, _):
        self.ws.sock.shutdown(socket.SHUT_RDWR)

    def cut(self, _):
        self.ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.sock.shutdown(socket.SHUT_RD)

    def freeze(self, _=None):
        self.is_frozen = True
        if self.timer:
            self.timer.cancel()


def varint(text, at):
    number = shift = 0
    while True:
        number |= (text[at] & 0x7F) << shift
        shift += 7
        at += 1
        if text[at - 1] < 0x80:
            return number, at


def bytes_of(number):
    text = b""
    while True:
        text += bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
        number >>= 7
        if not number:
            return text


class InOrder(engineio.Client):
    """The library's client but for one thing: it hands out messages one after the other, not each in a thread of its own."""

    def _trigger_event(self, *args, **kwargs):
        return super()._trigger_event(*args, **{**kwargs, "run_async": False})


class InOrderSocketIO(socketio.Client):
    def _engineio_client_class(self):
        return InOrder


class SocketIO:
    """python-socketio, which says what the page of chatofpomelo says: strings in the event "message"."""

    TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}

    def __init__(self, number):
        self.number = number
        self.last_id = 1
        self.waiting = {}
        self.socket = None

    def connect(self, kind, host, port, reconnects=False, **_):
        self.stays = reconnects
        self.socket = InOrderSocketIO(reconnection=reconnects, reconnection_delay=0.1, handle_sigint=False)
        self.socket.on("message", self.received)
        self.socket.on("disconnect", lambda *_: self.stays or tell("closed", self, reason="disconnect"))
        self.is_new = True
        self.socket.on("connect", self.connected)
        transports = self.TRANSPORTS[kind.removeprefix("python-socketio ")]
        self.socket.connect(f"http://{host}:{port}", transports=transports, wait_timeout=10)

    def connected(self):
        if not self.is_new:
            tell("reconnected", self)
        self.is_new = False

    def received(self, text):
        try:
            message = strict(text)
            if "id" in message:
                theirs = self.waiting.pop(message["id"])
                if theirs is not None:
                    tell("answer", self, id=theirs, body=message["body"])
                return
            route, body = message["route"], message["body"]
            if body.get("route", route) != route:
                raise ValueError(text)
            if route == "onChat":
                body.pop("route")  # hybrid clients are told it for onAdd and onLeave only
            tell("push", self, route=route, body=body)
        except Exception:
            fatal()

    def request(self, command):
        self.last_id += 1
        self.waiting[self.last_id] = command.get("id")  # a page numbers its notifies, too
        head = "".join(map(chr, struct.pack(">I", self.last_id))) + chr(len(command["route"])) + command["route"]
        self.socket.send(head + json.dumps(command.get("body", {}), ensure_ascii=False))

    notify = request

    def batch(self, command):
        for message in command["messages"]:
            self.request(message)

    def leave(self, _):
        self.stays = False
        self.socket.eio.queue.join()  # while it still posts something else, python-engineio ends without a goodbye
        self.socket.disconnect()

    def drop(self, _):
        """The network goes, and nobody says a word."""
        engine = self.socket.eio
        if engine.ws:
            engine.ws.sock.shutdown(socket.SHUT_RDWR)

    vanish = cut = drop


def run(client, command):
    """Each client has a thread of its own for commands that wait."""
    try:
        getattr(client, command["do"])(command)
    except (OSError, websocket.WebSocketException, socketio.exceptions.SocketIOError):
        pass  # it is gone already, which is told elsewhere
    except Exception:
        fatal()


def connect(client, command):
    try:
        client.connect(**{key: value for key, value in command.items() if key not in ("do", "client")})
    except Exception as err:
        traceback.print_exc()
        tell("failed", client, reason=repr(err))
        return
    tell("connected", client)


def main():
    clients = {}
    for line in sys.stdin:
        command = json.loads(line)
        number = command["client"]
        if command["do"] == "connect":
            clients[number] = (Hybrid if command["kind"] == "python" else SocketIO)(number)
            threading.Thread(target=connect, args=(clients[number], command), daemon=True).start()
        elif command["do"] == "leave":
            threading.Thread(target=run, args=(clients[number], command), daemon=True).start()
        else:
            run(clients[number], command)


main()
