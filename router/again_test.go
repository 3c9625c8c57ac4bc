//go:build race || pomelod_stdjson

package router

// again is whether these tests run once more, beside make test-go: with the race detector, or with the other JSON engine. Fleets with faults take most of the time, and have
// fewer rounds then: each has one goroutine, and what is said in it is the same JSON, names and short texts, in all rounds.
const again = true
