//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pipeliners are connections of one address that ask for something over HTTP as fast as it is answered, thousands of requests in
// flight on each. They come back when they are closed.
func (a *arena) pipeliners(connections int, lasts time.Duration, request string) (answered int64, err error) {
	burst := []byte(strings.Repeat(request, 16<<10/len(request)))
	end := time.Now().Add(lasts)
	var got atomic.Int64
	err = together(connections, func(int) error {
		for time.Now().Before(end) {
			p, err := a.dial(0)
			if err != nil {
				return err
			}
			p.late = time.Until(end) + time.Millisecond
			read := make(chan struct{})
			go func() {
				defer close(read)
				_ = p.SetReadDeadline(end)
				n, _ := io.Copy(io.Discard, p.Conn)
				got.Add(n)
				p.Close()
			}()
			for p.raw(burst) == nil && time.Now().Before(end) {
			}
			p.Close()
			<-read
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	return got.Load(), err
}

// Connections of one address that pipeline requests without end: a rate refuses them, what they ask for waits behind what others do,
// and what they have sent is not kept.
func TestHTTPFlood(t *testing.T) {
	ofRate := httpFlood("HTTP flood by 200", 200, 3*time.Second)
	ofRate.without = weakness{flags: []string{"-addr-requests", "0"}, fails: `pomelod_refused_total{reason="addr_requests"} has grown by 0`}
	ofRate.run(t)
	ofShares := httpFlood("HTTP flood by 2000", 2000, 3*time.Second)
	ofShares.without = weakness{edits: withoutShares, fails: "pomelod_put_off_total has grown by 0"}
	ofShares.run(t)
	fewRequests(50, 2*time.Second).run(t)
}

// withoutShares serves whoever asks, however much its address has asked for in this turn.
var withoutShares = []edit{{"netpoll/shares.go", "return k.asked > clientAsks && k.turn == s.turn && p.shared()", "return k == nil"},
	{"netpoll/shares.go", "return now-s.began < shareNanos", "return now >= 0"}}

// httpFlood is by so many connections of one address. Without its defences it has everybody wait.
func httpFlood(name string, connections int, lasts time.Duration) scenario {
	const mayTake = 64 << 20
	return scenario{
		name: name,
		busy: "an address may ask 50,000 times a second over HTTP, which takes a quarter of two processors beside attackers who never wait",
		attack: func(a *arena) error {
			took, before := a.spent(), a.metrics()["process_resident_memory_bytes"]
			most, err := a.most("process_resident_memory_bytes", func() error {
				n, err := a.pipeliners(max(2, a.n(connections)), lasts, queryEntry)
				a.t.Logf("%.1f MB of answers", float64(n)/1e6)
				return err
			})
			a.t.Logf("RSS at most %.1f MB; the server took %v of the processors in %v", most/1e6, a.spent()-took, lasts)
			if err == nil && most > before+mayTake && !raceEnabled {
				err = fmt.Errorf("RSS has grown to %.1f MB", most/1e6)
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_http_requests_total", 1000) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="addr_requests"}`, 100), d.atLeast("pomelod_put_off_total", 100))
		},
		without: weakness{flags: []string{"-addr-requests", "0"}, edits: withoutShares},
	}
}

var queryEntry = httpText("GET", "/gate/queryEntry", "")

// fewRequests is a flood where an address may ask little: it is answered what it may ask, and no more, by however many connections it asks, and however
// often it comes back.
func fewRequests(connections int, lasts time.Duration) scenario {
	const perSecond, burst = 1000, 2000
	return scenario{
		name:  "HTTP flood that may ask little",
		flags: []string{"-addr-requests", fmt.Sprintf("%d:%d", perSecond, burst)},
		busy:  "what is judged is how many are answered",
		attack: func(a *arena) error {
			const answered = "pomelod_http_requests_total"
			before, began := a.metrics()[answered], time.Now()
			if _, err := a.pipeliners(connections, lasts, queryEntry); err != nil {
				return err
			}
			n, took := a.metrics()[answered]-before, time.Since(began)
			if most := burst + perSecond*(took.Seconds()+1); n > most { // a loop looks at the clock once a second
				return fmt.Errorf("%.0f requests were answered within %v, more than %.0f", n, took, most)
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_http_requests_total", burst/2) },
		held:    func(d delta) error { return d.atLeast(`pomelod_refused_total{reason="addr_requests"}`, 50) },
		without: weakness{flags: []string{"-addr-requests", "0"}, fails: "requests were answered within"},
	}
}
