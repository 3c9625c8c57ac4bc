package router

import (
	"syscall"
	"testing"
)

// A WebSocket that dies while a session takes it over takes the session along, once: there is no polling to go back to.
func TestSocketDiesWhileItIsTaken(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		w := r.web(atConnector)
		w.send(upgradeTo(c.target("websocket")))
		r.net.Settle()
		other.take()
		w.sock.WriteErr = syscall.EPIPE // what is staged for it (3probe) is the first thing it has to write
		w.send(textFrame("2probe") + textFrame("5"))
		r.net.Settle()
		other.want(left)
		if c.session() != nil {
			t.Error("the session lives on")
		}
		for i, l := range r.node.loops {
			if l.np.Pulls() != 0 {
				t.Errorf("loop %d: %d sessions without a socket are left", i, l.np.Pulls())
			}
		}
	})
}
