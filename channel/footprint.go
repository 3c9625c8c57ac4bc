package channel

// Footprint is what rooms keep at most, by the constants of this package, in bytes and numbers. It is for tests that add up what clients can take in all
// (docs/ARCHITECTURE.md); nothing here depends on it.
type Footprint struct {
	RoomBytes    int // a room that keeps something, beside what it keeps
	MessageBytes int // a message or a letter, beside its own
	Mids         int // ids of messages of a room
	MidBytes     int // one of them
	Past         int // of a user that has left a room, and gave a secret
	PastBytes    int // one of them
	AwayBytes    int // a member that is away, beside what a member takes
	Ghosts       int // members of an address that are away in a small room
	Letters      int // private messages for one that is away
	LetterBytes  int // all of them
	ClaimBytes   int // a session that counts as a user's, beside the user's text
	SetBytes     int // what a program has set of a room, with its data
	Vacant       int // rooms without members of which something is set
	PageMessages int // of a page of history, and of what follows an enter
	PageBytes    int
}

// FootprintOf is this build's.
func FootprintOf() Footprint {
	return Footprint{
		RoomBytes: historyCost, MessageBytes: messageCost, Mids: maxMids, MidBytes: midCost, Past: maxPast, PastBytes: pastCost,
		AwayBytes: awayCost, Ghosts: leastGhosts, Letters: maxLetters, LetterBytes: maxLetterBytes, ClaimBytes: claimCost, SetBytes: settingsCost + MaxData, Vacant: MaxVacant, PageMessages: pageMessages, PageBytes: pageBytes,
	}
}
