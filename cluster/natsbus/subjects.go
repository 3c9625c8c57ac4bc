package natsbus

import (
	"fmt"
	"net/url"
	"strings"
)

// Subjects, all below one prefix, so that an operator grants a fleet one line: publish and subscribe to "pomelod.CLUSTER.>".
//
//	pomelod.CLUSTER.all                  announcements
//	pomelod.CLUSTER.node.NAME            the mailbox of a node
//	pomelod.CLUSTER.nobody.NAME.OTHER    where NATS tells NAME that nobody receives what it sends to OTHER
type subjects struct {
	prefix, all string
	mailbox     string // this node's
	nobody      string // of this node, without OTHER
}

// maxCluster is the longest name of a cluster, in bytes.
const maxCluster = 64

func newSubjects(cluster, node string) (subjects, error) {
	if cluster == "" || len(cluster) > maxCluster || strings.ContainsFunc(cluster, func(r rune) bool { return !plain(r) }) {
		return subjects{}, fmt.Errorf("cluster name %q: write 1 to %d letters, digits, - or _", cluster, maxCluster)
	}
	if node == "" {
		return subjects{}, fmt.Errorf("a node without a name cannot be found on the bus")
	}
	prefix := "pomelod." + cluster + "."
	return subjects{
		prefix: prefix, all: prefix + "all", mailbox: prefix + "node." + token(node), nobody: prefix + "nobody." + token(node) + ".",
	}, nil
}

// of is the mailbox of a node, and where NATS answers when nobody has it.
func (s *subjects) of(name string) (mailbox, nobody string) {
	t := token(name)
	return s.prefix + "node." + t, s.nobody + t
}

// missing is whom a subject below nobody is about.
func (s *subjects) missing(subject string) (name string, ok bool) {
	t, ok := strings.CutPrefix(subject, s.nobody)
	if !ok {
		return "", false
	}
	name, err := url.PathUnescape(t)
	return name, err == nil
}

// plain are the characters that stand for themselves in a token: NATS gives none of them a meaning.
func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// token is a node's name as one token of a subject: all but plain characters as %XX.
func token(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c < 0x80 && plain(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
