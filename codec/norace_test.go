//go:build !race

package codec

// raceEnabled tells tests that count allocations that the race detector takes memory out of pools at random.
const raceEnabled = false
