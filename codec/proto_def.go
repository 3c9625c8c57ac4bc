package codec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Protos holds the message definitions of both directions (protocol.md §3.1). It is static
// after construction and safe from any goroutine. A nil *Protos defines nothing.
type Protos struct {
	server, client protoSet
	version        string
	handshake      []byte
}

// protoSet is one definition file: its top-level entries, which are the routes and, under keys
// like "message X", the messages every route may use.
type protoSet struct {
	byKey map[string]*ProtoMessage
	text  []byte // the parsed form as JSON.stringify writes it
}

// ProtoMessage is the definition of a message. It is static after construction and its methods
// are safe from any goroutine.
type ProtoMessage struct {
	fields      []protoField
	byName      map[string]int // index into fields
	tags        []protoTag     // ascending
	required    []int          // indices into fields
	nested      map[string]*ProtoMessage
	nestedNames []string
}

type protoTag struct {
	tag   uint32
	name  string
	field int // index into fields
}

type protoField struct {
	name    string
	option  string
	typ     string
	tag     uint32
	kind    protoKind
	message *ProtoMessage // of kindMessage
	head    []byte        // as the server writes it
	label   []byte        // the name as a JSON key with its colon
}

func (f *protoField) repeated() bool { return f.option == "repeated" }

type protoKind uint8

const (
	kindUnknown protoKind = iota
	kindUint
	kindSint
	kindFloat
	kindDouble
	kindString
	kindMessage
)

// ParseProtos parses the texts of serverProtos.json and clientProtos.json; an empty text counts
// as {}. Keys that declare nothing are skipped as in the original (protocol.md §3.1). An
// error names the file and the place in it.
func ParseProtos(server, client []byte) (*Protos, error) {
	p := &Protos{}
	var err error
	if p.server, err = parseProtoSet(server); err != nil {
		return nil, fmt.Errorf("parse server protos: %w", err)
	}
	if p.client, err = parseProtoSet(client); err != nil {
		return nil, fmt.Errorf("parse client protos: %w", err)
	}
	p.version = versionOf(slices.Concat(p.client.text, p.server.text))
	b := AppendCanonical([]byte(`"protos":{"server":`), p.server.text)
	b = AppendCanonical(append(b, `,"client":`...), p.client.text)
	b = AppendString(append(b, `,"version":`...), p.version)
	p.handshake = append(b, '}')
	return p, nil
}

// Server is the definition for what the server sends on a route, nil if it is sent as JSON.
func (p *Protos) Server(route string) *ProtoMessage {
	if p == nil {
		return nil
	}
	return p.server.byKey[route]
}

// Client is the definition for what clients send on a route, nil if they send JSON.
func (p *Protos) Client(route string) *ProtoMessage {
	if p == nil {
		return nil
	}
	return p.client.byKey[route]
}

// Version is what clients send back as sys.protoVersion: base64 of the MD5 of the client's
// definitions followed by the server's, parsed, as JSON.stringify writes them (protocol.md
// §2.4). It is empty for nil protos.
func (p *Protos) Version() string {
	if p == nil {
		return ""
	}
	return p.version
}

// AppendHandshake appends the member protos of the handshake's sys, {server, client, version},
// without a comma around it. Nil protos append nothing.
func (p *Protos) AppendHandshake(dst []byte) []byte {
	if p == nil {
		return dst
	}
	return append(dst, p.handshake...)
}

func parseProtoSet(text []byte) (protoSet, error) {
	set := protoSet{byKey: map[string]*ProtoMessage{}, text: []byte("{}")}
	if text = configText(text); len(text) == 0 {
		return set, nil
	}
	members, err := orderedMembers(text)
	if err != nil {
		return set, err
	}
	for _, m := range members {
		message, err := parseProtoMessage(m.value, 1)
		if err != nil {
			return set, fmt.Errorf("%q: %w", m.key, err)
		}
		set.byKey[m.key] = message
	}
	for _, message := range set.byKey {
		message.link(set.byKey)
	}
	set.text = []byte{'{'}
	for i, m := range members {
		if i > 0 {
			set.text = append(set.text, ',')
		}
		set.text = append(appendQuoted(set.text, []byte(m.key), false), ':')
		set.text = set.byKey[m.key].appendDefinition(set.text)
	}
	set.text = append(set.text, '}')
	return set, nil
}

// parseProtoMessage parses one message and those nested in it. Fields do not know their message
// type yet: link finds it when all are there, so a definition that contains itself is no loop.
func parseProtoMessage(raw []byte, depth int) (*ProtoMessage, error) {
	if depth > maxProtoDepth {
		return nil, fmt.Errorf("%w: nested too deeply", errProtoDefinition)
	}
	members, err := orderedMembers(raw)
	if err != nil {
		return nil, err
	}
	m := &ProtoMessage{byName: map[string]int{}, nested: map[string]*ProtoMessage{}}
	for _, member := range members {
		words := strings.Split(member.key, " ")
		switch words[0] {
		case "message":
			if len(words) != 2 {
				continue
			}
			if m.nested[words[1]], err = parseProtoMessage(member.value, depth+1); err != nil {
				return nil, fmt.Errorf("%q: %w", member.key, err)
			}
			m.nestedNames = append(m.nestedNames, words[1])
		case "required", "optional", "repeated":
			if len(words) != 3 {
				continue
			}
			if err := m.declare(words, member.value); err != nil {
				return nil, fmt.Errorf("%q: %w", member.key, err)
			}
		}
	}
	m.finish()
	return m, nil
}

// declare adds the field of a key split into option, type and name. A taken tag is skipped; a
// taken name gives the field its new meaning under both tags, as the original's tables do.
func (m *ProtoMessage) declare(words []string, rawTag []byte) error {
	n, err := strconv.ParseUint(string(rawTag), 10, 32)
	if err != nil || n > maxProtoTag {
		return fmt.Errorf("%w: tag %s is not an integer up to %d", errProtoDefinition, rawTag, maxProtoTag)
	}
	tag := uint32(n)
	for _, t := range m.tags {
		if t.tag == tag {
			return nil
		}
	}
	f := protoField{option: words[0], typ: words[1], name: words[2], tag: tag}
	if f.name == "__messages" || f.name == "__tags" {
		return fmt.Errorf("%w: the name is reserved", errProtoDefinition)
	}
	f.label = append(AppendString(nil, f.name), ':')
	if i, taken := m.byName[f.name]; taken {
		m.fields[i] = f
	} else {
		m.byName[f.name] = len(m.fields)
		m.fields = append(m.fields, f)
	}
	m.tags = append(m.tags, protoTag{tag: tag, name: f.name})
	return nil
}

// finish puts fields and tags into the order JavaScript enumerates them in.
func (m *ProtoMessage) finish() {
	sortKeys(m.fields, func(f protoField) string { return f.name })
	sortKeys(m.nestedNames, func(name string) string { return name })
	for i, f := range m.fields {
		m.byName[f.name] = i
		if f.option == "required" {
			m.required = append(m.required, i)
		}
	}
	for i := range m.tags {
		m.tags[i].field = m.byName[m.tags[i].name]
	}
	slices.SortFunc(m.tags, func(a, b protoTag) int { return cmp.Compare(a.tag, b.tag) })
}

// link finds what each field's type means: a type of the codec, a message nested in this very
// definition, or a message of the whole file.
func (m *ProtoMessage) link(byKey map[string]*ProtoMessage) {
	for i := range m.fields {
		f := &m.fields[i]
		wire := uint32(wireLength)
		switch f.typ {
		case "uInt32":
			f.kind, wire = kindUint, wireVarint
		case "sInt32", "int32":
			f.kind, wire = kindSint, wireVarint
		case "float":
			f.kind, wire = kindFloat, wireFloat
		case "double":
			f.kind, wire = kindDouble, wireDouble
		case "string":
			f.kind = kindString
		default:
			if f.message = m.nested[f.typ]; f.message == nil {
				f.message = byKey["message "+f.typ]
			}
			if f.message != nil {
				f.kind = kindMessage
			}
		}
		f.head = appendUvarint(nil, uint64(f.tag<<3|wire))
	}
	for _, nested := range m.nested {
		nested.link(byKey)
	}
}

// byTag finds a field, as an index into fields, by its tag.
func (m *ProtoMessage) byTag(tag uint64) (field int, ok bool) {
	if n := tag - 1; n < uint64(len(m.tags)) && uint64(m.tags[n].tag) == tag {
		return m.tags[n].field, true // tags mostly count up from 1
	}
	i, ok := slices.BinarySearchFunc(m.tags, tag, func(t protoTag, tag uint64) int {
		return cmp.Compare(uint64(t.tag), tag)
	})
	if !ok {
		return 0, false
	}
	return m.tags[i].field, true
}

// appendDefinition appends the parsed form of protocol.md §3.1 as JSON.stringify writes it.
func (m *ProtoMessage) appendDefinition(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range m.fields {
		f := &m.fields[i]
		dst = appendQuoted(dst, []byte(f.name), false)
		dst = appendQuoted(append(dst, `:{"option":`...), []byte(f.option), false)
		dst = appendQuoted(append(dst, `,"type":`...), []byte(f.typ), false)
		dst = strconv.AppendUint(append(dst, `,"tag":`...), uint64(f.tag), 10)
		dst = append(dst, "},"...)
	}
	dst = append(dst, `"__messages":{`...)
	for i, name := range m.nestedNames {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, []byte(name), false), ':')
		dst = m.nested[name].appendDefinition(dst)
	}
	dst = append(dst, `},"__tags":{`...)
	for i, t := range m.tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(append(dst, '"'), uint64(t.tag), 10)
		dst = appendQuoted(append(dst, `":`...), []byte(m.fields[t.field].name), false)
	}
	return append(dst, "}}"...)
}

type member struct {
	key   string
	value []byte
}

// orderedMembers reads a JSON object as JavaScript holds it: of equal keys the first place and
// the last value, keys like array indices first.
func orderedMembers(raw []byte) ([]member, error) {
	var members []member
	places := map[string]int{}
	o := ScanObject(raw)
	for {
		key, value, ok := o.Next()
		if !ok {
			break
		}
		name := string(key)
		if i, taken := places[name]; taken {
			members[i].value = value
			continue
		}
		places[name] = len(members)
		members = append(members, member{name, value})
	}
	if err := o.Err(); err == errNotObject {
		return nil, err
	} else if err != nil {
		line := 1 + bytes.Count(raw[:min(o.i, len(raw))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	sortKeys(members, func(m member) string { return m.key })
	return members, nil
}
