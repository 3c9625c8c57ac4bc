package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pomelod/pomelod/codec"
)

// protos reads serverProtos.json and clientProtos.json.
func (l *loader) protos() error {
	server, err := l.protoFile("serverProtos.json", func(b []byte) (*codec.Protos, error) { return codec.ParseProtos(b, nil) })
	if err != nil {
		return err
	}
	client, err := l.protoFile("clientProtos.json", func(b []byte) (*codec.Protos, error) { return codec.ParseProtos(nil, b) })
	if err != nil || server == nil && client == nil {
		return err
	}
	l.project.Protos, err = codec.ParseProtos(server, client)
	return err
}

// protoFile is the text of one of the two, after a check: Pomelo writes nothing at all for a field of a type that it does not
// know, and skips what is no declaration. Both are mistyped words, and their only symptom is a field that never arrives.
func (l *loader) protoFile(name string, parse func([]byte) (*codec.Protos, error)) ([]byte, error) {
	b, err := l.read(name)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return b, err
	}
	messages, err := object(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := parse(b); err != nil { // bounds the depth too
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := protoCheck{loader: l, file: name}
	for _, m := range messages {
		if global, ok := strings.CutPrefix(m.key, "message "); ok {
			c.global = append(c.global, global)
		}
	}
	for _, m := range messages {
		if err := c.message(m.key, m.value); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// protoCheck looks through the messages of one file.
type protoCheck struct {
	*loader
	file   string
	global []string // messages that every message of the file may use
}

var (
	protoOptions = []string{"required", "optional", "repeated"}
	protoTypes   = []string{"uInt32", "sInt32", "int32", "float", "double", "string"}
)

// message checks one message; path is its key, after those of the messages around it.
func (c *protoCheck) message(path string, raw json.RawMessage) error {
	members, err := object(raw)
	if err != nil {
		return fmt.Errorf("%s: %q: %w", c.file, path, err)
	}
	types := slices.Concat(protoTypes, c.global)
	for _, m := range members {
		if nested, ok := strings.CutPrefix(m.key, "message "); ok {
			types = append(types, nested)
		}
	}
	tags := make(map[string]string) // → key
	for _, m := range members {
		words := strings.Split(m.key, " ")
		switch {
		case len(words) == 2 && words[0] == "message":
			if err := c.message(path+" / "+m.key, m.value); err != nil {
				return err
			}
		case len(words) != 3 || !slices.Contains(protoOptions, words[0]):
			c.warn("%s: message %q: %q declares nothing and is ignored; a field is declared as %q", c.file, path, m.key, "required string name")
		case !slices.Contains(types, words[1]):
			return fmt.Errorf("%s: message %q: field %q has the unknown type %q; types are %s, and messages declared as \"message %s\"",
				c.file, path, m.key, words[1], strings.Join(protoTypes, ", "), words[1])
		case tags[string(m.value)] != "":
			c.warn("%s: message %q: %q has the tag %s of %q and is ignored; give it a tag of its own", c.file, path, m.key, m.value, tags[string(m.value)])
		default:
			tags[string(m.value)] = m.key
		}
	}
	return nil
}
