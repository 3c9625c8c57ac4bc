package router

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Who is cut off on one wire may return by any other, extended or not before and after: it is told what it missed, once and in order, and nobody else notices.
// Cuts of every kind are on the way: each wire that is left is cut in another of its ways, in turn.
func TestReturnByAnotherWire(t *testing.T) {
	wires, extended := waysToGo(), extendedWires()
	said := regexp.MustCompile(`"msg\\?":\\?"(\w+)`)
	shapes := []shape{{loops: 1}, {loops: 3, roundTrip: true, follow: true}}
	if !raceEnabled {
		shapes = append(shapes, fleets[2])
	}
	turn := 0
	for _, from := range slices.Sorted(maps.Keys(wires)) {
		for _, to := range slices.Sorted(maps.Keys(wires)) {
			for was := range 2 {
				for is := range 2 {
					turn++
					ways := slices.Sorted(maps.Keys(wires[from].cuts))
					way, sh := ways[turn%len(ways)], shapes[turn%len(shapes)]
					t.Run(fmt.Sprintf("%s,%s,%s,extended=%v,%v,%v", from, way, to, was == 1, is == 1, sh), func(t *testing.T) {
						r := newRig(t, sh, keepPlaces)
						enter := func(wire string, as int, more string) (extendedClient, string) {
							c := wires[wire].open
							if as == 1 {
								c, more = extended[wire], `,"seq":true`+more
							}
							bob := c(r)
							return bob, bob.ask(routeEnter, `{"username":"bob","rid":"r",`+secretOfB+more+`}`)
						}
						bob, answer := enter(from, was, "")
						wires[from].cuts[way](r, bob)
						r.net.Settle()
						ann := r.login(atConnector, false)
						if got := ann.enter("ann", "r"); got != `{"users":["bob","ann"]}` {
							t.Fatalf("ann is answered %s", got)
						}
						for i := range 3 {
							ann.ask(routeSend, sendBody(fmt.Sprint("missed", i), "*"))
						}
						ann.take()
						since := ""
						if was == 1 && is == 1 {
							since = `,"since":` + memberOf(t, answer, "seq")
						}
						again, answer := enter(to, is, since)
						if got := memberOf(t, answer, "users"); got != `["bob","ann"]` {
							t.Fatalf("bob is answered %s", answer)
						}
						if since != "" && memberOf(t, answer, "complete") != "true" {
							t.Errorf("not complete: %s", answer)
						}
						ann.ask(routeSend, sendBody("live", "*"))
						var told []string
						for _, line := range again.take() {
							m := said.FindStringSubmatch(line)
							if m == nil {
								continue
							}
							told = append(told, m[1])
							if strings.Contains(line, `"seq`) != (is == 1) || strings.Contains(line, `"rid`) != (is == 1) {
								t.Errorf("told in another form: %s", line)
							}
						}
						if got := strings.Join(told, " "); got != "missed0 missed1 missed2 live" {
							t.Errorf("told %q", got)
						}
						ann.want(`push 0 onChat {"msg":"live","from":"ann","target":"*"}`)
					})
				}
			}
		}
	}
}
