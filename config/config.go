// Package config reads the config/ directory of a Pomelo project: which servers there are, and what their clients are
// told of routes and messages (protocol.md §10.1). It reads what the chat application's servers need, names what it
// does not know, and starts nothing.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/codec"
)

// Project is the configuration of a Pomelo project in one environment.
type Project struct {
	Env string
	// Servers are the entries of servers.json in the order of the file, clusters expanded. Nil when there is no such file.
	Servers []Server
	// MasterPort is master.json's port; 0 without that file.
	MasterPort int
	// UserRoutes is dictionary.json; nil when there is none, empty when it adds nothing.
	UserRoutes []string
	// Protos is serverProtos.json and clientProtos.json; nil when there is neither.
	Protos *codec.Protos
	// Warnings say what was not understood, each once.
	Warnings []string
}

// Server is one entry of servers.json.
type Server struct {
	Type           string // gate, connector, chat
	ID             string
	Host           string // as announced to clients
	ClientPort     int    // where clients connect; 0 for servers behind, and where the file says 0: any free port
	Port           int    // Pomelo's internal port; nothing listens there
	MaxConnections int    // 0: no limit of its own
	// Heartbeat (seconds), UseDict and UseProtobuf are connectorConfig's names; the original sets them in app.js.
	// Nil: the default of the server type.
	Heartbeat   *int
	UseDict     *bool
	UseProtobuf *bool

	hasPort bool // a clientPort was given
}

// DefaultEnv is the environment that Pomelo uses when it is told none.
const DefaultEnv = "development"

// knownTypes are the server types pomelod can be.
var knownTypes = []string{"gate", "connector", "chat"}

// usualPort is the clientPort of Pomelo's samples.
var usualPort = map[string]int{"gate": 3014, "connector": 3050}

// ignoredKeys of an entry mean something to Pomelo's process management only.
var ignoredKeys = []string{"args", "cpu", "auto-restart", "restart-force", "serverType", "main", "mainFile", "username", "env"}

// files are what Load reads, if it is there.
var files = []string{"servers.json", "master.json", "dictionary.json", "serverProtos.json", "clientProtos.json"}

// EmptyError means that a directory has no configuration files for this environment. Its fields say where there are some, as far as Load has found any.
type EmptyError struct {
	Env  string
	Path string   // the directory meant, relative to the one given; empty: unknown
	Envs []string // the environments for which there are files
}

func (e *EmptyError) Error() string {
	none := "there is no " + strings.Join(files[:len(files)-1], ", ") + " or " + files[len(files)-1]
	if len(e.Envs) > 0 {
		return fmt.Sprintf("%s for environment %q; there are files for %s: give -env", none, e.Env, strings.Join(e.Envs, ", "))
	}
	return none
}

// findMeant looks for the files where people leave them when they give another directory: a project's root or its game-server.
func findMeant(dir fs.FS, env string) *EmptyError {
	e := &EmptyError{Env: env}
	for _, sub := range []string{"config", "game-server/config"} {
		if hasFiles(dir, sub) || hasFiles(dir, path.Join(sub, env)) {
			e.Path = sub
			return e
		}
	}
	entries, _ := fs.ReadDir(dir, ".") // what cannot be read has no environments
	for _, entry := range entries {
		if entry.IsDir() && hasFiles(dir, entry.Name()) {
			e.Envs = append(e.Envs, entry.Name())
		}
	}
	return e
}

func hasFiles(dir fs.FS, sub string) bool {
	return slices.ContainsFunc(files, func(name string) bool {
		_, err := fs.Stat(dir, path.Join(sub, name))
		return err == nil
	})
}

// Load reads the config directory of a project for the environment env. A missing file is no error, but if all are missing the error is an
// *EmptyError.
func Load(dir fs.FS, env string) (*Project, error) {
	if !hasFiles(dir, ".") && !hasFiles(dir, env) {
		return nil, findMeant(dir, env)
	}
	p := &Project{Env: env}
	l := loader{dir: dir, env: env, project: p}
	err := errors.Join(l.servers(), l.master(), l.dictionary(), l.protos())
	if err != nil {
		return nil, err
	}
	return p, nil
}

// loader carries what the parts of Load share.
type loader struct {
	dir     fs.FS
	env     string
	project *Project
}

func (l *loader) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(l.project.Warnings, w) {
		l.project.Warnings = append(l.project.Warnings, w)
	}
}

// read finds a file as Pomelo does: config/<file>, else config/<env>/<file>; nil when there is neither.
func (l *loader) read(name string) ([]byte, error) {
	b, err := fs.ReadFile(l.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = fs.ReadFile(l.dir, path.Join(l.env, name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// readEnv is read, and of a file with a member named like the environment that member.
func (l *loader) readEnv(name string) (json.RawMessage, error) {
	b, err := l.read(name)
	if b == nil || err != nil {
		return nil, err
	}
	members, err := object(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, m := range members {
		if m.key == l.env {
			return m.value, nil
		}
	}
	return b, nil
}

// member is one member of a JSON object, in its place.
type member struct {
	key   string
	value json.RawMessage
}

// object is the members of a JSON object in the file's order, which decides who is first among connectors.
func object(b []byte) ([]member, error) {
	b = codec.NormalizeUTF8([]byte(strings.TrimPrefix(string(b), "\ufeff")))
	var members []member
	scan := codec.ScanObject(b)
	for k, v, ok := scan.Next(); ok; k, v, ok = scan.Next() {
		members = append(members, member{string(k), v})
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%w%s", err, position(b))
	}
	return members, nil
}

// position tells where encoding/json finds the fault that made our scanner refuse b.
func position(b []byte) string {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, new(map[string]any)); errors.As(err, &syntax) {
		line := 1 + strings.Count(string(b[:min(int(syntax.Offset), len(b))]), "\n")
		return fmt.Sprintf(", line %d: %v", line, syntax)
	}
	return ""
}

func (l *loader) servers() error {
	const name = "servers.json"
	b, err := l.readEnv(name)
	if b == nil || err != nil {
		return err
	}
	types, err := object(b)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.project.Servers = []Server{}
	for _, t := range types {
		if !slices.Contains(knownTypes, t.key) {
			l.warn("%s: servers of type %q are not pomelod's; they are skipped", name, t.key)
			continue
		}
		var entries []json.RawMessage
		if err := codec.Unmarshal(t.value, &entries); err != nil {
			return fmt.Errorf("%s: %q must be an array of servers: %w", name, t.key, err)
		}
		instances := 0 // numbers the instances of all clusters of a type, as Pomelo does
		for i, e := range entries {
			if err := l.entry(t.key, e, &instances); err != nil {
				return fmt.Errorf("%s: %s server %d: %w", name, t.key, i+1, err)
			}
		}
	}
	return l.checkServers(name)
}

// entry reads one entry, which clusterCount may make several.
func (l *loader) entry(serverType string, raw json.RawMessage, instances *int) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	count, cluster := 1, false
	for _, m := range members {
		if m.key == "clusterCount" {
			cluster = true
			if count, err = integer(m.value, 0); err != nil || count < 1 || count > 256 {
				return fmt.Errorf("clusterCount %s: must be a number from 1 to 256", m.value)
			}
		}
	}
	for k := range count {
		s := Server{Type: serverType}
		for _, m := range members {
			if err := l.field(&s, m, k); err != nil {
				return fmt.Errorf("%s: %w", m.key, err)
			}
		}
		if cluster {
			s.ID = fmt.Sprintf("cluster-server-%s-%d", serverType, *instances)
			*instances++
		}
		l.project.Servers = append(l.project.Servers, s)
	}
	return nil
}

// field sets one member of the k-th instance of an entry.
func (l *loader) field(s *Server, m member, k int) (err error) {
	switch m.key {
	case "id":
		return codec.Unmarshal(m.value, &s.ID)
	case "host":
		return codec.Unmarshal(m.value, &s.Host)
	case "port":
		s.Port, err = integer(m.value, k)
	case "clientPort", "wsPort": // wsPort is 2013's
		s.ClientPort, err = integer(m.value, k)
		s.hasPort = true
	case "max-connections":
		s.MaxConnections, err = integer(m.value, k)
	case "heartbeat":
		return codec.Unmarshal(m.value, &s.Heartbeat)
	case "useDict":
		return codec.Unmarshal(m.value, &s.UseDict)
	case "useProtobuf":
		return codec.Unmarshal(m.value, &s.UseProtobuf)
	case "frontend", "clusterCount":
	default:
		if !slices.Contains(ignoredKeys, m.key) {
			l.warn("servers.json: %q of a %s server is not known to pomelod; it is ignored", m.key, s.Type)
		}
	}
	return err
}

// integer is a number, or the text of one; text that ends in ++ is the first of a row.
func integer(raw json.RawMessage, k int) (int, error) {
	text := string(raw)
	if s, ok := codec.StringValue(raw); ok {
		text = s
	}
	first, row := strings.CutSuffix(text, "++")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number", raw)
	}
	if row {
		n += k
	}
	return n, nil
}

// checkServers refuses what cannot be started.
func (l *loader) checkServers(name string) error {
	ids, ports := map[string]bool{}, map[string]string{}
	for i := range l.project.Servers {
		s := &l.project.Servers[i]
		if s.ID == "" || ids[s.ID] {
			return fmt.Errorf("%s: every server needs an id of its own; %q is missing or there twice", name, s.ID)
		}
		ids[s.ID] = true
		if s.Type == "chat" {
			continue
		}
		addr := net.JoinHostPort(s.Host, strconv.Itoa(s.ClientPort))
		switch other, taken := ports[addr]; {
		case !s.hasPort:
			return fmt.Errorf("%s: %s %s has no clientPort; give the port on which clients connect to it, for example \"clientPort\": %d", name, s.Type, s.ID, usualPort[s.Type])
		case s.ClientPort < 0 || s.ClientPort > 65535:
			return fmt.Errorf("%s: %s: clientPort %d is no port", name, s.ID, s.ClientPort)
		case taken && s.ClientPort != 0:
			return fmt.Errorf("%s: %s and %s have the same host and the same clientPort %d; give each a port of its own", name, other, s.ID, s.ClientPort)
		case s.Heartbeat != nil && (*s.Heartbeat < 0 || *s.Heartbeat > 3600):
			return fmt.Errorf("%s: %s: heartbeat %d: must be seconds from 0 (none) to 3600", name, s.ID, *s.Heartbeat)
		case s.MaxConnections < 0:
			return fmt.Errorf("%s: %s: max-connections %d is negative", name, s.ID, s.MaxConnections)
		}
		ports[addr] = s.ID
	}
	return nil
}

func (l *loader) master() error {
	const name = "master.json"
	b, err := l.readEnv(name)
	if b == nil || err != nil {
		return err
	}
	members, err := object(b)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, m := range members {
		switch m.key {
		case "port":
			if l.project.MasterPort, err = integer(m.value, 0); err != nil {
				return fmt.Errorf("%s: port: %w", name, err)
			}
		case "id", "host", "queryPort", "wsPort", "args", "auto-restart":
		default:
			l.warn("%s: %q is not known to pomelod; it is ignored", name, m.key)
		}
	}
	return nil
}

func (l *loader) dictionary() error {
	const name = "dictionary.json"
	b, err := l.read(name)
	if b == nil || err != nil {
		return err
	}
	if l.project.UserRoutes, err = codec.ParseUserDictionary(b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if l.project.UserRoutes == nil {
		l.project.UserRoutes = []string{}
	}
	return nil
}
