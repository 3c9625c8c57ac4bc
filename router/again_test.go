//go:build race || pomelod_stdjson

package router

// again is whether these tests run once more, beside make test-go: with the race detector, or with the other JSON engine. Transcripts that are handed over behind every byte, and
// fleets with faults, take most of the time, and have
// fewer rounds then: each has one goroutine, and what is said in it is the same JSON in all rounds.
const again = true
