package cluster_test

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/cluster"
)

// What one node knows all know, also those that were cut off when it was said, that were not there yet, and that come back without memory or with an
// old one.
func TestNotesReachAll(t *testing.T) {
	s := formed(t, "ccn", 0)
	known := make([]cluster.Notes, len(s.procs))
	look := func(text string) func() bool {
		return func() bool {
			all := true
			for i, p := range s.procs {
				if !p.up {
					continue
				}
				for _, n := range p.node.News() {
					known[i].Merge(n, uint64(s.now))
				}
				n, _ := known[i].Get("ban bob")
				all = all && string(n.Text) == text
			}
			return all
		}
	}
	write := func(i int, n cluster.Note) {
		known[i].Merge(n, uint64(s.now))
		s.procs[i].node.Write([]cluster.Note{n})
	}
	write(0, cluster.Note{Key: "ban bob", At: 100, Text: []byte("1")})
	if took := s.until("all know", 5000, look("1")); took > 50 {
		t.Errorf("it took %d ms where nothing is lost", took)
	}
	s.net.Loss = 1
	write(1, cluster.Note{Key: "ban bob", At: 101, Text: []byte("2")})
	s.pass(300)
	s.net.Loss = 0.2
	s.until("all know what was lost", 15_000, look("2"))
	s.net.Loss = 0
	s.calm()

	s.procs[2].kill()
	known[2] = cluster.Notes{}
	var many []cluster.Note
	for i := range 3000 { // more than a packet takes
		many = append(many, cluster.Note{Key: fmt.Sprint("n", i), At: 5, Text: []byte("a rule as long as rules are, with a reason and who it is by")})
	}
	s.procs[0].node.Write(many)
	s.pass(200)
	s.procs[2].boot()
	s.procs[2].node.Write([]cluster.Note{{Key: "ban bob", At: 100, Text: []byte("1")}}) // as its file says
	s.until("who was away knows", 20_000, func() bool { return look("2")() && len(known[2].All()) == len(many)+1 })
	write(2, cluster.Note{Key: "ban bob", At: 200})
	s.until("it is taken back", 5000, look(""))
}
