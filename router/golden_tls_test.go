package router

import (
	"path/filepath"
	"strings"
	"testing"
)

// The clients of every golden transcript, each byte in a record of its own, are told over TLS what they are told without it, to the byte. The cookie alone says
// that browsers are to keep it for TLS.
func TestGoldenOverTLS(t *testing.T) {
	files, _ := filepath.Glob("../server/testdata/golden/*.jsonl")
	if len(files) < 16 {
		t.Fatalf("%d transcripts", len(files))
	}
	cookies := 0
	for _, file := range files {
		name, lines := filepath.Base(file), readGolden(t, file)
		t.Run(strings.TrimSuffix(name, ".jsonl"), func(t *testing.T) {
			var told [2][]string
			for i, sh := range []shape{{loops: 1}, {loops: 1, tls: true}} {
				g := newGoldenRun(false)
				g.rig = newRig(t, sh, goldenConfig(t, name))
				g.play(lines)
				told[i] = g.told()
				if n := len(g.order); sh.tls && g.hands.Stats().Done != uint64(n) {
					t.Errorf("%d handshakes of %d connections", g.hands.Stats().Done, n)
				}
			}
			for i, want := range told[0] {
				cookies += strings.Count(told[1][i], "; SameSite=Lax; Secure")
				if got := strings.ReplaceAll(told[1][i], "; SameSite=Lax; Secure", "; SameSite=Lax"); got != want {
					t.Fatalf("connection %d: without TLS\n%s\nwith it\n%s", i, want, told[1][i])
				}
			}
		})
	}
	if cookies == 0 {
		t.Error("no cookie is for TLS alone")
	}
}
