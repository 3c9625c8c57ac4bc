package cluster

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// Note is a fact that every node of a fleet knows, such as a rule of an operator: what a key stands for, and since when. Notes outlive views, runs and
// nodes. They are few, change seldom, and are read on each node without asking anybody.
type Note struct {
	Key string
	// At is when it was written, in ms of the wall clock, and later than any note of the key that its writer knew. Of two the later one holds.
	At    uint64
	Until uint64 // when it ends by itself, in ms; 0: never
	Text  []byte // nil: the key stands for nothing any more. Must not be changed
}

// Bounds of notes.
const (
	// MaxNotes is how many a fleet keeps, those that are over included. Of more, those that are over go, the oldest first.
	MaxNotes = 20_000
	// MaxNote is how long a key and a text may be together, in bytes.
	MaxNote = 64 << 10
	// NotesKept is for how long a note that is over is kept, in ms: 30 days. A node that was away for less cannot bring back what it has taken the place of.
	NotesKept = 30 * 24 * 3600 * 1000
	// maxNoteAt is later than any note: the year 10889.
	maxNoteAt = 1 << 48
)

// noteBuckets are the parts in which two nodes compare what they have.
const noteBuckets = 64

// Notes is a set of Notes, the latest of each key. Two sets that were told the same, in any order and any number of times, are the same. Not safe for
// concurrent use.
type Notes struct {
	byKey map[string]Note
	sums  [noteBuckets]uint64 // of what is in each bucket, in any order
}

// Over tells whether a note stands for nothing any more at a time, in ms.
func (n *Note) Over(wall uint64) bool { return n.Text == nil || n.Until != 0 && n.Until <= wall }

// gone tells whether a note need not be remembered any more.
func (n *Note) gone(wall uint64) bool {
	end := n.At
	if n.Text != nil {
		if end = n.Until; end == 0 {
			return false
		}
		end = max(end, n.At)
	}
	return end+NotesKept <= wall
}

// newer tells whether a note takes the place of another one of its key. Two of the same time cannot be told apart but by what they say; all nodes choose
// the same one.
func (n *Note) newer(old *Note) bool {
	return cmp.Or(cmp.Compare(n.At, old.At), bytes.Compare(n.Text, old.Text), cmp.Compare(n.Until, old.Until)) > 0
}

// Merge takes in a note, and tells whether it was news. One that was over long ago is none.
func (s *Notes) Merge(n Note, wall uint64) bool {
	old, has := s.byKey[n.Key]
	if has && !n.newer(&old) || !has && n.gone(wall) {
		return false
	}
	if s.byKey == nil {
		s.byKey = make(map[string]Note)
	}
	if has {
		s.drop(&old)
	}
	s.byKey[n.Key] = n
	b, sum := n.sum()
	s.sums[b] ^= sum
	if len(s.byKey) > MaxNotes+MaxNotes/8 {
		s.Forget(wall)
	}
	return true
}

func (s *Notes) drop(n *Note) {
	delete(s.byKey, n.Key)
	b, sum := n.sum()
	s.sums[b] ^= sum
}

// Forget forgets what was over long ago, and what there is too much of. Nodes whose clocks differ do so at different times, which costs them some
// packets and no more.
func (s *Notes) Forget(wall uint64) {
	for _, n := range s.byKey {
		if n.gone(wall) {
			s.drop(&n)
		}
	}
	if len(s.byKey) <= MaxNotes {
		return
	}
	list := s.All()
	slices.SortStableFunc(list, func(a, b Note) int { return cmp.Compare(bit(b.Over(wall)), bit(a.Over(wall))) }) // over first, then by time
	for i := range list[:len(list)-MaxNotes] {
		s.drop(&list[i])
	}
}

// Get is the note of a key; false: there is none.
func (s *Notes) Get(key string) (Note, bool) {
	n, has := s.byKey[key]
	return n, has
}

// Clone is the same set.
func (s *Notes) Clone() Notes { return Notes{maps.Clone(s.byKey), s.sums} }

// All are the notes, those that are over included, by time.
func (s *Notes) All() []Note {
	return slices.SortedFunc(maps.Values(s.byKey), func(a, b Note) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Key, b.Key)) })
}

// sum is the bucket of a note, and a number that stands for it.
func (n *Note) sum() (bucket int, sum uint64) {
	sum = nameHash(n.Key)
	bucket = int((sum ^ sum>>32) % noteBuckets)
	for _, v := range [...]uint64{n.At, n.Until, nameHash(string(n.Text)), uint64(bit(n.Text == nil))} {
		sum = (sum ^ v) * 0x9e3779b97f4a7c15
		sum ^= sum >> 29
	}
	return bucket, sum
}

// whole is a number that stands for all of them; 0: there are none.
func (s *Notes) whole() (sum uint64) {
	for i, v := range s.sums {
		v = (v ^ uint64(i)<<58) * 0x9e3779b97f4a7c15
		if s.sums[i] != 0 {
			sum ^= v ^ v>>31
		}
	}
	return sum
}

// Times of notes, in ns.
const (
	notesEvery   = 1000 * ms // each node announces what its notes add up to
	notesAgain   = 900 * ms  // and asks a node that has others at most so often
	notesForget  = 600e9     // looks for those that are over long ago
	notesAPacket = 64 << 10  // bytes after which another packet begins
)

// board is what a node has of the fleet's notes. Who learns one at first hand announces it; what is lost on the way is found out by sums, which all
// announce, and fetched by who lacks it. So it costs two packets a second and node however many notes there are, and nothing as long as there is none.
type board struct {
	Notes
	news         []Note // since Node.News
	told, forgot int64
	asked        map[string]int64 // when nodes were asked for what they have
}

// Write takes notes of this process, of its operators or of its file, and tells the fleet those that it did not know.
func (n *Node) Write(list []Note) {
	var news []Note
	for _, x := range list {
		if n.board.Merge(x, uint64(n.wall)) {
			news = append(news, x)
		}
	}
	if n.turned && n.probeTill == 0 {
		n.tellNotes("", news)
	} // else nobody may hear of the run yet; its sum tells later
}

// News are the notes of other nodes that have come since the last call.
func (n *Node) News() []Note {
	news := n.board.news
	n.board.news = nil
	return news
}

// tellNotes sends notes to a name, or to all ("").
func (n *Node) tellNotes(name string, list []Note) {
	for len(list) > 0 {
		size, k := 0, 0
		for k < len(list) && size < notesAPacket {
			size += len(list[k].Key) + len(list[k].Text) + 16
			k++
		}
		if b := (&notesBody{list[:k]}); name == "" {
			n.announce(b)
		} else {
			n.send(name, b)
		}
		list = list[k:]
	}
}

// turnNotes announces what the notes add up to, and forgets.
func (n *Node) turnNotes() {
	b := &n.board
	if n.now-b.forgot >= notesForget {
		b.forgot = n.now
		b.Forget(uint64(n.wall))
		clear(b.asked)
	}
	if sum := b.whole(); sum != 0 && n.now-b.told >= notesEvery {
		b.told = n.now
		n.announce(&notesSum{sum})
	}
}

// takeNotes takes in what another node has.
func (n *Node) takeNotes(list []Note) {
	for _, x := range list {
		if n.board.Merge(x, uint64(n.wall)) {
			n.board.news = append(n.board.news, x)
		}
	}
}

// compareNotes asks a node for what it has if its notes are others than this one's.
func (n *Node) compareNotes(from string, sum uint64) {
	b := &n.board
	if at, has := b.asked[from]; sum == b.whole() || has && n.now-at < notesAgain {
		return
	}
	if b.asked == nil {
		b.asked = make(map[string]int64)
	}
	b.asked[from] = n.now
	n.send(from, &notesAsk{b.sums})
}

// answerNotes sends a node all of the buckets in which it has others.
func (n *Node) answerNotes(to string, sums *[noteBuckets]uint64) {
	var list []Note
	for _, x := range n.board.All() {
		if i, _ := x.sum(); sums[i] != n.board.sums[i] {
			list = append(list, x)
		}
	}
	n.tellNotes(to, list)
}

// notesBody carries notes: new ones to all, or to a node what it lacks.
type notesBody struct{ List []Note }

// notesSum is announced each second by who has notes: what they add up to.
type notesSum struct{ Sum uint64 }

// notesAsk asks for the notes of the buckets whose sums are others than these.
type notesAsk struct{ Sums [noteBuckets]uint64 }

func (*notesBody) packetKind() packetKind { return packetNotes }
func (*notesSum) packetKind() packetKind  { return packetNotesSum }
func (*notesAsk) packetKind() packetKind  { return packetNotesAsk }

func (b *notesBody) append(dst []byte) []byte {
	dst = appendUint(dst, uint64(len(b.List)))
	for i := range b.List {
		x := &b.List[i]
		dst = append(appendUint(appendUint(appendText(dst, x.Key), x.At), x.Until), bit(x.Text != nil))
		if x.Text != nil {
			dst = appendText(dst, string(x.Text))
		}
	}
	return dst
}

func (r *reader) notes() *notesBody {
	b := new(notesBody)
	for range r.count(1 + 1 + 1 + 1) {
		x := Note{Key: string(r.text()), At: r.upTo(maxNoteAt), Until: r.upTo(maxNoteAt)}
		if r.bool() {
			x.Text = append([]byte{}, r.text()...)
			r.bad = r.bad || len(x.Text) == 0
		}
		if r.bad = r.bad || x.Key == "" || len(x.Key)+len(x.Text) > MaxNote; r.bad {
			return nil
		}
		b.List = append(b.List, x)
	}
	return b
}

func (b *notesSum) append(dst []byte) []byte { return appendUint(dst, b.Sum) }

func (b *notesAsk) append(dst []byte) []byte {
	for _, sum := range b.Sums {
		dst = appendUint(dst, sum)
	}
	return dst
}

func (r *reader) notesAsk() *notesAsk {
	b := new(notesAsk)
	for i := range b.Sums {
		b.Sums[i] = r.uint()
	}
	return b
}
