//go:build race

package cluster_test

// simFew: the race detector makes everything ten times slower.
const simFew = 10
