package netpoll

// SetSlice has a turn visit at most n members of a group, so that few of them are enough for a pass of many turns.
func (l *Loop) SetSlice(n int) { l.slice = n }
