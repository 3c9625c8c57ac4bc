package cluster

import "slices"

// outlook is what a maker knows when it plans, beside the view it begins from. Lists of nodes are in order of names.
type outlook struct {
	number uint64 // of the new view: more than any known, and not less than the wall clock
	self   int    // the maker, in nodes
	quorum int    // a view with fewer members is not made
	alone  bool   // owners have no followers, but for a move (Config.Alone)
	force  bool   // a new maker's first view is made whatever changes
	nodes  []prospect
	told   []partOutlook // by partition
	free   []bool        // by row of the base's names: the row is another name's to take. May be shorter than the names
	shares []Share       // memory for a draft of the view: most plans change nothing, and a maker plans every 20 ms
}

// prospect is a node that is a member or may become one. Lists of others are by their place in outlook.nodes.
type prospect struct {
	runID
	roles    Roles
	host     string
	alive    bool
	quiet    bool   // not heard for a while: nothing is moved until that is settled
	ready    bool   // it has listened long enough, and may judge
	draining bool   // it gets nothing more
	hears    []bool // as far as is known
	certain  []bool // as it has said itself, under their present runs
	apart    []bool // it has not heard that one for a second on end, while the maker hears both well
}

// partOutlook is what a maker was told about a partition, and what it remembers. Ids are zero where nothing was told.
type partOutlook struct {
	inStep  ViewID // the joiner of this naming is in step
	ready   ViewID // the follower has everything of this move
	drop    ViewID // the follower or joiner of this naming does not acknowledge
	shift   bool   // somebody wants the partition moved to its follower
	expired bool   // its move has taken too long
	rest    bool   // do not move it now
	avoid   uint16 // a follower that was dropped lately, or is to be dropped now; None: none
}

// At the same time.
const (
	maxMoving  = 16 // partitions on the way to another owner, or to another follower
	maxJoining = 8  // joiners of one node's partitions on one other node
)

// plan is the view that should come after base, nil if base is good. base is nil in a fresh fleet. It depends on its arguments only.
func plan(base *View, o *outlook) *View {
	p := planner{base: base, o: o, number: make([]uint16, len(o.nodes))}
	if base == nil {
		p.base = &View{Shares: make([]Share, len(o.told))}
	}
	p.at = make([]int, len(p.base.Names)+len(o.nodes)+1)
	p.changed = o.force
	if !p.members() {
		return nil
	}
	p.lead()
	p.protect()
	p.move()
	if !p.changed {
		return nil
	}
	p.v.Shares = slices.Clone(p.v.Shares)
	return &p.v
}

// planner is one run of plan.
type planner struct {
	base    *View
	o       *outlook
	v       View
	changed bool
	number  []uint16 // by node: None if it has no row
	at      []int    // the node of a number
	stays   []bool   // by number: it was a member and still is, as the same run
	owned   []int    // by node
	moving  int
}

// members decides which nodes are members; false: there is no view to be made.
func (p *planner) members() bool {
	o, v := p.o, &p.v
	v.Names = slices.Clone(p.base.Names)
	for i := range v.Names {
		v.Names[i].Run = 0
	}
	for i := range o.nodes {
		n := &o.nodes[i]
		p.number[i] = p.base.number(n.Name)
		if p.number[i] != None && n.alive && p.base.run(p.number[i]) == n.Run {
			p.admit(i)
		}
	}
	p.part()
	for i := range v.Names {
		if was := p.base.Names[i].Run; was != 0 && v.Names[i].Run == 0 {
			v.Names[i].Gone = max(v.Names[i].Gone, was)
		}
	}
	for i := range o.nodes {
		if p.admissible(i) {
			p.admit(i)
		}
	}
	if !p.member(o.self) {
		return false
	}
	count := 0
	for i := range v.Names {
		if v.Names[i].Run != 0 {
			count++
		}
	}
	if count < o.quorum {
		return false
	}
	v.ID = ViewID{View: o.number, Maker: v.Node(p.number[o.self])}
	v.Members = p.base.Members
	if !slices.EqualFunc(v.Names, p.base.Names, func(a, b Name) bool { return a.Run == b.Run }) {
		v.Members, p.changed = v.ID, true
	}
	if p.base.ID != (ViewID{}) {
		v.Ancestors = append([]ViewID{p.base.ID}, p.base.Ancestors[:min(len(p.base.Ancestors), maxAncestors-1)]...)
	}
	return true
}

// admit makes a node a member, in its name's row, one that is free, or the next one.
func (p *planner) admit(i int) {
	n := &p.o.nodes[i]
	if p.number[i] == None {
		p.number[i] = p.row(n.Run)
	}
	row := &p.v.Names[p.number[i]-1]
	row.Name = n.Name
	row.Run, row.Roles, row.Host = n.Run, n.roles, n.host
	p.at[p.number[i]] = i
}

// row is the number for a new name. A free row keeps the highest run that was left out of it, so that number and run together never name two nodes.
func (p *planner) row(run uint64) uint16 {
	for i, free := range p.o.free {
		number := uint16(i + 1)
		if row := &p.v.Names[i]; free && row.Run == 0 && row.Gone < run && !slices.Contains(p.number, number) {
			return number
		}
	}
	p.v.Names = append(p.v.Names, Name{})
	return uint16(len(p.v.Names))
}

func (p *planner) member(i int) bool { return p.v.run(p.number[i]) != 0 }

// part takes one of each pair of members out of which one does not hear the other: who is heard by fewer, else a connector before a chat node,
// else the greater name, never the maker.
func (p *planner) part() {
	nodes := p.o.nodes
	heard := make([]int, len(nodes))
	for a := range nodes {
		for b := range nodes {
			if a != b && p.member(a) && p.member(b) && nodes[a].hears[b] && nodes[b].hears[a] {
				heard[a]++
			}
		}
	}
	for a := range nodes {
		for b := range nodes {
			if a == b || !p.member(a) || !p.member(b) || !nodes[a].apart[b] {
				continue
			}
			chatA, chatB := nodes[a].roles&RoleChat != 0, nodes[b].roles&RoleChat != 0
			out := max(a, b)
			switch {
			case heard[a] < heard[b] || heard[a] == heard[b] && !chatA && chatB:
				out = a
			case heard[b] < heard[a] || chatA && !chatB:
				out = b
			}
			if out == p.o.self {
				out = a + b - out
			}
			p.v.Names[p.number[out]-1].Run = 0
		}
	}
}

// admissible tells whether a node that is no member may become one: a run greater than any that was left out, that hears all members and is
// heard by them.
func (p *planner) admissible(i int) bool {
	o, n := p.o, &p.o.nodes[i]
	if !n.alive || p.member(i) {
		return false
	}
	if k := p.number[i]; k != None {
		if n.Run <= p.v.Names[k-1].Gone || p.base.run(k) == n.Run && i != o.self {
			return false
		}
	} else if len(p.v.Names) == 1<<16-1 {
		return false
	}
	if i == o.self {
		return true
	}
	if !n.ready {
		return false
	}
	for k := range o.nodes {
		if k != i && p.member(k) && !(o.nodes[k].hears[i] && n.hears[k] && (k == o.self || n.certain[k])) {
			return false
		}
	}
	return true
}

// keeps tells whether a number is nobody's, or that of a node that stays.
func (p *planner) keeps(number uint16) bool { return number == None || p.stays[number] }

// lead sees to it that each partition has an owner, and ends what has ended: joining, moving, and following of nodes that are gone.
func (p *planner) lead() {
	p.o.shares = append(p.o.shares[:0], p.base.Shares...)
	p.v.Shares = p.o.shares
	p.stays = make([]bool, len(p.at))
	for i := range p.base.Names {
		run := p.base.Names[i].Run
		p.stays[i+1] = run != 0 && run == p.v.Names[i].Run
	}
	p.owned = make([]int, len(p.o.nodes))
	for i := range p.v.Shares {
		if owner := p.v.Shares[i].Owner; p.stays[owner] {
			p.owned[p.at[owner]]++
		}
	}
	for i := range p.v.Shares {
		b, was, t := &p.v.Shares[i], p.v.Shares[i], &p.o.told[i]
		led := p.stays[b.Owner]
		ready := b.Moving != (ViewID{}) && t.ready == b.Moving                                      // then it takes over, also where its owner has asked to go on without it
		if !p.keeps(b.Follower) || led && !ready && t.drop != (ViewID{}) && t.drop == b.Following { // whoever was to be dropped is the best who is left
			if b.Follower != None {
				p.v.Members = p.v.ID // a quorum must have this view before the owner goes on alone
			}
			b.Follower, b.Following, b.Moving = None, ViewID{}, ViewID{}
		}
		if !p.keeps(b.Joiner) || t.drop != (ViewID{}) && t.drop == b.Joining {
			b.Joiner, b.Joining = None, ViewID{}
		}
		if !led {
			p.succeed(b)
		}
		if b.Joiner != None && t.inStep == b.Joining {
			b.Follower, b.Following, b.Joiner, b.Joining = b.Joiner, b.Joining, None, ViewID{}
			b.Moving = ViewID{} // the follower that was meant has gone
			if p.o.alone {
				b.Moving = p.v.ID // this is why it has joined
			}
		}
		switch {
		case b.Moving == ViewID{}:
		case t.ready == b.Moving:
			b.Owner, b.Follower = b.Follower, b.Owner
			b.Epoch, b.Following, b.Moving = p.v.ID, p.v.ID, ViewID{}
		case t.expired:
			b.Moving = ViewID{}
		}
		if p.o.alone && b.Follower != None && b.Moving == (ViewID{}) {
			b.Follower, b.Following, p.v.Members = None, ViewID{}, p.v.ID // as above
		}
		if b.Joiner != None && (b.Follower != None || p.o.alone) || b.Moving != (ViewID{}) {
			p.moving++
		}
		p.changed = p.changed || *b != was
	}
}

// succeed gives a partition to its follower. Without one it is born anew.
func (p *planner) succeed(b *Share) {
	*b = Share{Owner: b.Follower, Born: b.Born}
	if b.Owner == None {
		b.Owner, b.Born = p.number[p.least(p.owned, None, None, None)], p.v.ID
	}
	b.Epoch = p.v.ID
	p.owned[p.at[b.Owner]]++
}

// protect names joiners where there is no follower.
func (p *planner) protect() {
	if p.o.alone {
		return
	}
	follows := make([]int, len(p.o.nodes))
	joins := make(map[[2]uint16]int)
	for i := range p.v.Shares {
		if b := &p.v.Shares[i]; b.Follower != None {
			follows[p.at[b.Follower]]++
		}
		if b := &p.v.Shares[i]; b.Joiner != None {
			follows[p.at[b.Joiner]]++
			joins[[2]uint16{b.Owner, b.Joiner}]++
		}
	}
	for i := range p.v.Shares {
		b := &p.v.Shares[i]
		if b.Follower != None || b.Joiner != None {
			continue
		}
		at := p.least(follows, b.Owner, p.o.told[i].avoid, b.Owner)
		if at < 0 || joins[[2]uint16{b.Owner, p.number[at]}] >= maxJoining {
			continue
		}
		b.Joiner, b.Joining, p.changed = p.number[at], p.v.ID, true
		follows[at]++
		joins[[2]uint16{b.Owner, b.Joiner}]++
	}
}

// move begins to move partitions to nodes that have fewer, away from nodes that drain, and where somebody wants it.
func (p *planner) move() {
	for i := range p.o.nodes {
		if p.member(i) && p.o.nodes[i].quiet {
			return
		}
	}
	owned, follows := make([]int, len(p.o.nodes)), make([]int, len(p.o.nodes))
	for i := range p.v.Shares {
		b := &p.v.Shares[i]
		owner := b.Owner
		if p.o.alone && b.Joiner != None { // the one that joins, or follows, will own it
			owner = b.Joiner
		} else if p.o.alone && b.Follower != None {
			owner = b.Follower
		}
		owned[p.at[owner]]++
		if b.Follower != None {
			follows[p.at[b.Follower]]++
		}
	}
	for i := range p.v.Shares {
		b, t := &p.v.Shares[i], &p.o.told[i]
		if p.moving >= maxMoving {
			return
		}
		if b.Follower == None && !p.o.alone || b.Joiner != None || b.Moving != (ViewID{}) || t.rest {
			continue
		}
		to, from := p.least(owned, b.Owner, t.avoid, None), p.at[b.Owner]
		leaves, gets := p.o.nodes[from].draining, to >= 0 && !p.o.nodes[to].draining
		uneven := gets && (leaves || owned[from]-owned[to] > 1)
		switch {
		case p.o.alone && (uneven || t.shift && to >= 0):
			b.Joiner, b.Joining = p.number[to], p.v.ID // it becomes the owner when it is in step
		case p.o.alone:
			continue
		case t.shift || uneven && b.Follower == p.number[to]:
			b.Moving = p.v.ID
			to = p.at[b.Follower]
		case uneven:
			b.Joiner, b.Joining = p.number[to], p.v.ID
		default:
			if p.relieve(b, t.avoid, follows) {
				p.moving++
				p.changed = true
			}
			continue
		}
		owned[from]--
		owned[to]++
		p.moving++
		p.changed = true
	}
}

// relieve names a joiner in the place of a follower that drains, if there is one that does not. Until it is in step the follower stays.
func (p *planner) relieve(b *Share, avoid uint16, follows []int) bool {
	if !p.o.nodes[p.at[b.Follower]].draining {
		return false
	}
	to := p.least(follows, b.Owner, avoid, b.Owner)
	if to < 0 || p.o.nodes[to].draining {
		return false
	}
	b.Joiner, b.Joining = p.number[to], p.v.ID
	follows[to]++
	return true
}

// least is the chat member with the least load that is none of two: one that is not draining if there is one, and on another host than a
// third if there is one. -1: there is none.
func (p *planner) least(load []int, not1, not2, host uint16) int {
	best, bestRank := -1, 0
	for i := range p.o.nodes {
		n := &p.o.nodes[i]
		if n.roles&RoleChat == 0 || !p.member(i) || p.number[i] == not1 || p.number[i] == not2 {
			continue
		}
		rank := 0
		if n.draining {
			rank = 2
		}
		if host != None && n.host == p.o.nodes[p.at[host]].host {
			rank++
		}
		if best < 0 || rank < bestRank || rank == bestRank && load[i] < load[best] {
			best, bestRank = i, rank
		}
	}
	return best
}
