package fleet

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// namespace is a network of its own for one node, which a pair of interfaces joins to the machine. What goes wrong there goes wrong for packets, not for connections, whose
// ends hear nothing of it.
type namespace struct {
	t           *testing.T
	name        string
	here, there string // interfaces
	host, node  string // addresses
	way         *proxy // to NATS, at host
}

// newNamespace makes one; nil, with a sentence in the log, where the test may not.
func newNamespace(t *testing.T, nats string) *namespace {
	t.Helper()
	id := os.Getpid() % 10000
	n := &namespace{t: t, name: fmt.Sprint("pomelod-", id), here: fmt.Sprintf("pmd%da", id), there: fmt.Sprintf("pmd%db", id)}
	n.host, n.node = fmt.Sprintf("198.18.%d.1", id%250), fmt.Sprintf("198.18.%d.2", id%250) // of the network for tests of devices (RFC 2544)
	if os.Geteuid() != 0 {
		t.Log("the faults of a network are left out: only root may make network namespaces")
		return nil
	}
	for _, line := range []string{
		"netns add " + n.name,
		"link add " + n.here + " type veth peer name " + n.there,
		"link set " + n.there + " netns " + n.name,
		"addr add " + n.host + "/30 dev " + n.here,
		"link set " + n.here + " up",
		"-n " + n.name + " addr add " + n.node + "/30 dev " + n.there,
		"-n " + n.name + " link set " + n.there + " up",
		"-n " + n.name + " link set lo up",
	} {
		if err := n.ip(line); err != nil {
			t.Logf("the faults of a network are left out: %v", err)
			n.remove()
			return nil
		}
	}
	t.Cleanup(n.remove)
	n.way = newProxyAt(t, net.JoinHostPort(n.host, "0"), nats)
	return n
}

func (n *namespace) remove() {
	_ = n.ip("netns del " + n.name) // ends the pair of interfaces too, once nobody is there
	_ = n.ip("link del " + n.here)
}

// ip runs a command of ip, of iproute2.
func (n *namespace) ip(line string) error {
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, out)
	}
	return nil
}

func (n *namespace) must(line string) {
	n.t.Helper()
	if err := n.ip(line); err != nil {
		n.t.Fatal(err)
	}
}

// launch starts a node there.
func (n *namespace) launch(t *testing.T, name string, args ...string) *process {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"netns", "exec", n.name, binary, "-id", name}, append(nodeFlags(n.node), args...)...)
	return beginCommand(t, name, exec.Command("ip", args...))
}

// nowhere is the address of no interface: what is sent to it vanishes.
const nowhere = "02:00:00:00:00:01"

// Faults of the network. What each begins ends with its second function.

// away loses all packets.
func (n *namespace) away() { n.must("link set " + n.here + " down") }
func (n *namespace) back() { n.must("link set " + n.here + " up") }

// unheard loses the packets of the node, and deaf those for it.
func (n *namespace) unheard() {
	n.must("-n " + n.name + " neigh replace " + n.host + " lladdr " + nowhere + " nud permanent dev " + n.there)
}
func (n *namespace) heard() {
	n.must("-n " + n.name + " neigh del " + n.host + " dev " + n.there)
}
func (n *namespace) deaf() {
	n.must("neigh replace " + n.node + " lladdr " + nowhere + " nud permanent dev " + n.here)
}
func (n *namespace) hears() { n.must("neigh del " + n.node + " dev " + n.here) }
