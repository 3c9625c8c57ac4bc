// Package limit counts what clients do, and says when it is too much: by token bucket (Bucket), and for each address by Table.
//
// It has no clock and no goroutine: whoever asks says what time it is, in nanoseconds of a clock that only goes forward. So
// every answer can be tested exactly, and what is not asked about costs nothing.
package limit
