//go:build !race && !pomelod_stdjson

package router

// again is whether these tests run once more, beside make test-go.
const again = false
