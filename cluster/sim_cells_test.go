package cluster_test

import (
	"fmt"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// cells count visits of the cells of ARCHITECTURE.md's tables: what came, a row, and in which state it was met, a column.
type cells [len(rows)][len(columns)]int

func (c *cells) add(other *cells) {
	for row := range c {
		for column := range c[row] {
			c[row][column] += other[row][column]
		}
	}
}

// The states in which something may be met: of a partition at its Holder, and of a node.
var (
	columns = [...]string{"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost", "stopped"}
	states  = columns[6:]
)

// rows are what comes. What comes to a node begins with the kinds of packets, in the order of their first bytes.
var rows = [...]string{
	"", "heartbeat", "greeting", "view", "fetch", "ask", "answer", "batch", "batch ack",
	"request", "confirm", "resend", "snapshot", "records", "ack", "confirmed", "sealed",
	"view: unprotected", "view: protected", "view: sealed", "view: joiner", "view: follower", "view: nobody",
	"no responders", "request of a session", "leave of a session", "upgrade",
	"fault: kill", "fault: cut", "fault: one-way cut", "fault: groups", "fault: away", "fault: all away", "fault: pause", "fault: loss", "fault: drain", "fault: clock",
}

// Places of rows that something is noted in often.
var (
	packetNames = rows[:rowOf("batch ack")+1] // by the first byte of a packet; what comes behind has no states
	messageRows = map[cluster.Kind]int{
		cluster.KindRequest: rowOf("request"), cluster.KindConfirm: rowOf("confirm"), cluster.KindResend: rowOf("resend"), cluster.KindSnapshot: rowOf("snapshot"),
		cluster.KindRecords: rowOf("records"), cluster.KindAck: rowOf("ack"), cluster.KindConfirmed: rowOf("confirmed"), cluster.KindSealed: rowOf("sealed"),
	}
	viewRow, nobodyRow, requestRow, leaveRow, upgradeRow, faultRow = rowOf("view: unprotected"), rowOf("no responders"), rowOf("request of a session"), rowOf("leave of a session"), rowOf("upgrade"), rowOf("fault: kill")
)

// rowOf and columnOf are the places of names, which must be there.
func rowOf(name string) int     { return placeOf(rows[:], name) }
func columnOf(state string) int { return placeOf(columns[:], state) }
func placeOf(list []string, name string) int {
	i := slices.Index(list, name)
	if i < 0 {
		panic(name)
	}
	return i
}

func (p *proc) state() string {
	if !p.running() {
		return "stopped"
	}
	return p.node.NodeState()
}

// visit counts something that comes to a process.
func (c *cells) visit(row int, p *proc) { c[row][columnOf(p.state())]++ }

func (c *cells) packet(p *proc, b []byte) {
	if int(b[0]) < len(packetNames) {
		c.visit(int(b[0]), p)
	}
}

func (c *cells) message(p *proc, m *cluster.Message) {
	c[messageRows[m.Kind]][columnOf(p.holder.RoleOf(m.Part))]++
}

func (c *cells) request(p *proc, r *channel.Request) {
	if r.Op == channel.OpLeave {
		c.visit(leaveRow, p)
	} else {
		c.visit(requestRow, p)
	}
}

// adopted counts what views make of partitions.
func (c *cells) adopted(before, after [simParts]int) {
	for i := range before {
		c[viewRow+after[i]][before[i]]++
	}
}

// upgraded counts an upgrade for all that the process is to its partitions, and for what it is itself.
func (c *cells) upgraded(p *proc) {
	c.visit(upgradeRow, p)
	for _, role := range p.rolesNow() {
		c[upgradeRow][role]++
	}
}

// rolesNow are the columns of the process's partitions.
func (p *proc) rolesNow() (list [simParts]int) {
	for part := range list {
		list[part] = columnOf(p.holder.RoleOf(uint16(part)))
	}
	return list
}

// fault counts a fault once for each state that some partition or node of the fleet is in.
func (c *cells) fault(w *world, k faultKind) {
	for column, met := range w.met() {
		if met {
			c[faultRow+int(k)][column]++
		}
	}
}

// met tells in which states some partition or node of the fleet is.
func (w *world) met() (met [len(columns)]bool) {
	for _, p := range w.procs {
		if !p.up {
			continue
		}
		met[columnOf(p.state())] = true
		for _, role := range p.rolesNow() {
			met[role] = true
		}
	}
	return met
}

// rarest is which fault has met which state least often.
func (c *cells) rarest() (cell string, n int) {
	n = -1
	for k := range faultKinds {
		for column, m := range c[faultRow+int(k)] {
			if n < 0 || m < n {
				cell, n = faultNames[k]+" × "+columns[column], m
			}
		}
	}
	return cell, n
}

// table is the cells as text.
func (c *cells) table() (text string) {
	text = fmt.Sprintf("%-22s", "")
	for _, s := range columns {
		text += fmt.Sprintf("%12s", s)
	}
	for row, name := range rows[1:] {
		text += fmt.Sprintf("\n%-22s", name)
		for _, n := range c[row+1] {
			text += fmt.Sprintf("%12d", n)
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
	"view: nobody":         {"joiner", "follower", "nobody"},
	"heartbeat":            states,
	"greeting":             states,
	"view":                 states,
	"fetch":                states,
	"ask":                  {"serving", "held", "suspended", "lost"},
	"answer":               {"serving", "held", "suspended", "lost"},
	"batch":                states,
	"batch ack":            states,
	"no responders":        {"serving", "held", "suspended", "lost"},
	"request of a session": {"serving", "held", "suspended"},
	"leave of a session":   {"serving", "held", "suspended"},
	"fault: kill":          {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost", "stopped"},
	"fault: pause":         {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost", "stopped"},
	"upgrade":              {"unprotected", "protected", "sealed", "joiner", "follower", "nobody", "serving", "held", "suspended", "lost"},
}

// missed are the cells of reached that nobody came to.
func (c *cells) missed() (list []string, of int) {
	for row, columns := range reached {
		for _, s := range columns {
			of++
			if c[rowOf(row)][columnOf(s)] == 0 {
				list = append(list, row+" × "+s)
			}
		}
	}
	slices.Sort(list)
	return list, of
}
