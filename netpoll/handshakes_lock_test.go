package netpoll

import "testing"

// To end a handshake's coroutine runs crypto/tls, for which no other handshake waits.
func TestLeaveAbandonsOutsideTheLock(t *testing.T) {
	p := NewHandshakes(nil, HandshakeLimits{}, nil)
	ended, free := false, false
	h := &handshake{secure: &secure{}, stage: shakeParked, stop: func() {
		if ended, free = true, p.mu.TryLock(); free {
			p.mu.Unlock()
		}
	}}
	if p.leave(h); !ended || !free || h.stage != shakeOver {
		t.Errorf("ended %v, with the lock free %v, at stage %d", ended, free, h.stage)
	}
	ended = false
	h = &handshake{secure: &secure{}, stage: shakeRunning, stop: func() { ended = true }}
	if p.leave(h); ended || !h.gone {
		t.Error("a running step was ended by somebody else")
	}
}
