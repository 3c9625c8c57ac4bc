// Package limit counts what clients do and says when it is too much. A Bucket limits how often one thing may happen, a Table what each
// network address may have and do.
//
// The package has no clock and no goroutine. Each caller passes the time, now, in nanoseconds of a clock that never goes back, so tests
// can check every answer exactly.
package limit
