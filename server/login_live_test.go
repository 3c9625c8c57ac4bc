//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

const loginAnswer = `{"code":401,"error":true}`

// enterBy enters a room by a token. An empty user asks for no name.
func (c *tcpClient) enterBy(user, room, token string) string {
	c.t.Helper()
	if user != "" {
		user = fmt.Sprintf(`"username":%q,`, user)
	}
	return c.ask("connector.entryHandler.enter", fmt.Sprintf(`{%s"rid":%q,"token":%q}`, user, room, token))
}

// The key is replaced while clients are on. Who is in stays, talks, and goes on to other rooms by the login that it has; a token of the old key opens no new session, and one
// of the new key does. So it is when both keys are good for a while.
func TestKeysRotateWhileClientsAreOn(t *testing.T) {
	key, next := tokenFile(t, strings.Repeat("1", 40)), tokenFile(t, strings.Repeat("2", 40))
	s := start(t, "-auth", "jwt", "-auth-key", key, "-limits", "off")
	old, fresh := minted(t, "-key", key, "-name", "alice", "-ttl", "1h"), minted(t, "-key", next, "-name", "bob", "-ttl", "1h")
	alice := login(t, s.addr("connector"))
	if got := alice.enterBy("", "lobby", old); got != `{"users":["alice"]}` {
		t.Fatal(got)
	}
	bob := login(t, s.addr("connector"))
	if got := bob.enterBy("", "lobby", fresh); got != loginAnswer {
		t.Fatal(got)
	}
	if err := os.Rename(next, key); err != nil {
		t.Fatal(err)
	}
	until(t, "the new key is read", func() bool { return bob.enterBy("", "lobby", fresh) == `{"users":["alice","bob"]}` })
	if got := login(t, s.addr("connector")).enterBy("", "lobby", old); got != loginAnswer {
		t.Errorf("a new session by the old key: %s", got)
	}
	if got := alice.ask("chat.chatHandler.send", `{"content":"still here","target":"bob"}`); got != `{}` {
		t.Error(got)
	}
	if got := alice.ask("connector.entryHandler.enter", `{"rid":"den"}`); got != `{"users":["alice"]}` {
		t.Error(got)
	}
}

// A service that judges logins is slow for one, away for another, and says of others what cannot be: these do not get in, and are answered like one whose
// token is not good. Others are let in meanwhile.
func TestLoginServiceIsSlowAwayAndLies(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Token string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		switch q.Token {
		case "slow":
			close(asked)
			select {
			case <-goOn:
			case <-r.Context().Done(): // the hook has waited for as long as it does
			}
			fmt.Fprint(w, `{"name":"slow"}`)
		case "away":
			panic(http.ErrAbortHandler)
		case "another":
			fmt.Fprint(w, `{"name":"mallory"}`)
		case "nobody":
			fmt.Fprint(w, `{"name":""}`)
		case "expired":
			fmt.Fprint(w, `{"name":"expired","until":1000}`)
		case "huge":
			fmt.Fprintf(w, `{"name":%q}`, strings.Repeat("x", 256))
		case "no":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			fmt.Fprintf(w, `{"name":%q}`, q.Token)
		}
	}))
	defer service.Close()
	s := start(t, "-auth", "hook", "-auth-url", service.URL, "-limits", "off")
	addr := s.addr("connector")
	slow := login(t, addr)
	slow.write(slow.message(1, "connector.entryHandler.enter", `{"rid":"lobby","token":"slow"}`))
	<-asked
	users := ""
	for i, token := range []string{"away", "another", "nobody", "expired", "huge", "no"} {
		c := login(t, addr)
		user := map[bool]string{true: "alice"}[token == "another"]
		if got := c.enterBy(user, "lobby", token); got != loginAnswer {
			t.Errorf("%s: %s", token, got)
		}
		if got := c.ask("chat.chatHandler.send", `{"content":"x","target":"*"}`); !strings.Contains(got, "500") {
			t.Errorf("%s says something: %s", token, got)
		}
		name := fmt.Sprint("guest", i) // also by the same connection, once its token is good
		users = strings.TrimPrefix(fmt.Sprintf("%s,%q", users, name), ",")
		if got := c.enterBy("", "lobby", name); got != `{"users":[`+users+`]}` {
			t.Errorf("behind %s: %s", token, got)
		}
	}
	close(goOn)
	m, err := codec.ParseMessage(slow.next().Body)
	if got := string(m.Body); err != nil || got != loginAnswer && got != `{"users":[`+users+`,"slow"]}` {
		t.Errorf("slow: %s, %v", got, err)
	}
}
