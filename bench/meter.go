//go:build linux

package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"time"
)

// meter is the measured window: between warm-up and drain it takes what the server used and what came of it.
type meter struct {
	run               *run
	length            time.Duration
	start, from, till int64
	span              int64 // from from to till; of all slices, when there were several
	before, after     usage
	got               int64 // deliveries or answers before the window, then within
	reads             int64
	busy, last        int64 // time in turns that found something; when the last turn ended
	lag               int64 // the most that a message was sent after it was due
	latency           histogram
	begun             bool
}

// newMeter begins the warm-up. From here to the end of the run the garbage collector rests, unless memory runs short:
// what measures allocates next to nothing.
func newMeter(r *run) *meter {
	runtime.GC()
	debug.SetGCPercent(-1)
	now := clock()
	return &meter{run: r, length: r.window, start: now, from: now + int64(r.warm), till: math.MaxInt64, last: now}
}

// newSlice is newMeter for one of the slices of the window.
func newSlice(r *run) *meter {
	m := newMeter(r)
	m.length /= time.Duration(r.slices)
	return m
}

// turn is told of every turn, and tells when the window has ended. got counts from the start.
func (m *meter) turn(now int64, found bool, got int64) bool {
	if found && m.begun {
		m.busy += now - m.last
	}
	m.last = now
	switch {
	case !m.begun && now >= m.from:
		m.begun = true
		m.before, m.from = m.run.target.usage(), clock()
		m.till = m.from + int64(m.length)
		m.got, m.reads, m.lag, m.last = got, m.run.driver.reads, 0, m.from
		m.run.progress("measuring for %v", m.length)
	case m.begun && now >= m.till:
		m.till = clock()
		m.span = m.till - m.from
		m.after = m.run.target.usage()
		m.got, m.reads = got-m.got, m.run.driver.reads-m.reads
		return true
	}
	return false
}

// add makes m the sum of itself and a later slice of the same window.
func (m *meter) add(o *meter) {
	m.span += o.span
	m.got += o.got
	m.reads += o.reads
	m.busy += o.busy
	m.lag = max(m.lag, o.lag)
	m.latency.add(&o.latency)
	rss := o.after.rss
	m.before, m.after = m.before.plus(o.before), m.after.plus(o.after) // only differences count
	m.after.rss = rss
}

// record notes the latency of what was meant to be sent at and came now, if at lies in the window. It may come after.
func (m *meter) record(at, now int64) {
	if m.begun && at >= m.from && at < m.till {
		m.latency.record(now - at)
	}
}

// seconds is how long the window was.
func (m *meter) seconds() float64 { return time.Duration(m.span).Seconds() }

// cpu is what the server used in it, in seconds; ok is false where that cannot be seen.
func (m *meter) cpu() (s float64, ok bool) {
	return (m.after.cpu - m.before.cpu).Seconds(), m.before.known && m.after.known
}

// end gives the run its figures. what is the name of what was counted.
func (m *meter) end(what string, r *run) {
	seconds := m.seconds()
	got := float64(m.got)
	if m.got == 0 {
		r.faults().reason("no %s in the window", what)
	}
	r.figure(what, got)
	r.figure(what+"_per_s", got/seconds)
	r.figure("seconds", seconds)
	if cpu, ok := m.cpu(); ok && got > 0 {
		r.figure("cpu_s", cpu)
		r.figure("cpu_s_per_million", cpu/got*1e6)
		r.figure("server_busy", cpu/seconds)
		if r.target.softirqs() {
			r.figure("ksoftirqd_s", (m.after.ksoftirqd - m.before.ksoftirqd).Seconds())
			r.figure("softirq_of_cpu_s", (m.after.softirq - m.before.softirq).Seconds())
		}
		r.figure("rss_bytes", float64(m.after.rss))
	}
	m.latency.figures(r, "")
	if m.reads > 0 {
		r.figure("per_read", got/float64(m.reads))
	}
	r.figure("client_busy", time.Duration(m.busy).Seconds()/seconds)
	r.figure("send_lag_max_us", float64(m.lag)/1e3)
}

// figures gives the run quantiles, with something before their names.
func (h *histogram) figures(r *run, before string) {
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50_us", 0.5}, {"p99_us", 0.99}, {"p999_us", 0.999}} {
		r.figure(before+q.name, float64(h.quantile(q.q))/1e3)
	}
	r.figure(before+"max_us", float64(h.max)/1e3)
}
