//go:build linux

package server

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/config"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// plan is what will run: settings and files, made one.
type plan struct {
	listeners []plannedListener
	admin     string
	warnings  []string
	reloads   reloads
	takeover  *takeover // from another process, nil if there is none
	// certificates are those of listeners with TLS; nil where there is none.
	certificates *certificates
	login        *loginSettings // its keys are read again
	inherited    map[int]int    // index into listeners → descriptor passed for it; the index after the last is the admin's
}

// plannedListener is one address that clients connect to.
type plannedListener struct {
	profile *router.Profile
	addr    string // as the user gave it
	flag    string // where
	host    string // as a gate announces it; empty: the host by which the client came
	port    int    // as a gate announces it; 0: the port that is bound
	max     int    // connections; 0: no limit of its own
}

// plan reads the project's directory and puts everything together. Nothing is started or bound.
func (c *settings) plan(app *app.App) (*plan, error) {
	if err := c.checkFleet(); err != nil {
		return nil, err
	}
	project := &config.Project{}
	if c.dir != "" {
		var err error
		if project, err = c.project(); err != nil {
			return nil, err
		}
	} else if c.set["env"] || c.set["bind"] {
		return nil, errors.New("-env and -bind belong to -config; give that too")
	}
	p := &plan{admin: c.admin, login: &c.login, warnings: append(project.Warnings, c.login.warnings()...)}
	switch {
	case c.set["admin"]:
	case c.fleet.on() && project.Servers != nil:
		p.admin = adminOf(project, c.fleet.id)
	case project.MasterPort != 0:
		p.admin = net.JoinHostPort("127.0.0.1", strconv.Itoa(project.MasterPort)) // the master's host may be public
	}
	var dict *codec.Dictionary
	if project.UserRoutes != nil {
		dict = codec.NewDictionary(router.HandlerRoutes(app), project.UserRoutes)
	}
	host, port, err := c.announced()
	if err != nil {
		return nil, err
	}
	if project.Servers != nil {
		if c.fleet.on() {
			if err := c.planEntry(project); err != nil {
				return nil, err
			}
		}
		if err := c.planServers(p, project, dict, app); err != nil {
			return nil, err
		}
		p.warnOfLoopback()
		return p, c.planTLS(p)
	}
	if c.fleet.on() {
		if err := c.planNode(); err != nil {
			return nil, err
		}
	}
	if c.listen == "" {
		return nil, errors.New("-listen is empty: give the connector an address, for example -listen :3050")
	}
	heartbeat := int(c.heartbeat / time.Second)
	p.listeners = []plannedListener{{
		profile: &router.Profile{Name: "connector", Type: router.Connector, HeartbeatSeconds: heartbeat, Dict: dict, Protos: project.Protos},
		addr:    c.listen, flag: "-listen", host: host, port: port,
	}}
	if c.gate != "" {
		p.listeners = append(p.listeners, plannedListener{
			profile: &router.Profile{Name: "gate", Type: router.Gate, Protos: project.Protos}, addr: c.gate, flag: "-gate",
		})
	}
	if c.fleet.on() {
		p.keepRoles(&c.fleet)
	}
	p.warnOfLoopback()
	return p, c.planTLS(p)
}

// project reads the directory of -config.
func (c *settings) project() (*config.Project, error) {
	st, err := os.Stat(c.dir)
	switch {
	case err == nil && !st.IsDir():
		return nil, fmt.Errorf("-config %s is a file; give its directory: -config %s", c.dir, filepath.Dir(c.dir))
	case err != nil:
		return nil, fmt.Errorf("-config %q is no directory; give the config/ directory of a Pomelo project", c.dir)
	}
	project, err := config.Load(os.DirFS(c.dir), c.env)
	var empty *config.EmptyError
	if errors.As(err, &empty) && empty.Path != "" {
		return nil, fmt.Errorf("-config %s is not the directory with the configuration; write -config %s", c.dir, filepath.Join(c.dir, empty.Path))
	}
	if err != nil {
		return nil, fmt.Errorf("-config %s: %w", c.dir, err)
	}
	return project, nil
}

// planServers takes the listeners from servers.json. As with the original a connector has heartbeats and the dictionary and
// a gate has not, unless the entry says otherwise.
func (c *settings) planServers(p *plan, project *config.Project, dict *codec.Dictionary, app *app.App) error {
	if c.set["listen"] || c.set["gate"] {
		return fmt.Errorf("-listen and -gate do not go with a servers.json, which names the addresses itself; drop them or the file in %s", c.dir)
	}
	host, port, err := c.announced()
	if err != nil {
		return err
	}
	connectors := 0
	for i := range project.Servers {
		s := &project.Servers[i]
		if c.fleet.on() && s.ID != c.fleet.id {
			continue
		}
		if s.Type == string(router.Chat) { // every loop has a share of the rooms, however many the project wants
			continue
		}
		if s.Type == string(router.Connector) {
			connectors++
		}
		l := plannedListener{
			profile: c.profile(s, dict, project.Protos, app), flag: "clientPort of " + s.ID,
			addr: net.JoinHostPort(c.bind, strconv.Itoa(s.ClientPort)), host: s.Host, port: port, max: s.MaxConnections,
		}
		if host != "" {
			l.host = host
		}
		p.listeners = append(p.listeners, l)
	}
	if connectors == 0 && !c.fleet.on() {
		return fmt.Errorf("servers.json in %s has no connector for environment %q; is -env right?", c.dir, c.env)
	}
	if port != 0 && connectors > 1 {
		return fmt.Errorf("-advertise %q: a port is for one connector, and servers.json has %d; give the host only", c.advertise, connectors)
	}
	if len(p.listeners) > 256 {
		return fmt.Errorf("servers.json has %d gates and connectors; one process serves 256", len(p.listeners))
	}
	return nil
}

func (c *settings) profile(s *config.Server, dict *codec.Dictionary, protos *codec.Protos, app *app.App) *router.Profile {
	p := &router.Profile{Name: s.ID, Type: router.ServerType(s.Type)}
	isConnector := p.Type == router.Connector
	if isConnector {
		p.HeartbeatSeconds = int(c.heartbeat / time.Second)
	}
	if s.Heartbeat != nil {
		p.HeartbeatSeconds = *s.Heartbeat
	}
	if given(s.UseDict, isConnector && dict != nil) {
		if p.Dict = dict; dict == nil {
			p.Dict = codec.NewDictionary(router.HandlerRoutes(app), nil)
		}
	}
	if given(s.UseProtobuf, protos != nil) {
		p.Protos = protos
	}
	return p
}

func given(b *bool, otherwise bool) bool {
	if b != nil {
		return *b
	}
	return otherwise
}

// connectors are the endpoints that gates announce, once the listeners are bound. Where none is, as in a check, ports may be 0.
func (p *plan) connectors(bound []*netpoll.Listener) []router.Endpoint {
	var list []router.Endpoint
	for i, l := range p.listeners {
		if l.profile.Type == router.Connector {
			e := router.Endpoint{Host: l.host, Port: l.port, TLS: l.profile.TLS}
			e.Named = e.TLS && e.Host != "" && p.certificates.names(strings.Trim(e.Host, "[]"))
			if e.Port == 0 && i < len(bound) {
				e.Port = bound[i].Addr.Port
			}
			list = append(list, e)
		}
	}
	return list
}

// print writes the plan for people and scripts.
func (c *settings) print(w io.Writer, p *plan) error {
	type server struct {
		ID             string `json:"id"`
		Type           string `json:"type"`
		Listen         string `json:"listen"`
		TLS            bool   `json:"tls,omitempty"`
		AdvertiseHost  string `json:"advertiseHost,omitempty"`
		AdvertisePort  int    `json:"advertisePort,omitempty"`
		MaxConnections int    `json:"maxConnections,omitempty"`
		Heartbeat      int    `json:"heartbeatSeconds"`
		DictVersion    string `json:"dictVersion,omitempty"`
		ProtoVersion   string `json:"protoVersion,omitempty"`
	}
	out := struct {
		Servers []server          `json:"servers"`
		Admin   string            `json:"admin"`
		Flags   map[string]string `json:"flags"`
	}{Admin: p.admin, Flags: map[string]string{}}
	for _, l := range p.listeners {
		out.Servers = append(out.Servers, server{
			ID: l.profile.Name, Type: string(l.profile.Type), Listen: l.addr, TLS: l.profile.TLS, AdvertiseHost: l.host, AdvertisePort: l.port, MaxConnections: l.max,
			Heartbeat: l.profile.HeartbeatSeconds, DictVersion: l.profile.Dict.Version(), ProtoVersion: l.profile.Protos.Version(),
		})
	}
	c.flags.VisitAll(func(f *flag.Flag) { out.Flags[f.Name] = f.Value.String() })
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
