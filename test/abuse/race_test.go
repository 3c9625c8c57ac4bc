//go:build linux && race

package abuse

// raceEnabled: everything is several times slower, and only who sees what is judged, not how soon.
const raceEnabled = true
