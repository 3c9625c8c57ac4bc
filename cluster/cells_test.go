package cluster

import (
	"maps"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// Cells of ARCHITECTURE.md's table of partitions that the simulation seldom comes to, or never, as links and views keep such messages from coming.

// inRole is a fleet with a node in that role, which has the member of another node in its room if it has the room, and keeps an item that node 3 has not confirmed.
func inRole(t *testing.T, role string) (f *fleet, node *actor) {
	t.Helper()
	f = newFleet(t, 3)
	switch role {
	case "unprotected":
		f.owned(None, None)
	case "joiner":
		f.owned(None, 2)
	default:
		f.owned(2, None)
	}
	f.enter(3, 1, "a")
	f.settle()
	f.shut[[2]int{3, 1}] = true
	f.enter(2, 2, "b")
	f.settle()
	if role == "sealed" {
		f.seal()
		f.settle()
	}
	switch role {
	case "joiner", "follower":
		node = f.nodes[2]
	case "nobody":
		node = f.nodes[3]
	default:
		node = f.nodes[1]
	}
	if is := node.holder.RoleOf(thePart); is != role {
		t.Fatalf("it is %s, not %s", is, role)
	}
	return f, node
}

// What comes to who has no use for it changes nothing, and nothing is said to it; but a request is told that it has come to the wrong node.
func TestWhatHasNoPlaceIsDropped(t *testing.T) {
	const owners, others = "unprotected protected sealed", "joiner follower nobody"
	for kind, list := range map[Kind]string{
		KindRequest: others, KindConfirm: others, KindResend: others, KindAck: others,
		KindSnapshot: owners + " nobody", KindRecords: owners + " nobody", KindConfirmed: owners + " nobody", KindSealed: owners + " joiner nobody",
	} {
		for _, role := range strings.Fields(list) {
			f, p := inRole(t, role)
			s := f.view.Shares[thePart]
			m := &Message{Kind: kind, Part: thePart, Epoch: s.Epoch, Naming: s.Following, Moving: s.Moving, Node: f.nodes[3].node(), In: 1, Out: 1 << 40, Index: 1 << 20}
			from := f.nodes[1]
			switch {
			case p == from:
				from = f.nodes[2]
			case role == "joiner":
				m.Naming = s.Joining
			}
			switch kind {
			case KindRequest:
				m.Request = channel.Request{Op: channel.OpLeave, Part: thePart, N: 1, From: channel.Addr{Node: from.node(), Ref: 2}, Room: "r", User: "b"}
			case KindSnapshot:
				m.State = []byte("nonsense")
			case KindRecords:
				m.Records = []channel.Record{{Kind: channel.RecordRemove, Room: "r", User: "a"}}
			}
			has := func() (state []byte, kept int) {
				if h := p.holder.parts[thePart]; h != nil {
					return p.worker.State(nil, thePart), len(h.keptItems())
				}
				return nil, 0
			}
			state, kept := has()
			posted := maps.Clone(f.posted)
			if kind == KindRequest {
				posted[KindNotOwner]++
			}
			p.holder.Receive(from.node(), m)
			p.holder.Flush()
			is, keeps := has()
			if string(is) != string(state) || keeps != kept || !maps.Equal(f.posted, posted) || p.holder.RoleOf(thePart) != role {
				t.Errorf("kind %d at %s: state %q, before %q; %d items kept, before %d; posted %v, and should have %v; it is %s", kind, role, is, state, keeps, kept, f.posted, posted, p.holder.RoleOf(thePart))
			}
			if role != "nobody" && kept == 0 {
				t.Fatalf("%s keeps nothing", role)
			}
		}
	}
}

// Whoever owns a partition sends a node again what that lacks, once it is released.
func TestWhatIsMissingIsSentAgain(t *testing.T) {
	for _, role := range []string{"unprotected", "protected", "sealed"} {
		f, p := inRole(t, role)
		f.nodes[3].log = nil
		before := f.posted[KindItems]
		p.holder.Receive(f.nodes[3].node(), &Message{Kind: KindResend, Part: thePart, Epoch: f.view.Shares[thePart].Epoch, Out: 1})
		if f.posted[KindItems] == before {
			t.Errorf("%s: nothing is sent again", role)
		}
	}
}

// An owner that has missed the views by which another one took its partition forgets that, whatever it is now, and gets it from the new owner if it follows.
func TestOwnerThatMissedViews(t *testing.T) {
	for _, was := range []string{"unprotected", "protected", "sealed"} {
		for _, now := range []string{"follower", "joiner", "nobody"} {
			f, p := inRole(t, was)
			f.change(func(s *Share, id ViewID) {
				born := s.Born
				if was == "unprotected" {
					born = id
				}
				*s = Share{Owner: 2, Epoch: id, Born: born}
			}, 2, 3)
			f.settle()
			f.enter(2, 7, "c")
			f.settle()
			f.change(func(s *Share, id ViewID) {
				switch now {
				case "follower":
					s.Follower, s.Following = 1, id
				case "joiner":
					s.Joiner, s.Joining = 1, id
				}
			})
			if is := p.holder.RoleOf(thePart); is != now || p.worker.Owns(thePart) || p.worker.Shadows(thePart) {
				t.Errorf("%s is %s, and has a state: %v, %v", was, is, p.worker.Owns(thePart), p.worker.Shadows(thePart))
			}
			f.shut = map[[2]int]bool{}
			f.settle()
			if now != "nobody" {
				f.same(1, 2)
			}
		}
	}
}

// Who is in no view refuses what its sessions ask, as not sent; a leave has nothing to leave any more, and what its owners decided for others stays with it.
func TestWhoIsNoMemberRefuses(t *testing.T) {
	x, v, others := member(t, 0)
	next := fleetOf(5001, v)
	next.Names[1].Run, next.Names[1].Gone = 0, 20
	x.hear("a", 10, &viewBody{View: next})
	x.after(10 * ms)
	batches := x.is(packetBatch, "a")
	x.Node.Send(v.Node(1), &Message{Kind: KindItems, Items: []channel.Item{{Kind: channel.ItemReply, N: 1, To: channel.Addr{Node: v.Node(1)}}}})
	if err := x.Request(&channel.Request{Op: channel.OpSend, Room: "r", User: "u"}, x.at); err != ErrNotSent {
		t.Errorf("a send is answered %v", err)
	}
	_ = x.Request(&channel.Request{Op: channel.OpLeave, Room: "r", User: "u"}, x.at)
	x.after(500*ms, others)
	if n := x.is(packetBatch, "a"); x.Self() != 0 || n != batches || x.desk.bytes != 0 {
		t.Errorf("self %x: %d batches, %d before; %d bytes of requests wait", uint64(x.Self()), n, batches, x.desk.bytes)
	}
}
