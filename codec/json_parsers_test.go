package codec

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// Parsers of other languages, one line of JSON each; they fail at the first that they refuse. Python's is asked not to take NaN or
// Infinity for numbers and to refuse equal keys.
var otherParsers = map[string][]string{
	"python3": {"-c", `
import json, sys
def no(x): raise ValueError(x)
def pairs(p):
    keys = [k for k, _ in p]
    if len(set(keys)) != len(keys): no("equal keys")
    return dict(p)
def number(x):
    f = float(x)
    if f in (float("inf"), float("-inf")): no(x)
    return f
for line in sys.stdin.buffer:
    json.loads(line.decode("utf-8"), parse_constant=no, object_pairs_hook=pairs, parse_float=number)
print("ok")`},
	"node": {"-e", `
const lines = require("fs").readFileSync(0, "utf8").split("\n");
for (const line of lines) if (line) {
  const text = JSON.stringify(JSON.parse(line));
  if (line.includes("Infinity")) throw new Error(line);
  if (text !== JSON.stringify(JSON.parse(text))) throw new Error(line);
}
console.log("ok");`},
}

func TestOtherParsersReadWhatIsTold(t *testing.T) {
	var lines bytes.Buffer
	for _, s := range append(jsonSeeds, `{"a":1,"a":{"b":1e400,"b":2},"\u0061":[1e999]}`, `{"x":"\ud800","x":"😀"}`, strings.Repeat("1", 5000), `[1e309,1e-400,0e99999999]`,
		strings.Repeat(`{"a":1,"a":`, 127)+`1e400`+strings.Repeat("}", 127)) {
		in := NormalizeUTF8([]byte(s))
		if out := AppendCanonical(nil, in); ValidJSON(in) && !bytes.ContainsRune(out, '\n') {
			lines.Write(append(out, '\n'))
		}
	}
	for name, args := range otherParsers {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skip("no " + name + " here")
			}
			cmd := exec.Command(path, args...)
			cmd.Stdin = bytes.NewReader(lines.Bytes())
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
