//go:build linux && !race

package abuse

const raceEnabled = false
