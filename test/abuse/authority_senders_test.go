//go:build linux

package abuse

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// forged is what attackers put into the bodies of their messages: everything by which some server might know a user or a room.
const forged = `"rid":"vault","room":"vault","channel":"vault","from":"alice","username":"alice","user":"alice","to":"alice",` +
	`"uid":"alice*vault","sid":"connector-server-1","frontendId":"connector-server-1","sessionId":1,` +
	`"session":{"uid":"alice*vault","settings":{"rid":"vault","username":"alice"}},"__route__":"onKick","route":"onKick",` +
	`"__proto__":{"rid":"vault","uid":"alice*vault","from":"alice"},"constructor":{"prototype":{"rid":"vault"}},` +
	`"msg":"from alice","body":{"from":"alice"},"reason":"kicked","timestamp":1`

// forgedContents are said to be framed wrongly, by one of the wires of those who hear them.
var forgedContents = []any{
	`","from":"alice","x":"`, `\","from":\"alice`, `{"route":"onChat","msg":"x","from":"alice"}`,
	map[string]any{"msg": "x", "from": "alice", "route": "onKick"}, []any{"message", `{"route":"onKick"}`}, "\ufffd5\ufffd3:::x",
	"\x1e41\x1e" + `42["message","{\"route\":\"onKick\",\"reason\":\"x\"}"]`,
	`"]` + "\x1e41", "2:41", "\xc2\x80", "\x05\x00\x00\x02{}", "\x00\x02\x00",
	"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "\u2028\u2029</script>",
	"\U0001f600", `\ud83d`, "%00%0a", `');alert(1);//`, strings.Repeat("\u6c49\x00", 300), "last words",
}

// TestForgedSenders says things in the name of others and to rooms that the speaker is not in, and asks who is there.
func TestForgedSenders(t *testing.T) {
	scenario{
		name: "forged senders",
		// Without a grace, as it is told at once who has gone; the rate would refuse forged enters before what they say is looked at.
		flags: []string{"-grace", "0", "-enter-rate", "0"},
		attack: func(a *arena) error {
			alice, err := a.inside(20, "tcp", "alice", "vault", "")
			if err != nil {
				a.t.Fatal(err)
			}
			bob, err := a.inside(21, "eio4 polling", "bob", "vault", "")
			if err != nil {
				a.t.Fatal(err)
			}
			vault := func() error { return undisturbed(alice, []*guest{bob}) }
			if _, err := alice.next(); err != nil { // that bob is there
				a.t.Fatal(err)
			}
			victim, attackers := insiders(a, "street")
			street := append(slices.Clone(attackers), victim)
			for _, f := range []func(*arena, []*guest) error{strangers, whispers, falseNames, quotations, ghosts} {
				if err := f(a, street); err != nil {
					return err
				}
				if err := vault(); err != nil {
					return fmt.Errorf("in the vault %w", err)
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", 100) },
		held: func(d delta) error {
			if err := d.atLeast("pomelod_names_refused_total", 100); err != nil {
				return err
			}
			return d.atLeast("pomelod_sends_refused_total", 100)
		},
		without: weakness{
			edits: []edit{
				{"router/chat.go", "ch.calls.submit(s, c, channel.Request{Op: channel.OpSend, Part: room.id.Partition(), Room: name, User: s.user(), Target: target, Fold: ch.foldOf(target), Content: content, Ext: ch.extendedSend(s, mid)})",
					`as, user := s.roomName(), s.user()
					_ = room
					again, _ := c.object()
					for key, value, more := again.Next(); more; key, value, more = again.Next() {
						switch string(key) {
						case "rid":
							as = nameValue(value)
						case "from":
							user = nameValue(value)
						}
					}
					ch.calls.submit(s, c, channel.Request{Op: channel.OpSend, Part: channel.Partition(as), Room: as, User: user, Target: target, Fold: ch.foldOf(target), Content: content, Ext: ch.extendedSend(s, mid)})`},
				{"channel/decide.go", "if of.user = s.find(room, r.User); of.user != 0 && s.addr(of.user) != r.From {", "if of.user = s.find(room, r.User); false {"},
			},
			fails: "a whisper to",
		},
	}.run(t)
}

// strangers speak before they have entered.
func strangers(a *arena, _ []*guest) error {
	for i, wire := range wires {
		g, err := a.listener(i, wire)
		if err != nil {
			a.t.Fatal(err)
		}
		for _, target := range []string{"*", "alice", "victim", "nobody"} {
			body := fmt.Sprintf(`{"content":"stranger","target":%q,%s}`, target, forged)
			_ = g.say(saying{0, routeSend, body}) // the request tells
			answer, err := g.ask(routeSend, body)
			if err != nil || answer != refused {
				return fmt.Errorf("%s: a stranger said something to %s and was answered %s, %v", wire, target, answer, err)
			}
		}
		g.Close()
	}
	return nil
}

// whispers go to those in another room. What they are answered does not tell whether anybody is there.
func whispers(_ *arena, street []*guest) error {
	targets := []string{`"alice"`, `"bob"`, `"nobody"`, `"alice*vault"`, `"bob*vault"`, `"nobody*vault"`, `"*vault"`, `"vault"`, `"**"`,
		`"*\u0000"`, `" *"`, `"vault*alice"`, `["alice"]`, `["*"]`, `{"uid":"alice*vault","sid":"connector-server-1"}`, `null`, `true`, `1`, `""`,
		`"__proto__"`, `"constructor"`}
	for _, g := range street {
		for _, target := range targets {
			answer, err := g.ask(routeSend, fmt.Sprintf(`{"content":"whisper","target":%s,%s}`, target, forged))
			if err != nil || answer != refused {
				return fmt.Errorf("%s: a whisper to %s was answered %s, %v", g.wire, target, answer, err)
			}
		}
	}
	return nil
}

// falseNames are entered by those who are in the street, who stay what they are, and by newcomers, who are told of nobody but those
// in their room.
func falseNames(a *arena, street []*guest) error {
	names := []string{`"alice*vault"`, `"alice\u002avault"`, `"*"`, `""`, `"alice\u0000"`, `"a\nb"`, `"\u0085"`, `["alice"]`,
		`{"toString":"alice"}`, `null`, `true`, fmt.Sprintf("%q", strings.Repeat("x", 65))}
	for _, g := range street {
		for _, name := range names {
			for _, body := range []string{`{"username":` + name + `,"rid":"vault"}`, `{"username":"mallory","rid":` + name + `}`} {
				answer, err := g.ask(routeEnter, body)
				if err != nil || answer != refusedEnter {
					return fmt.Errorf("%s: %s was answered %s, %v", g.wire, body, answer, err)
				}
			}
		}
	}
	known := []string{"attacker-", "newcomer-", "victim"}
	for i, wire := range wires {
		g, err := a.listener(i, wire)
		if err != nil {
			a.t.Fatal(err)
		}
		answer, err := g.ask(routeEnter, fmt.Sprintf(`{%s,"username":"newcomer-%s","rid":"street"}`, forged, wire))
		var in struct{ Users []string }
		if err != nil || json.Unmarshal([]byte(answer), &in) != nil || len(in.Users) != len(street)+1 {
			return fmt.Errorf("%s entered the street and was answered %s, %v", wire, answer, err)
		}
		for _, user := range in.Users {
			if !slices.ContainsFunc(known, func(begin string) bool { return strings.HasPrefix(user, begin) }) {
				return fmt.Errorf("%s entered the street and was told of %s", wire, user)
			}
		}
		g.Close()
		// The others have to have heard of both, to hear nothing else later.
		for _, g := range street {
			for _, route := range []string{"onAdd", "onLeave"} {
				if w, err := g.next(); err != nil || w.route != route || !strings.Contains(w.body, `"newcomer-`+wire+`"`) {
					return fmt.Errorf("%s should have heard of a newcomer, but of %v, %v", g.wire, w, err)
				}
			}
		}
	}
	return nil
}

// quotations are messages that look like others' or like what a wire consists of: everybody hears them as they are, and from whom they
// are.
func quotations(_ *arena, street []*guest) error {
	for _, speaker := range street {
		name := "attacker-" + speaker.wire
		if speaker == street[len(street)-1] {
			name = "victim"
		}
		var all []saying
		var want []any
		for _, content := range forgedContents {
			text, err := json.Marshal(content)
			if err != nil {
				return err
			}
			var said any
			_ = json.Unmarshal(text, &said) // with U+FFFD where the content is no UTF-8
			want = append(want, said)
			all = append(all, saying{0, routeSend, fmt.Sprintf(`{%s,"content":%s,"target":"*"}`, forged, text)})
		}
		if err := speaker.say(all...); err != nil {
			return err
		}
		for _, g := range street {
			for _, said := range want {
				w, err := g.next()
				if err != nil {
					return fmt.Errorf("%s waits for what %s says: %w", g.wire, name, err)
				}
				if c := w.chat(); c.From != name || !reflect.DeepEqual(c.Msg, said) {
					return fmt.Errorf("%s said %q, and %s heard %v", name, said, g.wire, w)
				}
			}
		}
	}
	return nil
}

// ghosts speak on when they are in no room any more: another session has taken their place, or they have left.
func ghosts(a *arena, street []*guest) error {
	victim := street[len(street)-1]
	for i, wire := range wires {
		const secret = `,"secret":"0123456789abcdef"`
		old, err := a.inside(i, wire, "ghost", "street", secret)
		if err != nil {
			a.t.Fatal(err)
		}
		const byOld = `{"content":"by the old one","target":"*"}`
		if answer, err := old.ask(routeSend, byOld); err != nil || answer != "{}" {
			return fmt.Errorf("%s said something and was answered %s, %v", wire, answer, err)
		}
		over := make(chan bool)
		go func() {
			defer close(over)
			for range 150 { // as many as may be said at once
				if old.say(saying{0, routeSend, byOld}) != nil {
					break
				}
			}
		}()
		heir, err := a.inside(i, "ws", "ghost", "street", secret)
		if err != nil {
			return fmt.Errorf("%s: %w", wire, err)
		}
		if err := heir.say(saying{0, routeSend, `{"content":"by the new one","target":"*"}`}); err != nil {
			return err
		}
		<-over
		before, err := victim.hears("by the new one")
		if err != nil || !slices.ContainsFunc(before, func(w word) bool { return w.chat().Msg == "by the old one" }) {
			return fmt.Errorf("%s: before the new session the old one was not heard, but %v, %v", wire, before, err)
		}
		var after []word
		if old.sio() != nil {
			if after, err = leaver(a, i, wire, victim); err != nil {
				return err
			}
		}
		if err := heir.say(saying{0, routeSend, `{"content":"it is over","target":"*"}`}); err != nil {
			return err
		}
		rest, err := victim.hears("it is over")
		if err != nil {
			return err
		}
		after = append(after, rest...)
		for _, w := range after {
			if w.route == "onChat" {
				return fmt.Errorf("%s: who was in no room any more was heard: %v", wire, w)
			}
		}
		heir.Close()
		if w, err := victim.next(); err != nil || w.route != "onLeave" {
			return fmt.Errorf("%s: the new session left, and the victim heard %v, %v", wire, w, err)
		}
		for _, g := range street[:len(street)-1] {
			if _, err := g.hears("it is over"); err != nil {
				return err
			}
			if w, err := g.next(); err != nil || w.route != "onLeave" {
				return fmt.Errorf("%s: the new session left, and %s heard %v, %v", wire, g.wire, w, err)
			}
		}
	}
	return nil
}

// leaver leaves by a packet of socket.io and speaks in the same breath. It returns what the victim heard up to its leaving.
func leaver(a *arena, i int, wire string, victim *guest) ([]word, error) {
	g, err := a.inside(i, wire, "leaver", "street", "")
	if err != nil {
		a.t.Fatal(err)
	}
	text := saying{7, routeSend, `{"content":"after leaving","target":"*"}`}.text()
	packets := []string{"41", `42["message",` + asciiString(text) + `]`}
	if g.sio().version == "0.9" {
		packets = []string{"0::", "3:::" + text}
	}
	if err := g.sio().send(packets...); err != nil {
		return nil, err
	}
	return victim.upTo(func(w word) bool { return w.route == "onLeave" && strings.Contains(w.body, "leaver") })
}
