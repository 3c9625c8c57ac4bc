package pomelod_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pomelod/pomelod"

// rule forbids imports, direct ones: where all of ours is ruled out but for a few, there is no way around. Paths stand for
// themselves and for everything below them.
type rule struct {
	from   []string // packages the rule is for; a folder that is not there is fine
	except []string // of these
	to     []string // what they must not import
	allow  []string // of these
	why    string
}

var rules = []rule{
	{
		from: ours("netpoll"), to: ours(""), allow: ours("netpoll", "internal/wirebytes"),
		why: "netpoll moves bytes: it must not learn what a room, a session or a wire is, so that loops can be tested with plain bytes",
	},
	{
		from: ours("codec"), to: ours(""), allow: ours("codec"),
		why: "codec is the ground everything stands on; whatever it needs of ours belongs into it",
	},
	{
		from: ours("codec"), to: []string{"net", "os", "syscall", "time", "golang.org/x/sys"}, allow: []string{"net/netip"},
		why: "codec is bytes in, values out: without socket, file or clock every wire can be fuzzed and replayed; netip is values",
	},
	{
		from: ours("limit"), to: ours(""), allow: ours("limit"),
		why: "limit counts; what is counted, and what becomes of who exceeds it, is for those to decide who ask",
	},
	{
		from: ours("limit"), to: []string{"net", "os", "syscall", "time", "golang.org/x/sys"}, allow: []string{"net/netip"},
		why: "without a clock every answer of a bucket can be tested to the nanosecond",
	},
	{
		from: ours("channel"), to: ours(""), allow: ours("channel", "codec", "internal/wirebytes"),
		why: "a worker knows neither sockets nor sessions, so that it can run on any loop, goroutine or node; its way out is its Outlet",
	},
	{
		from: ours("cluster"), to: ours(""), allow: ours("cluster", "channel", "codec"),
		why: "a fleet is views, links and partitions: bus, loops and sessions are handed in, so that whole fleets run in one test under virtual time",
	},
	{
		from: ours("cluster"), except: ours("cluster/membus", "cluster/natsbus", "cluster/sim"), to: []string{"net", "os", "syscall", "math/rand", "math/rand/v2", "golang.org/x/sys"}, allow: []string{"net/netip"},
		why: "the package decides by what it is given: a seed must repeat a whole fleet exactly",
	},
	{
		from: ours("fleet"), to: ours(""), allow: ours("fleet", "cluster", "channel", "netpoll", "internal/wirebytes"),
		why: "fleet joins loops to a bus side, and is handed both: router's tests run whole fleets, so it must not import router",
	},
	{
		from: ours("app", "internal/hosting"), except: ours("app/apptest"), to: ours(""), allow: ours("app", "internal/hosting", "auth", "channel", "codec", "limit"),
		why: "app is what programs see: a node hosts it by internal/hosting, so that neither sessions nor loops show in its documentation",
	},
	{
		from: ours(""), to: ours("app/apptest", "server/servertest", "netpoll/looptest"), except: ours("app/apptest"),
		why: "they are for tests; apptest runs a node on loops that looptest turns",
	},
	{
		from: ours(""), except: ours("app", "router", "internal/hosting"), to: ours("internal/hosting"),
		why: "what app and router know of each other is nobody else's: programs and server use app",
	},
	{
		from: ours("router"), to: ours(""), allow: ours("router", "auth", "filter", "app", "internal/hosting", "internal/wirebytes", "internal/names", "channel", "netpoll", "codec", "limit"),
		why: "router ties loops, wires and workers together; who reads flags, serves metrics or joins nodes sits above it and uses it",
	},
	{
		from: ours("history"), to: ours(""), allow: ours("history", "channel", "internal/wirebytes"),
		why: "history writes what workers tell it and reads it again; who may see it, and what loops do meanwhile, is not its matter",
	},
	{
		from: ours(""), except: ours("history"), to: []string{"go.etcd.io"},
		why: "one package knows that there are files, so that another way to keep can take its place",
	},
	{
		from: ours("internal/wirebytes"), to: ours(""), allow: ours("internal/wirebytes"),
		why: "it reads bytes for all that have an encoding of their own; what they mean is theirs",
	},
	{
		from: ours("auth", "filter"), to: []string{"net/http"},
		why: "a token is judged by keys that are here; only a hook asks anybody",
	},
	{
		from: ours("hook"), to: ours(""), allow: ours("hook", "auth", "filter"),
		why: "it asks others; what is made of their answers is for those to decide who have it ask",
	},
	{
		from: ours("filter"), to: ours(""), allow: ours("filter"),
		why: "it is what is said between who filters and who is filtered",
	},
	{
		from: ours("auth"), to: ours(""), allow: ours("auth"),
		why: "it says who somebody is; what they may do here is for those to decide who ask",
	},
	{
		from: ours(""), except: ours("auth/token"), to: []string{"github.com/golang-jwt"},
		why: "how a token is checked is decided in one place",
	},
	{
		from: ours("internal/names"), to: ours(""), allow: ours("internal/names"),
		why: "it judges text: whose name it is, and where, others know",
	},
	{
		from: ours("internal/handover"), to: ours(""), allow: ours("internal/handover", "internal/wirebytes"),
		why: "it carries what one process gives to the next: what that is, others know",
	},
	{
		from: ours("config"), to: ours(""), allow: ours("config", "codec"),
		why: "config says what files say; what is made of that is for the command to decide",
	},
	{
		from: ours("internal/logsink"), to: ours(""), allow: ours("internal/logsink"),
		why: "the log must work whatever else does not",
	},
	{
		from: ours("web"), to: ours(""), allow: ours("web"),
		why: "the page is a client: it knows the wire, not the server",
	},
	{
		from: ours(""), to: ours("cmd"),
		why: "a command wires everything together; whatever others need of it belongs into a package",
	},
	{
		from: ours("bench"), to: ours(""), allow: ours("bench"),
		why: "the load generator is a stranger: sharing code with the server would share its mistakes and hide its costs",
	},
	{
		from: ours(""), except: ours("netpoll"), to: []string{"github.com/panjf2000/gnet"},
		why: "gnet's poller has traps that netpoll knows; one package to change when it changes",
	},
	{
		from: ours(""), except: ours("codec", "interop"), to: []string{"github.com/bytedance/sonic", "github.com/gobwas"},
		why: "codec checks and repairs what these libraries let pass, and the build tag pomelod_stdjson must leave sonic out altogether; interop is a client",
	},
	{
		from: ours("interop"), to: ours(""), allow: ours("interop"),
		why: "interop's clients are strangers: with our codec in them they would only show that it agrees with itself",
	},
	{
		from: ours(""), except: ours("cluster/natsbus"), to: []string{"github.com/nats-io"},
		why: "NATS is one bus of several: everything but its package knows cluster.Bus only",
	},
	{
		from: ours(""), except: ours("admin", "bench"), to: []string{"github.com/prometheus"},
		why: "figures are plain numbers owned by loops; how they are shown is admin's business",
	},
}

func ours(folders ...string) []string {
	paths := make([]string, len(folders))
	for i, f := range folders {
		paths[i] = strings.TrimSuffix(module+"/"+f, "/")
	}
	return paths
}

// pkg is what go list tells of a package. The imports of its tests are left out: a test may use what it likes.
type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportsPointDown(t *testing.T) {
	for _, tags := range []string{"", "pomelod_stdjson"} {
		t.Run("tags="+tags, func(t *testing.T) {
			for _, p := range list(t, tags) {
				for _, r := range rules {
					for _, bad := range r.broken(p) {
						t.Errorf("%s must not import %s: %s", short(p.ImportPath), short(bad), r.why)
					}
				}
			}
		})
	}
}

// broken is what p imports against the rule.
func (r *rule) broken(p pkg) (bad []string) {
	if !within(p.ImportPath, r.from) || within(p.ImportPath, r.except) {
		return nil
	}
	for _, path := range p.Imports {
		if within(path, r.to) && !within(path, r.allow) {
			bad = append(bad, path)
		}
	}
	return bad
}

func within(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

// list asks go list for all packages of the module, as they are built for Linux.
func list(t *testing.T, tags string) (pkgs []pkg) {
	t.Helper()
	seeFolders(t)
	cmd := exec.Command("go", "list", "-tags", tags, "-json=ImportPath,Imports", "./...")
	cmd.Env = append(cmd.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v\n%s", err, failed.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no packages")
	}
	return pkgs
}

// seeFolders reads every folder, and thereby tells go test what this test's result depends on: it runs another program, of whose
// reading go test's cache knows nothing.
func seeFolders(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(_ string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
