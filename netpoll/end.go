package netpoll

// KillAll ends every conn at once, also those that only wait for their peer to close: for the end of the process, when there is no
// more time. Runs on the loop.
func (l *Loop) KillAll(why Reason) {
	for slot := range uint32(len(l.slabs) * slabConns) {
		l.Kill(l.bySlot(slot), why)
	}
}
