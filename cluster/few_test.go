//go:build !race

package cluster_test

// simFew are the seeds that TestSim runs by itself; make sim runs more.
const simFew = 100
