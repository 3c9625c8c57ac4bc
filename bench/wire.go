package main

import "time"

// The requests that there are. Wires without routes have their own words for the first two.
const (
	routeEnter = "connector.entryHandler.enter"
	routeSend  = "chat.chatHandler.send"
	routeGate  = "gate.gateHandler.queryEntry"
)

// wire is how one client talks. A conn has one of its own; it may keep state. What it has to say goes through its sink.
type wire interface {
	// hello is what the client says once it is connected to host. What follows, until the sink is told that the client
	// is ready, is the wire's to say too.
	hello(s sink, host string)
	// read takes whole units from the front of b, tells s, and returns how many bytes it took. Slices given to s are
	// valid until its method returns.
	read(b []byte, s sink) (int, error)
	heartbeat(s sink)
	request(s sink, id uint32, route string, body []byte)
}

// sink is the conn as its wire sees it.
type sink interface {
	// buffer is empty and large; what is appended to it is meant for send, which returns with all of b written or copied.
	buffer() []byte
	send(b []byte)
	second(w wire) sink // another connection of this client, to the same place

	// ready says that requests may be sent. every is the interval of heartbeats, whoever sends them; 0: none.
	ready(every time.Duration)
	beat() // time to send a heartbeat in an interval
	answered(id uint32, body []byte)
	// pushed gives the body as the wire has it: JSON, protobuf, or JSON inside of a JSON string. Marks look the same in all of them.
	pushed(route, body []byte)
}

// ending is a wire or a client that knows ends of its conn that are no faults. ended tells whether this is one.
type ending interface{ ended(s sink) bool }

// wires by the name that -wire takes.
var wires = map[string]func() wire{
	"tcp":           func() wire { return &hybrid{} },
	"ws":            func() wire { return &hybrid{ws: &websocket{opcode: wsBinary}} },
	"sio09":         func() wire { return newPushed(&sio09{}) },
	"eio3":          func() wire { return newPushed(&engine{version: 3}) },
	"eio4":          func() wire { return newPushed(&engine{version: 4}) },
	"sio09-polling": func() wire { return &polling{dialect: &sio09{}} },
	"eio3-polling":  func() wire { return &polling{dialect: &engine{version: 3}} },
	"eio4-polling":  func() wire { return &polling{dialect: &engine{version: 4}} },
	"plain":         func() wire { return newPlain() },
	"sio4":          func() wire { return newPushed(&acked{engine: engine{version: 4}}) },
	"centrifuge":    func() wire { return newCentrifuge() },
}
