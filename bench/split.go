package main

// split says which process of several has which members. Process 0 is the leader; the zero value gives it all.
type split struct {
	Processes int `json:"processes"`
	Members   int `json:"members"` // in all
	Size      int `json:"size"`    // of a room
	Senders   int `json:"senders"` // of a room: its first members, and the leader's
}

// of is the process that has member i. Each has equally many, unless the leader has more senders than that; its listeners
// are spread over all rooms.
func (s split) of(i int) int {
	place := i % max(s.Size, 1)
	if s.Processes < 2 || place < s.Senders {
		return 0
	}
	listens := s.Size - s.Senders // of a room
	all := s.Members/s.Size*listens + max(s.Members%s.Size-s.Senders, 0)
	own := max(s.Members/s.Processes-(s.Members-all), 0) // the leader's
	j := i/s.Size*listens + place - s.Senders
	before := (j*own + all - 1) / all // so many of those before are the leader's
	if before*all < (j+1)*own {
		return 0
	}
	return 1 + (j-before)%(s.Processes-1)
}

// count is how many of the first n members a process has.
func (s split) count(process, n int) (count int) {
	for i := range n {
		if s.of(i) == process {
			count++
		}
	}
	return count
}
