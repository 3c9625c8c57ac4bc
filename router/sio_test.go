package router

import (
	"fmt"
	"testing"
)

// Members of every kind in one room are told the same, in the same order, and each gets its push before its answer.
func TestFlavoursChat(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		var all []*sioClient
		hybrid := r.login(atConnector, true)
		hybrid.enter("hybrid", "r")
		users := `"hybrid"`
		for i, kind := range flavours {
			c := r.sioLogin(kind)
			name := fmt.Sprint("n", i)
			users += `,"` + name + `"`
			if got := c.enter(name, "r"); got != `{"users":[`+users+`]}` {
				t.Fatalf("%s: %s", kind.name, got)
			}
			r.run(append(all, c)...)
			all = append(all, c)
			for _, other := range all[:i] {
				other.want(fmt.Sprintf(`push 0 onAdd {"route":"onAdd","user":"%s"}`, name))
			}
			hybrid.want(fmt.Sprintf(`push 0 onAdd {"route":"onAdd","user":"%s"}`, name))
		}
		for i, c := range all {
			id := c.request(routeSend, sendBody("héllo 王 "+smile, "*"))
			push := fmt.Sprintf(`push 0 onChat {"msg":"héllo 王 \ud83d\ude00","from":"n%d","target":"*"}`, i)
			r.run(all...)
			for j, other := range all {
				if i == j {
					other.want(push, fmt.Sprintf("answer %d {}", id))
				} else {
					other.want(push)
				}
			}
			hybrid.want(push)
		}
		r.endAll()
		r.balanced()
	})
}
