package router

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// ServerType is the first part of a route, and what a listener is for.
type ServerType string

// The server types of the chat application that clients connect to, and the one behind them.
const (
	Gate      ServerType = "gate"
	Connector ServerType = "connector"
	Chat      ServerType = "chat"
)

// Profile is what listeners may differ in. Static once the node is made.
type Profile struct {
	Name string
	Type ServerType
	// TLS is whether clients speak TLS, beginning with their first byte (Config.Handshakes).
	TLS bool
	// Addr is the one address on which the listener is reached; the zero value where there may be several.
	Addr netip.Addr
	// HeartbeatSeconds is the interval told to clients; a client silent for twice as long is disconnected. 0: no heartbeats.
	HeartbeatSeconds int
	// Dict and Protos are offered to clients when they are not nil.
	Dict   *codec.Dictionary
	Protos *codec.Protos
	// CheckClient judges sys.type and sys.version of a handshake; false answers 501. nil accepts everybody. Runs on the
	// loop; must not block.
	CheckClient func(clientType, version string) bool
	// User is given the JSON of the handshake's user member (nil when absent) and returns the JSON to answer with, nil for
	// none; an error answers 500. Runs on the loop; must not block, and copies what it keeps.
	User func(user []byte) ([]byte, error)

	routes     map[string]*route
	handshakes [2][2][]byte // [client has the dictionary][client has the protos], without the last brace
	extended   [2][]byte    // the same for extended clients, which get no protos
	variants   map[variantKey]variantID
}

type variantKey struct {
	framing  codec.Framing
	cesu     bool
	extended bool
}

// variantID numbers the variants of a node, from 1; 0 is none. A session keeps the number, which is smaller than a pointer.
type variantID uint8

// variant is the number of how clients with this framing get what is sent to them by this listener; 0 when they cannot be here.
func (p *Profile) variant(framing codec.Framing, cesu bool) variantID {
	return p.variants[variantKey{framing: framing, cesu: cesu}]
}

// extendedVariant is variant for extended clients (docs/PROTOCOL.md).
func (p *Profile) extendedVariant(framing codec.Framing) variantID {
	return p.variants[variantKey{framing: framing, extended: true}]
}

// profile is the listener that s came by.
func (l *loop) profile(s *session) *Profile { return l.node.profiles[s.conn.Tag()] }

// variant is how s gets what is sent to it; nil while it is not known how its bytes travel.
func (l *loop) variant(s *session) *codec.Variant { return l.rooms.variants[s.variant] }

// HandlerRoutes returns the routes of all handlers, those of the chat application and those of a, which may be nil. The dictionary numbers
// them.
func HandlerRoutes(a *app.App) []string {
	routes := []string{routeSend, routeEnter, routeQueryEntry}
	if a != nil {
		for _, r := range hosting.Of(a).Routes() {
			routes = append(routes, r.Name)
		}
	}
	return routes
}

// prepare computes what is the same for every session. variants numbers the encodings of the process; filters tells that what is said is looked at before, so that
// sends wait for each other.
func (p *Profile) prepare(rows []row, variants *[]*codec.Variant, app *program, filters bool) error {
	p.routes = make(map[string]*route)
	add := func(name string, h handler) {
		if t := serverType(name); t != Gate && t != Connector || t == p.Type {
			p.routes[name] = &route{name: name, handle: h, request: p.Protos.Client(name), response: p.Protos.Server(name)}
		}
	}
	for name, h := range builtin {
		h.pipelines = h.pipelines && !(filters && name == routeSend)
		add(name, app.filtered(name, h))
	}
	if app != nil {
		for i := range app.routes {
			add(app.routes[i].name, app.routes[i].handler())
		}
	}
	for dict := range 2 {
		for protos := range 2 {
			p.handshakes[dict][protos] = p.handshakeText(dict == 0, protos == 0, false)
		}
		p.extended[dict] = p.handshakeText(dict == 0, false, true)
	}
	p.variants = make(map[variantKey]variantID)
	for i := range rows {
		if rows[i].variants == nil {
			continue
		}
		for _, v := range p.variantsOf(&rows[i]) {
			numbered, err := number(variants, v)
			if err != nil {
				return err
			}
			p.variants[variantKey{v.Framing, v.CESU, v.Extended}] = 1 + variantID(numbered.Index)
		}
	}
	return nil
}

// variantsOf are the variants of a protocol's clients; where there are rooms, those of extended clients too.
func (p *Profile) variantsOf(row *row) []codec.Variant {
	list := row.variants(p)
	if p.Type == Gate {
		return list
	}
	for _, v := range list {
		if !v.CESU {
			v.Protos, v.Extended = nil, true
			list = append(list, v)
		}
	}
	return list
}

// number finds the variant that encodes as v does, or makes it.
func number(variants *[]*codec.Variant, v codec.Variant) (*codec.Variant, error) {
	for _, known := range *variants {
		v.Index = known.Index
		if *known == v {
			return known, nil
		}
	}
	if len(*variants) == codec.MaxVariants {
		return nil, fmt.Errorf("listeners differ in more than %d encodings; let more of them share dictionary and protobuf files", codec.MaxVariants)
	}
	v.Index = uint8(len(*variants))
	*variants = append(*variants, &v)
	return &v, nil
}

// handshakeText is the success answer of protocol.md §2.4 without its last brace, members in the original's order.
func (p *Profile) handshakeText(sendDict, sendProtos, extended bool) []byte {
	b := []byte(`{"code":200,"sys":{`)
	comma := func() {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
	}
	if p.HeartbeatSeconds > 0 {
		b = append(b, `"heartbeat":`...)
		b = strconv.AppendInt(b, int64(p.HeartbeatSeconds), 10)
	}
	if p.Dict != nil {
		if sendDict {
			comma()
			b = p.Dict.AppendHandshake(b)
		}
		comma()
		b = append(b, `"useDict":true`...)
	}
	if extended {
		comma()
		b = append(b, `"extended":1`...)
	} else if p.Protos != nil {
		if sendProtos {
			comma()
			b = p.Protos.AppendHandshake(b)
		}
		comma()
		b = append(b, `"useProto":true`...)
	}
	return append(b, '}')
}
