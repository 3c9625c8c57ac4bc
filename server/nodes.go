//go:build linux

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pomelod/pomelod/admin"
)

// pomelod list and pomelod drain talk to the admin address of any node: each knows them all, and passes on what is for another one.

// listCommand is `pomelod list`.
var listCommand = command{
	name: "list", help: "show the nodes of a fleet, as the one that is asked sees them",
	about: `
OWNS is how many of the 1024 partitions of rooms a chat node decides for, FOLLOWS how many it could take over. STATE is ok; joining: it lives and is no
member yet; draining: it ends, and is given nothing; deaf: it does not hear the others well enough; silent: it has not been heard for 1.5 s, and is
taken for dead after 3. The maker is the node whose turn it is to say who is a member and who has what.
`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		addr := nodeFlag(f, c, false)
		output := f.String("o", "text", "`text` for people, or json")
		return func([]string) error {
			if *output != "text" && *output != "json" {
				return settingsError{fmt.Errorf("-o %s: must be text or json", *output)}
			}
			return listNodes(addr(), *output == "json", c.stdout)
		}
	},
}

// drainCommand is `pomelod drain`.
var drainCommand = command{
	name: "drain", args: "NODE", least: 1, most: 1, help: "have a node of a fleet end in order, and wait until it has left",
	about: `
Gates stop naming the node, its partitions go to others, its clients are sent away over its -drain, and it ends with exit code 0: it is SIGTERM from
afar. Any node of the fleet may be asked, by its socket; by an address with a token of its -admin-token-file in POMELOD_ADMIN_TOKEN. Exit code 1 says that the node is not gone after -wait; it goes on draining.
`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		addr := nodeFlag(f, c, true)
		wait := f.Duration("wait", 2*time.Minute, "`time` to wait at most; 0 for not at all")
		return func(words []string) error { return drainNode(addr(), words[0], *wait, c.stdout) }
	},
}

// tokenEnv is the variable with a token of -admin-token-file, for requests by TCP.
const tokenEnv = "POMELOD_ADMIN_TOKEN"

// nodeFlag adds the flag by which a command finds a node, of which it may want more than to be told, and returns what tells the address, once flags are parsed.
func nodeFlag(f *flag.FlagSet, c *caller, writes bool) func() string {
	addr := f.String("admin", adminAddr(c.environ), "`address` that is the -admin of any node of the fleet, or the path of its -admin-socket; POMELOD_ADMIN and POMELOD_ADMIN_SOCKET say another default. Where neither is given and nobody answers, any node of this machine that has a socket")
	return func() string {
		if wasGiven(f, "admin") || variables(c.environ, "POMELOD_ADMIN")["POMELOD_ADMIN"] != "" {
			return *addr
		}
		if socket := variables(c.environ, "POMELOD_ADMIN_SOCKET")["POMELOD_ADMIN_SOCKET"]; strings.HasPrefix(socket, "/") { // as all other commands take it
			return socket
		}
		places := append([]string{*addr}, liveSockets(c.environ)...)
		if writes { // an address wants a token for that
			places = append(places[1:], *addr)
		}
		for _, a := range places {
			if _, _, err := fetchNodes(a); err == nil {
				return a
			}
		}
		return *addr
	}
}

// adminClient is a client for the admin server at addr, an address or the path of a socket, and the host of its URLs. HTTP_PROXY is for requests to the
// rest of the world, and not for nodes.
func adminClient(addr string) (client *http.Client, host string) {
	transport := &http.Transport{DisableKeepAlives: true}
	switch {
	case strings.HasPrefix(addr, "/"):
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr)
		}
		return &http.Client{Transport: transport}, "pomelod"
	case strings.HasPrefix(addr, ":"):
		addr = "127.0.0.1" + addr
	}
	return &http.Client{Transport: transport}, addr
}

// nodesTime is how long an answer about nodes may take.
const nodesTime = 5 * time.Second

// maxNodes is more than the list of the largest fleet has, in bytes.
const maxNodes = 64 << 20

// askAdmin makes a request of the admin server at addr. Without a body it is a GET.
func askAdmin(addr, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), nodesTime)
	defer cancel()
	method, content := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		content, _ = json.Marshal(body)
	}
	client, host := adminClient(addr)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, bytes.NewReader(content))
	if err != nil {
		return nil, settingsError{fmt.Errorf("-admin %q: %w", addr, err)}
	}
	req.Header.Set("Content-Type", "application/json")
	if token := os.Getenv(tokenEnv); token != "" && !strings.HasPrefix(addr, "/") {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, noAnswerError{fmt.Errorf("no pomelod answers at %s: %w; give the -admin address of a node that runs", addr, err)}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxNodes))
	switch {
	case err != nil:
		return nil, noAnswerError{fmt.Errorf("the answer of %s: %w", addr, err)}
	case resp.StatusCode == http.StatusNotFound && strings.HasPrefix(string(answer), "404 page not found"):
		if body != nil {
			return nil, fmt.Errorf("what answers at %s takes no such request: give the path of a node's admin socket, or the address of one that has -admin-token-file", addr)
		}
		return nil, fmt.Errorf("what answers at %s is no node of a fleet; it is one process for all, or an older version", addr)
	case resp.StatusCode >= 300:
		var refusal admin.Error
		if json.Unmarshal(answer, &refusal) == nil && refusal.Error != "" {
			answer = []byte(refusal.Error)
		}
		return nil, errors.New(printable(strings.TrimSpace(string(answer))))
	}
	return answer, nil
}

// noAnswerError means that nobody answers.
type noAnswerError struct{ error }

func (e noAnswerError) Unwrap() error { return e.error }

// fetchNodes asks a node for all of its fleet.
func fetchNodes(addr string) (*admin.Nodes, []byte, error) {
	answer, err := askAdmin(addr, "/nodes", nil)
	if err != nil {
		return nil, nil, err
	}
	all := new(admin.Nodes)
	if err := json.Unmarshal(answer, all); err != nil {
		return nil, nil, fmt.Errorf("what answers at %s tells no nodes: %w", addr, err)
	}
	return all, answer, nil
}

// listNodes writes the nodes of a fleet, as a table or as JSON.
func listNodes(addr string, asJSON bool, w io.Writer) error {
	all, answer, err := fetchNodes(addr)
	if err != nil {
		return err
	}
	if asJSON {
		_, err = io.WriteString(w, escapedJSON(string(answer)))
		return err
	}
	printNodes(w, all)
	return nil
}

// printNodes writes a table for people.
func printNodes(w io.Writer, all *admin.Nodes) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLES\tHOST\tCLIENTS\tOWNS\tFOLLOWS\tSTATE\tCLIENTS COME TO")
	members := 0
	for i := range all.Nodes {
		n := &all.Nodes[i]
		if n.State != "joining" {
			members++
		}
		count := func(role string, v string) string {
			if slices.Contains(n.Roles, role) {
				return v
			}
			return "-"
		}
		clients := strconv.FormatUint(n.Sessions, 10)
		if !slices.Contains(n.Roles, "connector") {
			clients = count("gate", clients)
		}
		state := n.State
		if n.Maker {
			state += ", maker"
		}
		address := n.Address
		if address == "" {
			address = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(n.Name), strings.Join(n.Roles, ","), printable(n.Host), clients,
			count("chat", strconv.Itoa(n.Owns)), count("chat", strconv.Itoa(n.Follows)), state, printable(address))
	}
	_ = t.Flush()
	switch {
	case all.View == 0:
		fmt.Fprintf(w, "%s is no member of a fleet yet\n", printable(all.Asked))
	case all.Unguarded > 0:
		fmt.Fprintf(w, "%d nodes, as %s sees them; %d partitions have no follower: a crash of their owner would lose their rooms\n", members, printable(all.Asked), all.Unguarded)
	default:
		fmt.Fprintf(w, "%d nodes, as %s sees them; every partition has a follower\n", members, printable(all.Asked))
	}
}

// Times of drainNode: how often it looks, and how often it asks again a node that does not drain, as the word may be lost.
const (
	drainLook  = 200 * time.Millisecond
	drainAgain = 2 * time.Second
)

// drainNode asks a node to end in order, and waits for that: at most so long, 0 for not at all.
func drainNode(addr, name string, wait time.Duration, w io.Writer) error {
	all, _, err := fetchNodes(addr)
	if err != nil {
		return err
	}
	node := findNode(all, name)
	if node == nil {
		var names []string
		for i := range all.Nodes {
			names = append(names, all.Nodes[i].Name)
		}
		return fmt.Errorf("no node %q is in this fleet; it has %s", name, printable(strings.Join(names, ", ")))
	}
	run, began, asked, told := node.Run, time.Now(), time.Time{}, ""
	joined := node.State != "joining" // a node that is joining behind it has been left out
	for {
		switch {
		case node == nil || node.Run != run || joined && node.State == "joining":
			fmt.Fprintf(w, "%s has left the fleet after %v\n", printable(name), time.Since(began).Round(100*time.Millisecond))
			return nil
		case node.State != "draining" && time.Since(asked) >= drainAgain:
			asked = time.Now()
			if _, err := askAdmin(addr, "/v1/drain", admin.Drain{Node: name}); err != nil {
				return err
			}
		}
		if wait == 0 {
			fmt.Fprintf(w, "%s was asked to end; pomelod list shows how far it is\n", printable(name))
			return nil
		}
		if text := fmt.Sprintf("%s: %d clients, decides for %d partitions", printable(name), node.Sessions, node.Owns); text != told {
			told = text
			fmt.Fprintln(w, text)
		}
		if time.Since(began) > wait {
			return fmt.Errorf("%s is still there after %v (%s); it goes on, pomelod list shows how far it is", name, wait, node.State)
		}
		time.Sleep(drainLook)
		own := all.Asked == name && (node.State == "draining" || !joined)
		all, _, err = fetchNodes(addr)
		if errors.As(err, new(noAnswerError)) && own { // it is the one that has ended
			fmt.Fprintf(w, "%s has ended after %v\n", printable(name), time.Since(began).Round(100*time.Millisecond))
			return nil
		}
		if err != nil {
			return err
		}
		node = findNode(all, name)
	}
}

func findNode(all *admin.Nodes, name string) *admin.Node {
	for i := range all.Nodes {
		if all.Nodes[i].Name == name {
			return &all.Nodes[i]
		}
	}
	return nil
}

// adminAddr is -admin's default for commands.
func adminAddr(environ []string) string {
	if addr := variables(environ, "POMELOD_ADMIN")["POMELOD_ADMIN"]; addr != "" {
		return addr
	}
	return "127.0.0.1:" + strconv.Itoa(defaultAdminPort)
}
