//go:build linux

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// How figures are called and written where people read them.

// labels are the names of figures in tables and charts. What is not here goes by its own name.
var labels = map[string]string{
	cpuPerMillion:       "CPU-s/M",
	cpuPerConn:          "CPU per client",
	rssPerConn:          "RSS per member",
	p99Latency:          "p99",
	echoMore:            "p99 beside the room − alone",
	peakByOwed:          "peak RSS ÷ (before + 512 KiB per frozen)",
	refusedShare:        "refused",
	"p99_by_before":     "p99 ÷ before they froze",
	"anon_per_conn":     "of it anonymous",
	"deliveries_per_s":  "deliveries/s",
	"answers_per_s":     "answers/s",
	"conns_per_s":       "clients/s",
	"p50_us":            "p50",
	"p999_us":           "p99.9",
	"join_p50_us":       "p50 until in",
	"join_p99_us":       "p99 until in",
	"echo_alone_p99_us": "p99, alone",
	"echo_p99_us":       "p99, beside the room",
	"before_p99_us":     "p99, before they froze",
	"before_rss_bytes":  "RSS, before they froze",
	"rss_peak_bytes":    "RSS, at most",
	"frozen_closed":     "frozen ones given up",
	"rss_bytes":         "RSS",
	"per_read":          "deliveries per read",
	"server_busy":       "server busy",
	"client_busy":       "generator busy",
	"send_lag_max_us":   "generator late, at most",
}

func label(figure string) string {
	if l, ok := labels[figure]; ok {
		return l
	}
	return figure
}

// said is what a bar is about, as in "CPU-s/M ÷ floor". Who it is about is said unless it is pomelod.
func (b bar) said() string {
	text := label(b.figure)
	if b.base != "" {
		text += " ÷ " + b.base
	}
	if b.server != "pomelod" {
		text = b.server + ": " + text
	}
	return text
}

// value writes what is held against the bar. A value beside the limit gets the digits that show on which side it is.
func (b bar) value(v float64) string {
	if b.base == "" {
		text := figureText(b.figure, v)
		if !b.met(v) && text == figureText(b.figure, b.limit) {
			text = fmt.Sprintf("%s (exactly %v)", text, v)
		}
		return text
	}
	text := ratioText(v)
	for digits := 2; digits < 6; digits++ {
		if shown, _ := strconv.ParseFloat(text, 64); b.met(shown) == b.met(v) {
			break
		}
		text = strconv.FormatFloat(v, 'f', digits+1, 64)
	}
	return text
}

// measured writes the median, and the lowest and highest.
func (j judged) measured() string {
	text := j.spread.full(func(v float64) string {
		if j.base != "" {
			return ratioText(v)
		}
		return figureText(j.figure, v)
	})
	_, between, ok := strings.Cut(text, " (")
	if !ok {
		return j.value(j.median)
	}
	return j.value(j.median) + " (" + between
}

// bound writes the limit: "≤ 1.05".
func (b bar) bound() string {
	text := figureText(b.figure, b.limit)
	if b.base != "" {
		text = strconv.FormatFloat(b.limit, 'f', -1, 64)
		if b.limit < 2 {
			text = ratioText(b.limit)
		}
	}
	return b.sense.String() + " " + text
}

// figureText writes a figure with its unit, which its name tells.
func figureText(name string, v float64) string {
	switch {
	case strings.HasSuffix(name, "_us"):
		return timeText(v)
	case name == cpuPerConn:
		return significant(v) + " µs"
	case strings.HasSuffix(name, "_bytes"):
		return significant(v/(1<<20)) + " MiB"
	case name == "frozen_closed":
		return thousands(v)
	case name == rssPerConn || name == "anon_per_conn":
		return thousands(v) + " B"
	case strings.HasSuffix(name, "_per_s"):
		return thousands(v)
	case strings.HasSuffix(name, "_busy") || name == refusedShare:
		return percent(v)
	case strings.Contains(name, "_by_"):
		return ratioText(v)
	}
	return significant(v)
}

// timeText writes microseconds.
func timeText(us float64) string {
	switch a := math.Abs(us); {
	case a >= 999500:
		return significant(us/1e6) + " s"
	case a >= 999.5:
		return significant(us/1e3) + " ms"
	}
	return significant(us) + " µs"
}

// significant writes three digits that count, and no exponent.
func significant(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 99.95:
		return thousands(v)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.0995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

func ratioText(v float64) string {
	if math.Abs(v) >= 9.995 {
		return significant(v)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// percent writes a share. A little is never written as nothing.
func percent(v float64) string {
	switch p := v * 100; {
	case p != 0 && p < 0.1:
		return "< 0.1%"
	case p < 9.95 && p != 0:
		return strconv.FormatFloat(p, 'f', 1, 64) + "%"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	}
}

// thousands writes a whole number, as in 1,361,000.
func thousands(v float64) string {
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if v < 0 && digits != "0" {
		return "-" + digits
	}
	return digits
}

// count writes "1 run", "2 runs".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(float64(n)) + " " + what
}

// between writes the lowest and highest, without the unit where the median says it already.
func between(write func(float64) string, s spread) string {
	low, high := write(s.lowest), write(s.highest)
	if head, unit, ok := strings.Cut(low, " "); ok && strings.HasSuffix(high, " "+unit) && strings.HasSuffix(write(s.median), " "+unit) {
		low, high = head, strings.TrimSuffix(high, " "+unit)
	}
	return low + "–" + high
}

// full writes "6.2 (5.7–6.8)", or the value alone if that says it all.
func (s spread) full(write func(float64) string) string {
	if write(s.lowest) == write(s.highest) {
		return write(s.median)
	}
	return write(s.median) + " (" + between(write, s) + ")"
}
