package cluster_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// cells count visits of the cells of ARCHITECTURE.md's tables: what came, and in which state it was met.
type cells map[[2]string]int

func (c cells) add(other cells) {
	for k, n := range other {
		c[k] += n
	}
}

// What comes to a partition at its Holder, and in which states it may be met.
var (
	roles        = []string{"unprotected", "protected", "sealed", "joiner", "follower", "nobody"}
	messageNames = map[cluster.Kind]string{
		cluster.KindRequest: "request", cluster.KindConfirm: "confirm", cluster.KindResend: "resend", cluster.KindSnapshot: "snapshot",
		cluster.KindRecords: "records", cluster.KindAck: "ack", cluster.KindConfirmed: "confirmed", cluster.KindSealed: "sealed",
	}
)

// What comes to a node, by the first byte of a packet, and in which states it may be met.
var (
	states      = []string{"serving", "held", "suspended", "lost", "stopped"}
	packetNames = [...]string{1: "heartbeat", "greeting", "view", "fetch", "ask", "answer", "batch", "batch ack"}
)

func (p *proc) state() string {
	if !p.running() {
		return "stopped"
	}
	return p.node.NodeState()
}

func (c cells) packet(p *proc, b []byte) {
	if int(b[0]) < len(packetNames) { // what comes behind has no states
		c[[2]string{packetNames[b[0]], p.state()}]++
	}
}

func (c cells) noResponder(p *proc) { c[[2]string{"no responders", p.state()}]++ }

func (c cells) message(p *proc, m *cluster.Message) {
	c[[2]string{messageNames[m.Kind], p.holder.RoleOf(m.Part)}]++
}

func (c cells) request(p *proc, r *channel.Request) {
	name := "request of a session"
	if r.Op == channel.OpLeave {
		name = "leave of a session"
	}
	c[[2]string{name, p.state()}]++
}

// adopted counts what views make of partitions.
func (c cells) adopted(before, after []string) {
	for i := range before {
		c[[2]string{"view: " + after[i], before[i]}]++
	}
}

func (p *proc) roles_() (list []string) {
	for part := range simParts {
		list = append(list, p.holder.RoleOf(uint16(part)))
	}
	return list
}

// fault counts a fault once for each state that some partition or node of the fleet is in.
func (c cells) fault(w *world, k faultKind) {
	for s := range w.met() {
		c[[2]string{faultRow(k), s}]++
	}
}

func faultRow(k faultKind) string { return "fault: " + faultNames[k] }

// met are the states that some partition or node of the fleet is in.
func (w *world) met() map[string]bool {
	met := map[string]bool{}
	for _, p := range w.procs {
		if !p.up {
			continue
		}
		met[p.state()] = true
		for _, r := range p.roles_() {
			met[r] = true
		}
	}
	return met
}

// rarest is which fault has met which state least often.
func (c cells) rarest() (cell string, n int) {
	n = -1
	for k := range faultKinds {
		for _, s := range append(slices.Clone(roles), states...) {
			if m := c[[2]string{faultRow(k), s}]; n < 0 || m < n {
				cell, n = faultNames[k]+" × "+s, m
			}
		}
	}
	return cell, n
}

// table is the cells as text.
func (c cells) table() (text string) {
	columns := append(slices.Clone(roles), states...)
	rows := map[string]bool{}
	for k := range c {
		rows[k[0]] = true
	}
	text = fmt.Sprintf("%-22s", "")
	for _, s := range columns {
		text += fmt.Sprintf("%12s", s)
	}
	for _, r := range slices.Sorted(maps.Keys(rows)) {
		text += fmt.Sprintf("\n%-22s", r)
		for _, s := range columns {
			text += fmt.Sprintf("%12d", c[[2]string{r, s}])
		}
	}
	return text
}

// reached are the cells that a thousand runs come to; the others that are not empty in ARCHITECTURE.md have tests of their own.
var reached = map[string][]string{
	"request":              {"unprotected", "protected", "sealed", "follower", "nobody"},
	"confirm":              {"unprotected", "protected", "sealed", "follower"},
	"ack":                  {"unprotected", "protected", "sealed", "follower"},
	"confirmed":            {"protected", "sealed", "joiner", "follower", "nobody"},
	"records":              {"joiner", "follower", "nobody"},
	"snapshot":             {"joiner"},
	"sealed":               {"follower"},
	"view: unprotected":    {"unprotected", "protected", "sealed", "joiner", "follower", "nobody"},
	"view: protected":      {"unprotected", "protected", "sealed", "follower"},
	"view: sealed":         {"unprotected", "protected", "sealed", "follower"},
	"view: follower":       {"sealed", "joiner", "follower"},
	"view: joiner":         {"joiner", "follower", "nobody"},
	"view: nobody":         {"follower", "nobody"},
	"heartbeat":            states,
	"greeting":             states,
	"view":                 states,
	"fetch":                {"serving", "held", "suspended", "lost"},
	"ask":                  {"serving", "held", "suspended", "lost"},
	"answer":               {"serving", "held", "suspended", "lost"},
	"batch":                states,
	"batch ack":            {"serving", "held", "suspended", "stopped"},
	"no responders":        {"serving", "held", "suspended"},
	"request of a session": {"serving", "held", "suspended"},
	"leave of a session":   {"serving", "held", "suspended"},
	"fault: kill":          {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost", "stopped"},
	"fault: pause":         {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost", "stopped"},
	"upgrade":              {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost"},
}

// missed are the cells of reached that nobody came to.
func (c cells) missed() (list []string, of int) {
	for row, columns := range reached {
		for _, s := range columns {
			of++
			if c[[2]string{row, s}] == 0 {
				list = append(list, row+" × "+s)
			}
		}
	}
	slices.Sort(list)
	return list, of
}
