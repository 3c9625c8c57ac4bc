//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// filterService is a service for -filter-url that does as a message says: "bad" and "no" it refuses, "darn" it replaces; "slow" it never answers; it goes away for "away", and its other
// answers are none, lie, or are huge.
func filterService(w http.ResponseWriter, r *http.Request) {
	var q struct{ Room, Name, Target, Content, Address string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || q.Room == "" || q.Name == "" || q.Address == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	switch q.Content {
	case "bad":
		fmt.Fprint(w, `{"refuse":true}`)
	case "no":
		w.WriteHeader(http.StatusForbidden)
	case "slow":
		<-r.Context().Done()
	case "away":
		panic(http.ErrAbortHandler)
	case "elsewhere":
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	case "broken":
		w.WriteHeader(http.StatusBadGateway)
	case "nothing":
		fmt.Fprint(w, `null`)
	case "a lie":
		fmt.Fprint(w, `{"refuse":"perhaps"}`)
	case "half":
		fmt.Fprint(w, `{"content":"ha`)
	case "huge":
		fmt.Fprintf(w, `{"content":%q}`, strings.Repeat("x", 1<<20))
	default:
		if !strings.Contains(q.Content, "darn") {
			fmt.Fprint(w, `{}`)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"content": strings.ReplaceAll(q.Content, "darn", "d*")})
	}
}

// filtered is a pomelod with a filter, and two members of a room.
type filtered struct {
	*administered
	alice, bob *tcpClient
}

func withFilter(t *testing.T, url, down string, args ...string) *filtered {
	f := &filtered{administered: administer(t, append([]string{"-filter-url", url, "-filter-down", down, "-limits", "off"}, args...)...)}
	f.alice, f.bob = login(t, f.addr("connector")), login(t, f.addr("connector"))
	f.alice.enter("alice", "lobby")
	f.bob.enter("bob", "lobby")
	return f
}

// says has alice say something, and returns the answer; and what bob heard before a message of his own came back to him.
func (f *filtered) says(text, target string) (answer string, heard []string) {
	f.t.Helper()
	answer = f.alice.ask(sendRoute, fmt.Sprintf(`{"content":%q,"target":%q}`, text, target))
	f.bob.id++
	f.bob.write(f.bob.message(f.bob.id, "chat.chatHandler.history", `{}`)) // its answer comes behind what was said
	for {
		m, err := codec.ParseMessage(f.bob.next().Body)
		if err != nil {
			f.t.Fatal(err)
		}
		if m.Type == codec.MessageResponse {
			return answer, heard
		}
		var push struct {
			Msg    string
			Target string
		}
		if err := json.Unmarshal(m.Body, &push); err != nil {
			f.t.Fatal(err)
		}
		heard = append(heard, push.Target+" "+push.Msg)
	}
}

// filteredBy is how often a result is counted.
func (f *filtered) filteredBy(result string) (n int) {
	f.t.Helper()
	for line := range strings.Lines(string(must(askAdmin(f.socket, "/metrics", nil)))) {
		if rest, is := strings.CutPrefix(line, `pomelod_filtered_total{result="`+result+`"} `); is {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

const notSaid = `{"code":500,"reason":"filter"}`

// A service passes, changes and refuses what is said, to a room and to one of its members. What it does not answer as it should is refused or said, as -filter-down says.
func TestFilterService(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(filterService))
	t.Cleanup(service.Close)
	for _, down := range []string{"refuse", "pass"} {
		t.Run(down, func(t *testing.T) {
			t.Parallel()
			f := withFilter(t, service.URL, down, "-filter-timeout", "10s")
			want := func(text, target, answer string, heard ...string) {
				t.Helper()
				if got, told := f.says(text, target); got != answer || !slices.Equal(told, heard) {
					t.Errorf("%s to %s: answered %s, bob hears %q, want %s and %q", text, target, got, told, answer, heard)
				}
			}
			want("hello", "*", `{}`, "* hello")
			want("oh darn", "*", `{}`, "* oh d*")
			want("darn you", "bob", `{}`, "bob d* you")
			want("bad", "*", notSaid)
			want("bad", "bob", notSaid)
			want("no", "*", notSaid)
			failing := []string{"away", "elsewhere", "broken", "nothing", "a lie", "half", "huge"}
			for _, text := range failing {
				if down == "pass" {
					want(text, "*", `{}`, "* "+text)
				} else {
					want(text, "*", notSaid)
				}
				want("and on", "*", `{}`, "* and on") // or it would rest
			}
			passed := 1 + len(failing)
			for result, n := range map[string]int{"passed": passed, "changed": 2, "refused": 3, "failed": len(failing), "busy": 0} {
				if got := f.filteredBy(result); got != n {
					t.Errorf("counted as %s %d times, want %d", result, got, n)
				}
			}
			f.waitLog("messages cannot be looked at by the filter")
			for _, text := range failing {
				if strings.Contains(f.log(), `"`+text) {
					t.Errorf("the log has what was said: %s", text)
				}
			}
		})
	}
}

// A service that is slow is given up in time; one that is away is not asked any more after five failures, and again when it is back.
func TestFilterServiceIsSlowAndAway(t *testing.T) {
	for _, down := range []string{"refuse", "pass"} {
		t.Run(down, func(t *testing.T) {
			t.Parallel()
			service := httptest.NewUnstartedServer(http.HandlerFunc(filterService))
			at := service.Listener.Addr().String()
			service.Start()
			failed := func(f *filtered, text string) {
				t.Helper()
				answer, heard := notSaid, []string(nil)
				if down == "pass" {
					answer, heard = `{}`, []string{"* " + text}
				}
				if got, told := f.says(text, "*"); got != answer || !slices.Equal(told, heard) {
					t.Errorf("%s: answered %s, bob hears %q, want %s and %q", text, got, told, answer, heard)
				}
			}
			failed(withFilter(t, service.URL, down, "-filter-timeout", "50ms"), "slow")
			f := withFilter(t, service.URL, down, "-filter-timeout", "10s")
			if got, told := f.says("hello", "*"); got != `{}` || !slices.Equal(told, []string{"* hello"}) {
				t.Errorf("answered %s, bob hears %q", got, told)
			}
			service.CloseClientConnections()
			service.Close()
			for range 8 {
				failed(f, "is it away")
			}
			if n := f.filteredBy("failed"); n != 8 {
				t.Errorf("%d have failed", n)
			}
			ln, err := net.Listen("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			back := &http.Server{Handler: http.HandlerFunc(filterService)}
			go func() { _ = back.Serve(ln) }()
			t.Cleanup(func() { back.Close() })
			until(t, "the service is asked again", func() bool {
				_, heard := f.says("darn", "*")
				return slices.Equal(heard, []string{"* d*"})
			})
		})
	}
}

// An upgrade sends nobody away whose message is at the filter, and what was said is heard once, in order.
func TestUpgradeKeepsWhatIsAtTheFilter(t *testing.T) {
	asked := make(chan struct{})
	var times atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Content string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		if q.Content == "held" && times.Add(1) == 1 {
			close(asked)
			<-r.Context().Done() // the process has ended, or has waited for as long as it does
			return
		}
		fmt.Fprint(w, `{}`)
	}))
	defer service.Close()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	u := startUpgradable(t, "x=y", nil, "-filter-url", service.URL, "-filter-down", "pass", "-filter-timeout", "10s", "-admin-socket", socket)
	alice, bob := login(t, u.addr("connector")), login(t, u.addr("connector"))
	alice.enter("alice", "lobby")
	bob.enter("bob", "lobby")
	alice.write(alice.message(7, sendRoute, `{"content":"held","target":"*"}`))
	<-asked
	alice.write(alice.message(8, sendRoute, `{"content":"behind it","target":"*"}`))
	u.mustUpgrade()
	hears := func(c *tcpClient, n int) (all []string) {
		for len(all) < n {
			m, err := codec.ParseMessage(c.next().Body)
			switch {
			case err != nil:
				t.Fatal(err)
			case m.Type == codec.MessageResponse:
				all = append(all, fmt.Sprintf("%d %s", m.ID, m.Body))
			case string(m.Route) == "onChat":
				all = append(all, string(m.Body))
			}
		}
		return all
	}
	said := []string{`{"msg":"held","from":"alice","target":"*"}`, `{"msg":"behind it","from":"alice","target":"*"}`}
	if got := hears(bob, 2); !slices.Equal(got, said) {
		t.Errorf("bob hears %q", got)
	}
	got := hears(alice, 4)
	slices.Sort(got)
	if want := append([]string{"7 {}", "8 {}"}, said[1], said[0]); !slices.Equal(got, want) {
		t.Errorf("alice is told %q, want %q", got, want)
	}
	if got := bob.ask(sendRoute, `{"content":"and on","target":"alice"}`); got != `{}` { // nothing is said twice
		t.Error(got)
	}
	if got := hears(alice, 1); !strings.Contains(got[0], "and on") {
		t.Errorf("alice hears %q", got)
	}
	if log := u.log(); !strings.Contains(log, `"closed":0`) {
		t.Error("somebody was sent away; see the log")
	}
}
