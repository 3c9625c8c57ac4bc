// Package race tells tests whether the race detector watches them, which makes everything five to ten times slower.
package race

// Fewer is how many rounds of so many a random test makes: a tenth with the race detector. It is for tests that have one goroutine: there the detector finds nothing in a
// round that it has not seen in another, and the rounds are for what the tests themselves look at, without it.
func Fewer(rounds int) int {
	if Enabled {
		return (rounds + 9) / 10
	}
	return rounds
}
