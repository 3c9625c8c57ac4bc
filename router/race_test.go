//go:build race

package router

// raceEnabled tells tests that count allocations that the race detector adds its own.
const raceEnabled = true
