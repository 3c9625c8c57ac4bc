package router

import (
	"unsafe"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// Footprint is what one session can have of a loop, by the types and constants of this package and of netpoll, and of rooms, in bytes. It is for
// tests that add up what clients can take in all (docs/ARCHITECTURE.md); nothing here depends on it.
type Footprint struct {
	netpoll.Footprint
	SessionBytes int // a session
	ExtraBytes   int // what one has while it speaks HTTP, polls or waits for something, or when it has given a secret
	PendingBytes int // a request that waits for its answer, without what was answered
	FormFactor   int // how much longer the form of a JSONP session may be than what it says

	Rooms      channel.Footprint
	AwayOfOne  int // members of an address that are away
	AwayOfAll  int
	TokenBytes int // a login that waits
	LoginBytes int // all that wait
	LoginPart  int // what part of that one address may have
	Claims     int // as how many users' session one counts
	ReadCharge int // bytes of what was said that cost one enter
}

// FootprintOf is the Footprint of this build.
func FootprintOf() Footprint {
	return Footprint{
		Footprint:    netpoll.FootprintOf(),
		SessionBytes: int(unsafe.Sizeof(session{})),
		ExtraBytes:   int(unsafe.Sizeof(extra{}) + unsafe.Sizeof(rare{}) + unsafe.Sizeof(httpConn{}) + unsafe.Sizeof(pull{})),
		PendingBytes: int(unsafe.Sizeof(pending{})),
		FormFactor:   formFactor,

		Rooms: channel.FootprintOf(), AwayOfOne: maxGhosts, AwayOfAll: maxAway,
		TokenBytes: auth.MaxToken + loginCost, LoginBytes: maxLoginBytes, LoginPart: linePart, Claims: maxClaims, ReadCharge: readBytes,
	}
}
