package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func load(t *testing.T, env string, files map[string]string) (*Project, error) {
	t.Helper()
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Load(dir, env)
}

func mustLoad(t *testing.T, env string, files map[string]string) *Project {
	t.Helper()
	p, err := load(t, env, files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// summary is one line a server.
func summary(p *Project) string {
	var lines []string
	for _, s := range p.Servers {
		lines = append(lines, fmt.Sprintf("%s %s %s:%d/%d", s.Type, s.ID, s.Host, s.ClientPort, s.Port))
	}
	return strings.Join(lines, "\n")
}

// The layouts of the two sample applications: one file with both environments, 2013's wsPort without frontend, and a
// file of its own for each environment. "time" servers are an addition of one of them.
func TestSampleApplications(t *testing.T) {
	entry := func(kind string, i, port, client int, key string) string {
		return fmt.Sprintf(`{"id":"%s-server-%d","host":"127.0.0.1","port":%d,"%s":%d}`, kind, i, port, key, client)
	}
	chat := `{"id":"chat-server-1","host":"127.0.0.1","port":6050}`
	gate := `{"id":"gate-server-1","host":"127.0.0.1","clientPort":3014,"frontend":true}`
	hybrid := `{"connector":[` + entry("connector", 1, 4050, 3050, "clientPort") + `],"chat":[` + chat + `],"gate":[` + gate + `],` +
		`"time":[{"id":"time-server-1","host":"127.0.0.1","port":7000}]}`
	p := mustLoad(t, "production", map[string]string{
		"servers.json":      `{"development":{},"production":` + hybrid + `}`,
		"master.json":       `{"development":{"id":"m","host":"127.0.0.1","port":1},"production":{"id":"m","host":"127.0.0.1","port":3005}}`,
		"dictionary.json":   `["onChat","onAdd","onLeave"]`,
		"serverProtos.json": `{"onChat":{"required string msg":1}}`,
		"clientProtos.json": `{"connector.entryHandler.enter":{"required string username":1,"required string rid":2}}`,
	})
	want := "connector connector-server-1 127.0.0.1:3050/4050\nchat chat-server-1 127.0.0.1:0/6050\ngate gate-server-1 127.0.0.1:3014/0"
	if got := summary(p); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], `"time"`) {
		t.Errorf("warnings %q", p.Warnings)
	}
	if p.MasterPort != 3005 || len(p.UserRoutes) != 3 || p.Protos.Server("onChat") == nil || p.Protos.Client("connector.entryHandler.enter") == nil {
		t.Errorf("%+v", p)
	}

	var connectors []string
	for i := range 3 {
		connectors = append(connectors, entry("connector", i+1, 4050+i, 3050+i, "wsPort"))
	}
	old := `{"connector":[` + strings.Join(connectors, ",") + `],"chat":[` + chat + `],"gate":[{"id":"gate-server-1","host":"127.0.0.1","wsPort":3014}]}`
	want = "connector connector-server-1 127.0.0.1:3050/4050\nconnector connector-server-2 127.0.0.1:3051/4051\n" +
		"connector connector-server-3 127.0.0.1:3052/4052\nchat chat-server-1 127.0.0.1:0/6050\ngate gate-server-1 127.0.0.1:3014/0"
	for name, files := range map[string]map[string]string{
		"member of the environment": {"servers.json": `{"development":` + old + `}`, "master.json": `{"id":"m","host":"h","port":3005,"queryPort":3015,"wsPort":2337}`},
		"whole file":                {"servers.json": "\ufeff" + old},
		"folder of the environment": {"development/servers.json": old, "development/master.json": `{"id":"m","host":"h","port":3005}`},
	} {
		p := mustLoad(t, "development", files)
		if got := summary(p); got != want || len(p.Warnings) != 0 {
			t.Errorf("%s: got\n%s\nwarnings %q", name, got, p.Warnings)
		}
		if p.UserRoutes != nil || p.Protos != nil {
			t.Errorf("%s: dictionary or protos out of nothing", name)
		}
	}
}

func TestClusters(t *testing.T) {
	p := mustLoad(t, "development", map[string]string{"servers.json": `{
		"connector":[{"clusterCount":"2","host":"h","port":"4050++","clientPort":"3050++","frontend":true},
		             {"id":"one","host":"h","port":4060,"clientPort":"3060"},
		             {"clusterCount":1,"host":"h","port":4070,"clientPort":3070}],
		"chat":[{"clusterCount":3,"host":"h","port":"6050++"}]}`})
	want := "connector cluster-server-connector-0 h:3050/4050\nconnector cluster-server-connector-1 h:3051/4051\nconnector one h:3060/4060\n" +
		"connector cluster-server-connector-2 h:3070/4070\nchat cluster-server-chat-0 h:0/6050\nchat cluster-server-chat-1 h:0/6051\nchat cluster-server-chat-2 h:0/6052"
	if got := summary(p); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Entries may differ in what their clients are told; unknown keys are warned of once, Pomelo's own are not.
func TestEntrySettings(t *testing.T) {
	p := mustLoad(t, "development", map[string]string{"servers.json": `{"connector":[
		{"id":"a","host":"h","clientPort":1,"heartbeat":3,"useDict":false,"useProtobuf":true,"max-connections":10,"args":"-x","cpu":1,"auto-restart":true,"colour":"red"},
		{"id":"b","host":"h","clientPort":2,"colour":"blue"}]}`})
	a, b := p.Servers[0], p.Servers[1]
	if *a.Heartbeat != 3 || *a.UseDict || !*a.UseProtobuf || a.MaxConnections != 10 || b.Heartbeat != nil || b.UseDict != nil || b.UseProtobuf != nil {
		t.Errorf("%+v %+v", a, b)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "colour") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

func TestWhatCannotBeLoaded(t *testing.T) {
	for name, tc := range map[string]struct{ file, text, want string }{
		"no JSON":            {"servers.json", "{\n\"a\":1,\n}", "line 3"},
		"no object":          {"servers.json", `[]`, "servers.json"},
		"no array":           {"servers.json", `{"gate":{}}`, "array"},
		"entry no object":    {"servers.json", `{"gate":[7]}`, "gate server 1"},
		"no id":              {"servers.json", `{"gate":[{"clientPort":1}]}`, "id"},
		"id twice":           {"servers.json", `{"gate":[{"id":"a","clientPort":1},{"id":"a","clientPort":2}]}`, `"a"`},
		"port twice":         {"servers.json", `{"gate":[{"id":"a","clientPort":1}],"connector":[{"id":"b","clientPort":1}]}`, "same host and the same clientPort"},
		"port no number":     {"servers.json", `{"gate":[{"id":"a","clientPort":"x"}]}`, "whole number"},
		"port too large":     {"servers.json", `{"gate":[{"id":"a","clientPort":70000}]}`, "no port"},
		"host no text":       {"servers.json", `{"gate":[{"id":"a","host":7,"clientPort":1}]}`, "host"},
		"clusterCount":       {"servers.json", `{"chat":[{"clusterCount":0,"port":1}]}`, "clusterCount"},
		"clusterCount huge":  {"servers.json", `{"chat":[{"clusterCount":100000,"port":1}]}`, "clusterCount"},
		"heartbeat":          {"servers.json", `{"gate":[{"id":"a","clientPort":1,"heartbeat":-1}]}`, "heartbeat"},
		"max-connections":    {"servers.json", `{"gate":[{"id":"a","clientPort":1,"max-connections":-1}]}`, "max-connections"},
		"master port":        {"master.json", `{"port":"x"}`, "master.json"},
		"dictionary":         {"dictionary.json", `[7]`, "dictionary.json"},
		"server definitions": {"serverProtos.json", `{"a":7}`, "serverProtos.json"},
		"client definitions": {"clientProtos.json", `{`, "clientProtos.json"},
		"no port":            {"servers.json", `{"connector":[{"id":"c","host":"h","port":4050}]}`, `servers.json: connector c has no clientPort; give the port on which clients connect to it, for example "clientPort": 3050`},
		"no port of a gate":  {"servers.json", `{"gate":[{"id":"g","host":"h"}]}`, `servers.json: gate g has no clientPort; give the port on which clients connect to it, for example "clientPort": 3014`},
		"unknown type": {"serverProtos.json", `{"onChat":{"required strin msg":1}}`,
			`serverProtos.json: message "onChat": field "required strin msg" has the unknown type "strin"; types are uInt32, sInt32, int32, float, double, string, and messages declared as "message strin"`},
		"unknown nested type": {"clientProtos.json", `{"a.b.c":{"message P":{"optional int64 x":1},"repeated P path":1}}`,
			`clientProtos.json: message "a.b.c / message P": field "optional int64 x" has the unknown type "int64"`},
		"message of another": {"serverProtos.json", `{"a":{"message P":{"optional int32 x":1}},"b":{"required P p":1}}`,
			`serverProtos.json: message "b": field "required P p" has the unknown type "P"`},
	} {
		if _, err := load(t, "development", map[string]string{tc.file: tc.text}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want something about %q", name, err, tc.want)
		}
	}
}

// What Pomelo skips in protobuf files is told; messages nested, global and in themselves are types.
func TestProtoWarnings(t *testing.T) {
	p := mustLoad(t, "development", map[string]string{"serverProtos.json": `{"message G":{"optional G again":1},
		"onMove":{"message P":{"required uInt32 x":1},"repeated P path":1,"optional G g":2,"requird string user":3,"optional string":4,"optional float f":2}}`})
	want := []string{
		`serverProtos.json: message "onMove": "requird string user" declares nothing and is ignored; a field is declared as "required string name"`,
		`serverProtos.json: message "onMove": "optional string" declares nothing and is ignored; a field is declared as "required string name"`,
		`serverProtos.json: message "onMove": "optional float f" has the tag 2 of "optional G g" and is ignored; give it a tag of its own`,
	}
	if !slices.Equal(p.Warnings, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(p.Warnings, "\n"), strings.Join(want, "\n"))
	}
}

// A directory without any of the files is another one than was meant.
func TestEmptyDirectory(t *testing.T) {
	const text = "there is no servers.json, master.json, dictionary.json, serverProtos.json or clientProtos.json"
	for name, tc := range map[string]struct {
		file string
		want EmptyError
		text string
	}{
		"nothing":             {"README.md", EmptyError{Env: "production"}, text},
		"game-server":         {"config/servers.json", EmptyError{Env: "production", Path: "config"}, text},
		"root":                {"game-server/config/servers.json", EmptyError{Env: "production", Path: "game-server/config"}, text},
		"root, folders":       {"game-server/config/production/servers.json", EmptyError{Env: "production", Path: "game-server/config"}, text},
		"another environment": {"development/servers.json", EmptyError{Env: "production", Envs: []string{"development"}}, text + ` for environment "production"; there are files for development: give -env`},
	} {
		_, err := load(t, "production", map[string]string{tc.file: `{}`})
		var empty *EmptyError
		if !errors.As(err, &empty) || !reflect.DeepEqual(*empty, tc.want) || err.Error() != tc.text {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"development":{"connector":[{"id":"c","host":"h","port":"4050++","clientPort":"3050++","clusterCount":2}]}}`), []byte(`["a"]`))
	f.Fuzz(func(t *testing.T, servers, dictionary []byte) {
		_, _ = Load(fstest.MapFS{"servers.json": {Data: servers}, "dictionary.json": {Data: dictionary}}, "development")
	})
}
