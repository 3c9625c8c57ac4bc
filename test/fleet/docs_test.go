package fleet

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The commands of docs/CLUSTER.md make a fleet in which people talk. Addresses are replaced by free ones, nothing else.
func TestCommandsOfTheManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/CLUSTER.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	s := startNATS(t, nil)
	ports := regexp.MustCompile(`127\.0\.0\.1:30\d\d`)
	var nodes []*process
	for line := range strings.Lines(block) {
		line = strings.ReplaceAll(line, "nats://127.0.0.1:4222", s.url())
		words := strings.Fields(ports.ReplaceAllString(line, "127.0.0.1:0"))
		if words[0] != "pomelod" {
			t.Fatalf("%q is not a command of pomelod", line)
		}
		nodes = append(nodes, launch(t, "", words[1:]...))
	}
	if len(nodes) != 5 {
		t.Fatalf("%d commands", len(nodes))
	}
	for _, n := range nodes {
		n.waitReady()
	}
	p := gather(t, nodes[4].addr("gate"), 2, 4)
	p.talk()
	p.more(10)
	p.end()
}
