//go:build linux

package abuse

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// slowStages are clients that say nothing at some stage, or a byte every tenth of a second.
var slowStages = []stage{
	{name: "a connection"},
	{name: "a part of a head", open: func(p *peer) error { return p.raw([]byte(upgradeHead[:40])) }},
	{name: "a head by bytes", say: drip([]byte(upgradeHead))},
	{name: "idle HTTP", open: func(p *peer) error {
		_, _, _, err := p.http("OPTIONS", pathPolling+"4", "")
		return err
	}},
	{name: "a POST by bytes", open: func(p *peer) error {
		sid, err := p.openPolling("3")
		if err != nil {
			return err
		}
		return p.raw([]byte(httpText("POST", pathPolling+"3&sid="+sid, "", "Content-Length: 1000")))
	}, say: drip(bytes.Repeat([]byte("1:2"), 300))},
	{name: "a handshake by bytes", say: drip(longHandshake)},
	{name: "no ack", open: (*peer).shake},
	{name: "an ack by bytes, again and again", open: (*peer).shake, say: func(tenths int) []byte {
		return codec.AppendPackage(nil, codec.PackageHandshake, nil)[tenths%4:][:1] // no ack; it may not be taken for progress
	}},
	{name: "a WebSocket", open: (*peer).upgrade},
	{name: "a frame by bytes", open: (*peer).upgrade, say: drip(wsFrame(0x82, longHandshake))},
	{name: "pings", open: (*peer).upgrade, say: func(int) []byte { return wsFrame(0x89, nil) }},
	{name: "an Engine.IO WebSocket", open: func(p *peer) error { return p.upgradeTo(pathSocket + "3") }},
	{name: "unanswered Engine.IO pings", open: func(p *peer) error {
		if err := p.upgradeTo(pathSocket + "4"); err != nil {
			return err
		}
		return p.raw(wsFrame(0x81, []byte("40")))
	}},
	{name: "no heartbeats", open: (*peer).speak},
	{name: "a message by bytes", open: (*peer).speak, say: drip(message(1, routeSend, `{"content":"`+long+`","target":"*"}`))},
	{name: "heartbeats alone", open: (*peer).login, say: func(tenths int) []byte {
		if tenths%5 == 0 {
			return heartbeat
		}
		return nil
	}},
}

// speak is login and a first message.
func (p *peer) speak() error {
	err := p.login()
	if err == nil {
		_, err = p.ask("no.such.route", "{}")
	}
	return err
}

// long is as much as nobody says in a few seconds, byte by byte.
const long = "0123456789012345678901234567890123456789012345678901234567890123456789"

// Clients that connect and say nothing, or no more than a byte now and then, are let go in good time, wherever they stop; what
// they say by bytes does not prolong it.
func TestSlowLogin(t *testing.T) {
	const (
		each = 32 // 512 clients
		end  = soon
	)
	scenario{
		name: "slow",
		flags: []string{"-handshake-timeout", "1s", "-head-timeout", "1s", "-keepalive-timeout", "1s", "-heartbeat", "1s",
			"-first-message-timeout", "3s", "-sio-heartbeat", "1s", "-sio-timeout", "1s", "-sio-timeout4", "1s"},
		attack: func(a *arena) error {
			return errors.Join(a.linger(slowStages, a.n(each), end), a.await(atMost(0), "pomelod_polling_sessions"))
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd(each)*float64(len(slowStages))) },
		held: func(d delta) error {
			var messages error // by bytes: silence and the time for a message end in the same second
			if n := d.grown(`pomelod_closed_total{reason="silent"}`) + d.grown(`pomelod_closed_total{reason="unfinished"}`); n < 5*crowd(each) {
				messages = fmt.Errorf("%v silent and unfinished ones were closed", n)
			}
			return errors.Join(messages,
				d.atLeast(`pomelod_closed_total{reason="handshake_timeout"}`, 7*crowd(each)),
				d.atLeast(`pomelod_closed_total{reason="http"}`, 3*crowd(each)), // and who says the first byte too late is of the others
				d.atLeast(`pomelod_closed_total{reason="silent"}`, 4*crowd(each)),
				d.atLeast(`pomelod_closed_total{reason="no_message"}`, crowd(each)))
		},
		without: weakness{
			flags: []string{"-handshake-timeout", "1h", "-handshake-packages", "0", "-head-timeout", "1h", "-keepalive-timeout", "1h", "-heartbeat", "0",
				"-idle-timeout", "1h", "-first-message-timeout", "0", "-sio-heartbeat", "1h", "-sio-timeout", "1h", "-sio-timeout4", "1h"},
			fails: "still connected: " + stageNames(slowStages) + "\npomelod_polling_sessions has stayed at",
		},
	}.run(t)
}

// crowd is arena.n for what counters tell.
func crowd(number int) float64 { return float64(new(arena).n(number)) }

// earlyStages are clients that say much before they have logged in.
var earlyStages = []stage{
	{name: "heartbeats", say: again(heartbeat)},
	{name: "acks", say: again(handshakeAck)},
	{name: "heartbeats before the ack", open: (*peer).shake, say: again(heartbeat)},
	{name: "messages", say: again(message(1, routeSend, `{"content":"x","target":"*"}`))},
	{name: "a giant handshake", say: again(codec.AppendPackage(nil, codec.PackageHandshake, giant))},
	{name: "long heartbeats", say: again(codec.AppendPackage(nil, codec.PackageHeartbeat, giant[:12_000]))},
	{name: "frames", open: (*peer).upgrade, say: again(wsFrame(0x82, heartbeat))},
	{name: "a frame of heartbeats", open: (*peer).upgrade, say: again(wsFrame(0x82, bytes.Repeat(heartbeat, 3000)))},
	{name: "a giant frame", open: (*peer).upgrade,
		say: again(wsFrame(0x82, codec.AppendPackage(nil, codec.PackageHandshake, giant)))},
	{name: "pings", open: (*peer).upgrade, say: again(wsFrame(0x89, nil))},
	{name: "pongs", open: (*peer).upgrade, say: again(wsFrame(0x8a, nil))},
	{name: "fragments", open: (*peer).upgrade, say: once(append(wsFrame(byte(codec.WSBinary), nil), again(wsFrame(0, nil))(0)...))},
	{name: "Engine.IO pings", open: func(p *peer) error { return p.upgradeTo(pathSocket + "4") },
		say: again(wsFrame(0x81, []byte("2")))},
}

// giant is a handshake that is longer than any honest one.
var giant = []byte(`{"sys":{"type":"abuse","version":"1"},"user":"` + string(bytes.Repeat([]byte("u"), 100_000)) + `"}`)

// again says something 5000 times at once, or as often as makes half a megabyte.
func again(b []byte) func(int) []byte { return once(bytes.Repeat(b, min(5000, 1+512<<10/len(b)))) }

func once(b []byte) func(int) []byte {
	return func(tenths int) []byte {
		if tenths > 0 {
			return nil
		}
		return b
	}
}

// A client that has not logged in may say no more than a login takes, of whatever kind.
func TestBytesBeforeLogin(t *testing.T) {
	const each, rounds = 20, 3
	scenario{
		name: "bytes before login",
		attack: func(a *arena) error {
			for range rounds {
				if err := a.linger(earlyStages, a.n(each), soon); err != nil {
					return err
				}
			}
			return nil
		},
		landed: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_accepted_total", crowd(each)*float64(len(earlyStages))),
				d.atLeast("pomelod_read_bytes_total", crowd(1<<20)))
		},
		held: func(d delta) error {
			if n := d.grown("pomelod_requests_total") - d.grown("pomelod_sends_total"); n > 2*pairs { // the witnesses' are on their way
				return fmt.Errorf("%v messages were listened to", n)
			}
			return d.atLeast(`pomelod_closed_total{reason="early"}`, rounds*crowd(each)*float64(len(earlyStages)))
		},
		without: weakness{
			flags: []string{"-handshake-bytes", "0", "-handshake-packages", "0"},
			fails: "still connected: " + stageNames(earlyStages),
		},
	}.run(t)
}
