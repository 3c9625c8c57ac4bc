//go:build linux

package server

import (
	"fmt"
	"strings"
	"testing"
)

// An upgrade may bring logins, judge them by another key and issuer, bound a user's sessions, and have logins no more. Who is in stays who it is in its room, whatever
// changes; what it asks for next, and who comes, is judged by the new settings (docs/OPERATIONS.md, Logins).
func TestUpgradeChangesAuth(t *testing.T) {
	keys := []string{tokenFile(t, strings.Repeat("1", 32)), tokenFile(t, strings.Repeat("2", 32))}
	token := func(key int, issuer, name string) string {
		return minted(t, "-key", keys[key], "-issuer", issuer, "-name", name, "-ttl", "1h")
	}
	u := startUpgradable(t, "x=y", nil)
	addr := u.addr("connector")
	enters := func(c *tcpClient, user, room, token string) string {
		t.Helper()
		if token == "" {
			return c.enter(user, room)
		}
		return c.ask("connector.entryHandler.enter", fmt.Sprintf(`{"username":%q,"rid":%q,"token":%q}`, user, room, token))
	}
	want := func(got, part string) {
		t.Helper()
		if !strings.Contains(got, part) {
			t.Errorf("answered %s, want %s", got, part)
		}
	}
	const needed = `{"code":401,"error":true}`
	says := func(c *tcpClient) { t.Helper(); want(c.ask("chat.chatHandler.send", sayHello), "{}") }
	upgrade := func(flags string) {
		t.Helper()
		now, next := u.path, u.path+"+" // the next upgrade runs what this one has run, with the flags of both
		u.path = next
		u.restore(t)
		u.path = now
		u.replace(`exec '`+next+`' `+flags, 0o755)
		u.mustUpgrade()
		u.path = next
	}

	guest := login(t, addr)
	want(enters(guest, "guest", "lobby", ""), `"users":["guest"]`)

	upgrade(`"$@" -auth jwt -auth-key ` + keys[0] + " -auth-issuer one") // on
	says(guest)
	want(enters(guest, "guest", "den", ""), needed)
	says(guest) // still in its room
	want(enters(login(t, addr), "newcomer", "lobby", ""), needed)
	alice := login(t, addr)
	want(enters(alice, "alice", "lobby", token(0, "one", "alice")), `"users":["guest","alice"]`)
	want(enters(guest, "", "den", token(0, "one", "gina")), `"users":["gina"]`) // by a login it may go on, under that name

	upgrade(`"$@" -auth-key ` + keys[1] + " -auth-issuer two") // another issuer
	says(alice)
	want(enters(alice, "alice", "den", ""), `"users":["gina","alice"]`) // by the login that it had shown
	want(enters(alice, "", "lobby", token(0, "one", "alice")), needed)  // a token that is shown is judged as it is now
	says(alice)
	want(enters(login(t, addr), "", "lobby", token(0, "one", "bob")), needed)
	bob := login(t, addr)
	want(enters(bob, "", "lobby", token(1, "two", "bob")), `"users":["bob"]`)

	upgrade(`"$@" -sessions 1`) // sessions that stand count from their next login
	says(bob)
	second := login(t, addr)
	want(enters(second, "", "hall", token(1, "two", "bob")), `"users":["bob"]`)
	want(enters(login(t, addr), "", "yard", token(1, "two", "bob")), `"reason":"sessions"`)
	want(enters(bob, "", "yard", token(1, "two", "bob")), `"reason":"sessions"`)
	says(bob)

	upgrade(`"$@" -sessions kick-old`) // the one that is counted stays, until another comes
	says(second)
	want(enters(login(t, addr), "", "yard", token(1, "two", "bob")), `"users":["bob"]`)
	second.kicked()
	says(bob)

	upgrade(strings.Join(upgradableArgs(nil), " ")) // off
	says(alice)
	want(enters(alice, "alice", "lobby", ""), `"users":["bob","alice"]`)
	want(enters(alice, "liz", "lobby", ""), `"users":["bob","liz"]`) // a name is nobody's now
	want(enters(login(t, addr), "newcomer", "lobby", ""), `"users":["bob","liz","newcomer"]`)
	want(enters(login(t, addr), "carl", "lobby", "whatever"), `"users":["bob","liz","newcomer","carl"]`)
	if log := u.log(); strings.Count(log, `"closed":0`) != 5 || strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, "panic") {
		t.Error("somebody was sent away, or something went wrong; see the log")
	}
}
