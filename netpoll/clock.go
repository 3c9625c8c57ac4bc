package netpoll

// Nanos reads the loop's clock, nanoseconds since some time in the past. It costs tens of nanoseconds, Now next to nothing.
func (l *Loop) Nanos() int64 { return l.nanos() }
