package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// endpoint is one thing that the API does. What is no GET writes: it has a body, and is a line of the log.
type endpoint struct {
	method, path string
	query        []string      // the parameters it knows
	within       time.Duration // how long it may take, whoever waits; 0: as long as loops have to answer, twice
	do           func(a API, q *request) (any, error)
}

var endpoints = []endpoint{
	{"GET", "/v1/stats", nil, 0, getStats},
	{"GET", "/v1/nodes", nil, 0, getNodes},
	{"GET", "/v1/rooms", []string{"prefix", "after", "limit", "by"}, 0, getRooms},
	{"GET", "/v1/room", []string{"name"}, 0, getRoom},
	{"GET", "/v1/sessions", []string{"name", "prefix", "address", "after", "limit"}, 0, getSessions},
	{"GET", "/v1/history", []string{"room", "limit"}, 0, getHistory},
	{"GET", "/v1/limits", nil, 0, getLimits},
	{"POST", "/v1/kick", nil, 0, postKick},
	{"POST", "/v1/publish", nil, publishTimeout, postPublish},
	{"POST", "/v1/delete", nil, 0, postDelete},
	{"POST", "/v1/close", nil, 0, postClose},
	{"GET", "/v1/policy", []string{"room"}, 0, getPolicy},
	{"PUT", "/v1/policy", []string{"room"}, 0, putPolicy},
	{"POST", "/v1/reload", nil, 0, postReload},
	{"POST", "/v1/drain", nil, 0, postDrain},
	{"POST", "/v1/upgrade", nil, upgradeTimeout, postUpgrade},
	{"GET", "/v1/rules", nil, 0, getRules},
	{"POST", "/v1/ban", nil, 0, setRule(RuleBan, false)},
	{"POST", "/v1/unban", nil, 0, setRule(RuleBan, true)},
	{"POST", "/v1/mute", nil, 0, setRule(RuleMute, false)},
	{"POST", "/v1/unmute", nil, 0, setRule(RuleMute, true)},
	{"POST", "/v1/lock", nil, 0, setRule(RuleLock, false)},
	{"POST", "/v1/unlock", nil, 0, setRule(RuleLock, true)},
}

// request is a request as an endpoint sees it.
type request struct {
	context.Context
	query url.Values
	body  []byte
	who   string
	what  []any // what a write is about, for the log: keys and values
	mids  *Mids // of all requests
}

// badRequest is an error of who asks.
type badRequest struct{ error }

// errUnderWay is the error of what was asked again before it was done.
var errUnderWay = errors.New("what has this mid is under way; ask again")

// Refuse is an error about what was asked, and not about the server.
func Refuse(err error) error { return badRequest{err} }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

// newAPI answers /v1.
func newAPI(a API, seen *Mids) http.Handler {
	mux := http.NewServeMux()
	if seen == nil {
		seen = new(Mids)
	}
	for _, e := range endpoints {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) { e.serve(a, seen, w, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var methods []string
		for _, e := range endpoints {
			if e.path == r.URL.Path {
				methods = append(methods, e.method)
			}
		}
		if methods != nil {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			refuse(w, http.StatusMethodNotAllowed, "ask for this by "+strings.Join(methods, " or "))
			return
		}
		refuse(w, http.StatusNotFound, "there is nothing of this name")
	})
	return mux
}

func (e *endpoint) serve(a API, seen *Mids, w http.ResponseWriter, r *http.Request) {
	ctx, within := r.Context(), 2*snapshotTimeout
	if e.within != 0 { // it goes on, and is logged, also when nobody waits any more
		ctx, within = context.WithoutCancel(ctx), e.within
		c := http.NewResponseController(w)
		_ = errors.Join(c.SetReadDeadline(time.Now().Add(readTimeout+within)), c.SetWriteDeadline(time.Now().Add(answerTimeout+within)))
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	q := &request{Context: ctx, query: r.URL.Query(), mids: seen}
	q.who, _ = r.Context().Value(whoKey{}).(string)
	err := e.check(q)
	if err == nil && e.writes() {
		if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
			refuse(w, http.StatusUnsupportedMediaType, "the body must be JSON, and the request say so: Content-Type: application/json")
			return
		}
		if q.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes, or did not come: %v", maxBody, err))
			return
		}
	}
	var answer any
	if err == nil {
		answer, err = e.do(a, q)
	}
	if e.writes() {
		logWrite(q, e.path, answer, err)
	}
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, answer)
	case errors.As(err, new(badRequest)):
		refuse(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, app.ErrAbsent), errors.Is(err, router.ErrNoMessage):
		refuse(w, http.StatusNotFound, err.Error())
	case errors.Is(err, router.ErrNoPlace), errors.Is(err, router.ErrMessage), errors.Is(err, app.ErrObject), errors.Is(err, app.ErrRoute), errors.Is(err, app.ErrTooLong):
		refuse(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, ErrPartly):
		refuse(w, http.StatusGatewayTimeout, err.Error())
	case errors.Is(err, app.ErrBusy), errors.Is(err, app.ErrNotSent), errors.Is(err, router.ErrUnwritten), errors.Is(err, ErrNotNow), errors.Is(err, errUnderWay):
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, err.Error())
	case errors.As(err, new(*RuleFileError)):
		refuse(w, http.StatusInsufficientStorage, err.Error())
	case errors.Is(err, router.ErrStuck), errors.Is(err, context.DeadlineExceeded), errors.Is(err, app.ErrUnknown):
		refuse(w, http.StatusGatewayTimeout, err.Error())
	default:
		refuse(w, http.StatusInternalServerError, err.Error())
	}
}

func (e *endpoint) writes() bool { return e.method != http.MethodGet }

// check refuses parameters that mean nothing here, as a mistyped filter would choose all.
func (e *endpoint) check(q *request) error {
	for name, values := range q.query {
		switch {
		case !slices.Contains(e.query, name):
			return bad("there is no parameter %q; there are %s", name, strings.Join(e.query, ", "))
		case len(values) > 1:
			return bad("the parameter %s is there twice", name)
		case !utf8.ValidString(values[0]):
			return bad("the parameter %s is no UTF-8", name)
		}
	}
	return nil
}

// logWrite tells who has done what; never what was said.
func logWrite(q *request, path string, answer any, err error) {
	args := append([]any{"who", q.who, "what", strings.TrimPrefix(path, "/v1/")}, q.what...)
	switch done := answer.(type) {
	case Upgraded:
		args = append(args, "result", done.Result)
	case Drained:
		args = append(args, "state", done.Node.State)
	case Done:
		if done.Count != nil {
			args = append(args, "count", *done.Count)
		}
		if done.Nodes != nil {
			args = append(args, "nodes", *done.Nodes)
		}
		if done.Repeated {
			args = append(args, "repeated", true)
		}
		if done.Warning != "" {
			args = append(args, "warning", done.Warning)
		}
	}
	if err != nil {
		slog.Warn("an operator's request was not carried out", append(args, "err", err)...)
		return
	}
	slog.Info("done for an operator", args...)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, Error{text})
}

// decode reads the body into v. What v does not know is an error, as a mistyped filter would choose all.
func (q *request) decode(v any) error {
	d := json.NewDecoder(strings.NewReader(string(q.body)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return bad("the body is not what is wanted: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("something is behind the body's end")
	}
	return nil
}

// most is how many things a page may have.
func (q *request) most() (int, error) {
	text := q.query.Get("limit")
	if text == "" {
		return pageDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageMost {
		return 0, bad("limit %q: must be 1 to %d", text, pageMost)
	}
	return n, nil
}

// needed is a parameter that must be there.
func (q *request) needed(name string) (string, error) {
	v := q.query.Get(name)
	if v == "" {
		return "", bad("the parameter %s is missing", name)
	}
	return v, nil
}

// filter is the sessions of a name, an address or a network; what is empty chooses all.
func filter(name, address string) (f router.SessionFilter, err error) {
	f.Name = name
	if address == "" {
		return f, nil
	}
	if addr, err := netip.ParseAddr(address); err == nil {
		addr = addr.Unmap().WithZone("") // sessions are compared without
		f.Address = netip.PrefixFrom(addr, addr.BitLen())
		return f, nil
	}
	if f.Address, err = netip.ParsePrefix(address); err != nil {
		return f, bad("address %q: must be an address, or a network such as 192.0.2.0/24", address)
	}
	if f.Address = f.Address.Masked(); f.Address.Addr().Is4In6() && f.Address.Bits() >= mappedBits {
		f.Address = netip.PrefixFrom(f.Address.Addr().Unmap(), f.Address.Bits()-mappedBits)
	}
	return f, nil
}

// mappedBits are those before an IPv4 address that is mapped into IPv6 (RFC 4291 §2.5.5.2).
const mappedBits = 96

func roomOf(info channel.RoomInfo) Room {
	room := Room{Name: info.Name, Members: info.Members, Kept: info.Kept}
	if info.Slow > 0 {
		room.Slow = info.Slow.String()
	}
	return room
}

func getRooms(a API, q *request) (any, error) {
	most, err := q.most()
	if err != nil {
		return nil, err
	}
	prefix, after := q.query.Get("prefix"), q.query.Get("after")
	var list []channel.RoomInfo
	more := false
	switch by := q.query.Get("by"); {
	case by == "" || by == "name":
		list, more, err = a.Rooms(q, prefix, after, most)
	case by != "members":
		err = bad("by %q: must be name or members", by)
	case after != "":
		err = bad("after goes with rooms by name only: sizes change from page to page")
	default:
		list, err = a.LargestRooms(q, prefix, most)
	}
	if err != nil {
		return nil, err
	}
	answer := Rooms{Scope: ScopeNode, Rooms: make([]Room, len(list))}
	for i := range list {
		answer.Rooms[i] = roomOf(list[i])
	}
	if more {
		answer.Next = list[len(list)-1].Name
	}
	return answer, nil
}

func getRoom(a API, q *request) (any, error) {
	name, err := q.needed("name")
	if err != nil {
		return nil, err
	}
	info, owned, err := a.Room(q, name)
	if err != nil {
		return nil, err
	}
	users, err := a.Members(q, name)
	if owned && errors.Is(err, app.ErrAbsent) { // it only keeps what was said
		users, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	info.Name, info.Members = name, len(users)
	room := roomOf(info)
	room.Users = users
	return RoomAnswer{ScopeFleet, room}, nil
}

func getSessions(a API, q *request) (any, error) {
	most, err := q.most()
	if err != nil {
		return nil, err
	}
	f, err := filter(q.query.Get("name"), q.query.Get("address"))
	if err != nil {
		return nil, err
	}
	f.Prefix = q.query.Get("prefix")
	var from router.SessionCursor
	if after := q.query.Get("after"); after != "" {
		loop, slot, _ := strings.Cut(after, ".")
		var err1, err2 error
		from.Loop, err1 = strconv.Atoi(loop)
		from.Slot, err2 = strconv.Atoi(slot)
		if err1 != nil || err2 != nil || from.Loop < 0 || from.Slot < 0 || from.Slot > 1<<24 {
			return nil, bad("after %q: must be the next of an answer", after)
		}
	}
	list, rest, err := a.ListSessions(q, f, from, most)
	if err != nil {
		return nil, err
	}
	answer := Sessions{Scope: ScopeNode, Sessions: make([]Session, len(list))}
	for i, s := range list {
		address := s.Address.Addr().Unmap().String()
		if port := s.Address.Port(); port != 0 {
			address = netip.AddrPortFrom(s.Address.Addr().Unmap(), port).String()
		}
		answer.Sessions[i] = Session{Name: s.Name, UID: s.UID, Room: s.Room, Address: address, Transport: s.Transport, Loop: s.Loop}
	}
	if rest != nil {
		answer.Next = fmt.Sprintf("%d.%d", rest.Loop, rest.Slot)
	}
	return answer, nil
}

func getHistory(a API, q *request) (any, error) {
	room, err := q.needed("room")
	if err != nil {
		return nil, err
	}
	most, err := q.most()
	if err != nil {
		return nil, err
	}
	b, err := a.History(q, room, most)
	if err != nil {
		return nil, err
	}
	return History{ScopeFleet, b}, nil
}

func getLimits(a API, q *request) (any, error) {
	s, err := a.Snapshot(q)
	if err != nil {
		return nil, err
	}
	return Limits{Scope: ScopeNode, Limits: a.Limits(), Limited: s.Limited, Refused: s.Refused}, nil
}

// maxReason is how long the reason of a kick may be, in bytes.
const maxReason = 1024

func checkReason(reason string) error {
	if reason == "" || len(reason) > maxReason {
		return bad("reason: must be 1 to %d bytes; clients are shown it", maxReason)
	}
	return nil
}

func postKick(a API, q *request) (any, error) {
	var k Kick
	if err := q.decode(&k); err != nil {
		return nil, err
	}
	q.what = []any{"name", k.Name, "address", k.Address, "uid", k.UID, "all", k.All, "room", k.Room, "reason", k.Reason}
	if err := checkReason(k.Reason); err != nil {
		return nil, err
	}
	_, err := k.Sessions()
	switch {
	case err != nil:
		return nil, err
	case k.Name == "" && k.Room != "":
		return nil, bad("room goes with name only")
	case len(k.Name) > maxReason || len(k.UID) > maxReason:
		return nil, bad("names and uids may have %d bytes", maxReason)
	case k.Name == channel.Everybody:
		return nil, bad("nobody is called %s; to kick all of a room there is /v1/close", k.Name)
	case k.Room != "":
		return Done{Scope: ScopeFleet}, a.KickMember(q, k.Room, k.Name, k.Reason)
	}
	n, fleet, err := a.KickEverywhere(q, k)
	if err == nil && fleet {
		return Done{Scope: ScopeFleet, Count: &n}, nil
	}
	return counted(n, err)
}

// counted is the answer about so many sessions of this node; none is an error.
func counted(n int, err error) (Done, error) {
	if err == nil && n == 0 {
		err = fmt.Errorf("no session of this node is meant: %w", app.ErrAbsent)
	}
	return Done{Scope: ScopeNode, Count: &n}, err
}

// publishTimeout is more than nodes take to say what they have published.
const publishTimeout = 10 * time.Second

func postPublish(a API, q *request) (any, error) {
	var p Publish
	if err := q.decode(&p); err != nil {
		return nil, err
	}
	q.what = []any{"room", p.Room, "user", p.User, "uid", p.UID, "all", p.All, "route", p.Route, "mid", p.Mid, "bytes", len(p.Body)}
	to := 0
	for _, named := range []bool{p.Room != "" || p.User != "", p.UID != "", p.All} {
		if named {
			to++
		}
	}
	switch {
	case to != 1:
		return nil, bad("give room, user, both, or uid, or all")
	case p.User == channel.Everybody:
		return nil, bad("nobody is called %s; give room without user", p.User)
	case len(p.Mid) > maxMid:
		return nil, bad("mid: may have %d bytes", maxMid)
	}
	return q.mids.once(p.ID(), func() (Done, error) {
		if p.Room != "" {
			return publishRoom(a, q, &p)
		}
		s, err := a.PublishEverywhere(q, p)
		if err != nil || s.Nodes == 0 {
			return counted(s.Sessions, err)
		}
		return Done{Scope: ScopeFleet, Count: &s.Sessions, Nodes: &s.Nodes, Repeated: s.Again}, nil
	})
}

// publishRoom publishes in a room, whose owner says whether it was done before.
func publishRoom(a API, q *request, p *Publish) (Done, error) {
	at, err := a.PublishRoom(q, router.Publication{Room: p.Room, User: p.User, Route: p.Route, Body: p.Body, Mid: p.Mid})
	if err != nil {
		return Done{}, err
	}
	return Done{Scope: ScopeFleet, Count: &at.Members, Seq: at.Seq, Time: at.Time, Delivered: &at.Loops, Repeated: at.Again}, nil
}

func postClose(a API, q *request) (any, error) {
	var c Close
	if err := q.decode(&c); err != nil {
		return nil, err
	}
	q.what = []any{"room", c.Room, "reason", c.Reason}
	if err := checkReason(c.Reason); err != nil {
		return nil, err
	}
	if c.Room == "" {
		return nil, bad("room is missing")
	}
	return Done{Scope: ScopeFleet}, a.KickMember(q, c.Room, channel.Everybody, c.Reason)
}

func postDelete(a API, q *request) (any, error) {
	var d Delete
	if err := q.decode(&d); err != nil {
		return nil, err
	}
	q.what = []any{"room", d.Room, "seq", d.Seq, "mid", d.Mid, "user", d.User}
	named := 0
	for _, by := range []string{d.Seq, d.Mid, d.User} {
		if by != "" {
			named++
		}
	}
	switch {
	case d.Room == "":
		return nil, bad("room is missing")
	case named != 1:
		return nil, bad("give seq, mid or user, one of them")
	}
	deleted, err := a.DeleteMessages(q, router.Deletion{Room: d.Room, Seq: d.Seq, Mid: d.Mid, User: d.User})
	done := Done{Scope: ScopeFleet, Count: &deleted.Messages}
	if deleted.Unwritten {
		done.Warning = warnUnwritten
	}
	return done, err
}

// warnUnwritten is what is said of a deletion that the disk does not take.
const warnUnwritten = "they are gone from the room, but -history-dir cannot be written at present: if pomelod ends before it can, they are there again"

func postReload(a API, q *request) (any, error) {
	if err := q.decode(new(struct{})); err != nil {
		return nil, err
	}
	done, err := a.Reload()
	if err != nil {
		return nil, Refuse(err)
	}
	for _, list := range []*[]string{&done.Read, &done.Changed, &done.Later} {
		*list = append([]string{}, *list...) // [] and not null
	}
	return Reload{ScopeNode, done}, nil
}
