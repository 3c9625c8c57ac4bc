package router

import (
	"fmt"
	"strings"
	"testing"
)

// Content that has to be written anew for other members' parsers is bounded, and costs its sender more than one message; content that
// need not is neither.
func TestContentWrittenAnew(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		c := r.login(atConnector, true)
		c.enter("a", "room")
		object := func(n int, key string) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `,"%s":%d`, strings.ReplaceAll(key, "#", fmt.Sprint(i)), i)
			}
			return "{" + b.String()[1:] + "}"
		}
		for _, test := range []struct{ name, content, want string }{
			{"few equal keys", object(100, "k"), `{}`},
			{"many equal keys", object(4000, "key"), `{"code":500}`},
			{"many keys", object(4000, "key#"), `{}`},
		} {
			if got := c.ask(routeSend, `{"rid":"room","content":`+test.content+`,"target":"*"}`); got != test.want {
				t.Errorf("%s: %s, want %s", test.name, got, test.want)
			}
		}
	})
}
