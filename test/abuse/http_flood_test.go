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
	const lasts, mayTake = 3 * time.Second, 64 << 20
	request := httpText("GET", "/gate/queryEntry", "")
	for _, connections := range []int{200, 2000} {
		scenario{
			name: fmt.Sprint("HTTP flood by ", connections),
			busy: "an address may ask 50,000 times a second over HTTP, which takes a quarter of two processors beside attackers who never wait",
			attack: func(a *arena) error {
				took, before := a.spent(), a.metrics()["process_resident_memory_bytes"]
				most, err := a.most("process_resident_memory_bytes", func() error {
					n, err := a.pipeliners(max(2, a.n(connections)), lasts, request)
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
			without: weakness{flags: []string{"-addr-requests", "0"}, fails: `pomelod_refused_total{reason="addr_requests"} has grown by 0`},
		}.run(t)
	}
}
