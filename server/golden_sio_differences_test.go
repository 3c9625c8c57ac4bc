//go:build linux

package server

import (
	"strings"
	"time"
)

// What pomelod does otherwise than the servers of the transcripts, and by which Rule of protocol.md. Rules that the hybrid
// transcripts need as well are in golden_test.go.

const (
	configOrder    = "§9.1: the gate dispatches in configuration order; the original's is that of registration"
	noStars        = "§9.3: refuse * in names and rooms with {\"code\":500,\"error\":true}"
	connectAtOnce  = "§6.1: the server sends 40 immediately, in the same payload or another"
	aloneRoot      = "§5.1, §8: /socket.io/ alone is 0.9's: 200 Welcome to socket.io."
	plainText      = "§6.2: 400 and this body; what it is, is not part of the rule, and it is no HTML"
	noHTMLFile     = "§5.1: list only transports you implement"
	noGoodbye      = "§5.3: it is the client that closes; after lines 17 and 121 the original says nothing either"
	spoken         = "§5.1: this body; that it is text is said as well"
	kicked         = "§4.2, §6.1: a kick is the message onKick, then the disconnect packet, then the end"
	heartbeatFirst = "§5.3: a heartbeat 3 seconds after each answer; the third and bye met, and here bye waits"
	notAString     = "§4.1: data that is not a string is ignored"
	takeOver       = "§5.4: answer the older one with 8::"
	answered       = "§6.5: answer OPTIONS; the original never does"
	plainCookie    = "§6.3: Set-Cookie: io=<sid>; Path=/; HttpOnly, and SameSite=Lax (cookieOnce)"
	binaryToAll    = "§6.3: answer non-b64 sessions with binary payloads"
	codeOfClose    = "§6: a close without a code is answered 1000, as by Pomelo's own server (sio2-upgrade.jsonl:33)"
	noCredentials  = "§6.5: credentials only for who cannot do without (socket.io 0.9 to 2) and for origins that are listed"
	anyOrigin      = "§6.5: without Origin: Access-Control-Allow-Origin: *"
	noCORS         = "§6.5 is about HTTP answers; browsers do not apply CORS to WebSockets"
	eio3Open       = "§6.1: the open packet of Engine.IO 3; the cookie is §6.3's"
	noKickBack     = "§4.2: the kick that answers a client's own disconnect is optional"
	badBody        = "§4.1: readable id and unparsable body -> {\"code\":500}"
	noBinary       = "§6.1: binary frame as message: close"
	engineClose    = "§6.1: treat both 41 and 1 as close"
	supersede      = "§6.3: or supersede the older GET"
	jsonpXSS       = "§5.5: X-XSS-Protection beside a callback; as 0.9 has it"
	preflights     = "§6.5: answer OPTIONS with 200/204 and these headers always, plus Access-Control-Allow-Methods"
	onePort        = "§8: one port serves all generations"
	saidAtOnce     = "§13: what cannot be served is answered at once with 404"
	elsewhere      = "§6.5: paths outside /socket.io: 404; socket.io.js may be 404"
)

// sioSilences are times that the server keeps: pings, the end of a held GET, of a connection without requests, of who does
// not answer pings.
var sioSilences = []silence{
	timed("sio09-websocket.jsonl", 99, 79, 3*time.Second),
	timed("sio09-websocket.jsonl", 101, 91, 3*time.Second),
	timed("sio09-websocket.jsonl", 103, 55, 3*time.Second),
	timed("sio09-xhr-polling.jsonl", 138, 126, 3*time.Second),
	timed("sio09-xhr-polling.jsonl", 139, 127, 3*time.Second),
	timed("sio09-xhr-polling.jsonl", 144, 131, 3*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 27, 7, 3*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 30, 7, 6*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 34, 7, 9*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 88, 85, 4*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 169, 167, 4*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 211, 182, 8*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 235, 233, 3*time.Second),
	timed("ref-socketio-0.9.17.jsonl", 236, 221, 9*time.Second),
	timed("ref-socketio-4.jsonl", 35, 31, 2*time.Second),
	timed("ref-socketio-4.jsonl", 37, 36, 2*time.Second),
	timed("ref-socketio-4.jsonl", 120, 108, 2*time.Second),
	timed("ref-socketio-4.jsonl", 128, 124, 2*time.Second),
	timed("ref-socketio-4.jsonl", 195, 191, 2*time.Second),
	timed("ref-socketio-4.jsonl", 197, 196, 2*time.Second),
	timed("ref-socketio-4.jsonl", 275, 272, 2*time.Second),
	timed("ref-socketio-4.jsonl", 276, 266, 5*time.Second),
}

// timed is a line that comes so long after another one, which is the client's: that was sent before the server could begin to count, while
// what comes from the server may be read long after it was sent. Other intervals than those
// that a transcript asks for are found all the same: the server's own ones are 20 seconds and more.
func timed(file string, line, since int, after time.Duration) silence {
	return silence{file, line, since, atLeast(after), after + busy}
}

// behind is by how much seconds as a loop counts them may be less than those of the clock on the wall: one, as they are whole, and three that
// the loop has not counted yet (maxTickNanos of netpoll), when the machine has much else to do. That is so however many are
// counted, as a loop never counts more than have passed.
const behind = 4 * time.Second

// busy is how much later than it is due something may be read on a busy machine.
const busy = 12 * time.Second

// atLeast is the time that passes while a loop counts so many seconds. Those up to four may pass in no time: router's tests of timers,
// whose time is virtual, hold each interval to the second.
func atLeast(after time.Duration) time.Duration { return max(after-behind, 0) }

var sioEdits = []edit{
	{"sio1-websocket.jsonl", "9", configOrder, `"port":13050}`, `"port":13052}`},
	{"sio1-polling.jsonl", "16", configOrder, `"port":13050}`, `"port":13052}`},
	{"sio1-upgrade.jsonl", "21", configOrder, `"port":13050}`, `"port":13052}`},
	{"sio2-upgrade.jsonl", "22", configOrder, `"port":13050}`, `"port":13052}`},
	{"sio1-http.jsonl", "59 62 68", jsonpXSS, ` | ___eio`, ` | x-xss-protection: 0 | ___eio`},
	{"sio1-http.jsonl", "98", onePort, `application/octet-stream | set-cookie: io=RLL0htte4dX8xpcUAAAi; Path=/; HttpOnly`, `text/plain; charset=UTF-8`},
	{"sio1-http.jsonl", "98", onePort, `"pingTimeout":60000}`, `"pingTimeout":20000,"maxPayload":262144}`},
	{"sio1-http.jsonl", "98", noCredentials, "access-control-allow-credentials: true | ", ""},
	{"sio1-http.jsonl", "144", plainText, `text/html`, `text/plain; charset=utf-8`},
	{"sio09-websocket.jsonl", "5 22 33 45", noHTMLFile, "websocket,htmlfile,", "websocket,"},
	{"sio09-websocket.jsonl", "11", configOrder, `"port":27050}`, `"port":27052}`},
	{"sio09-xhr-polling.jsonl", "5 26 39 54", noHTMLFile, "websocket,htmlfile,", "websocket,"},
	{"sio09-xhr-polling.jsonl", "12", configOrder, `"port":27051}`, `"port":27052}`},
	{"ref-socketio-0.9.17.jsonl", "5 44 55 99 110 113 116 196", noHTMLFile, "websocket,htmlfile,", "websocket,"},
	{"ref-socketio-0.9.17.jsonl", "119", spoken, " | Protocol", " | content-type: text/plain | Protocol"},
	{"ref-socketio-0.9.17.jsonl", "122", spoken, " | Welcome", " | content-type: text/plain | Welcome"},
	{"ref-socketio-2.jsonl", "5 14 42 51 61 68 69 76 78 85 86 91 98 99 106 107 115 117 128 134 138 139 183 195 198 201", plainCookie, "; SameSite=Strict", ""},
	{"ref-socketio-2.jsonl", "36 56 167 178", codeOfClose, "close ", `close 1000 ""`},
	{"ref-socketio-2.jsonl", "183 195 198", binaryToAll, "text/plain; charset=UTF-8", "application/octet-stream"},
	{"ref-socketio-4.jsonl", "5 13 16 22 50 58 61 67 77 83 85 92 93 100 101 109 110 115 120 126 128 133 139 141 156 162 164 170 174 175", anyOrigin, "access-control-allow-credentials: true", "access-control-allow-origin: *"},
	{"ref-socketio-4.jsonl", "5 13 16 22 50 58 61 67 77 83 85 92 93 100 101 109 110 115 120 126 128 133 139 141 156 162 164 170 174 175", anyOrigin, " | vary: Origin", ""},
	{"ref-socketio-4.jsonl", "221 224 227 230 233 239 242 251 254", noCredentials, "access-control-allow-credentials: true | ", ""},
	{"ref-socketio-4.jsonl", "15 60 181 210 258 267", noCORS, "access-control-allow-credentials: true | ", ""},
	{"ref-socketio-4.jsonl", "15 60 181 210 258 267", noCORS, " | vary: Origin", ""},
	{"ref-socketio-4.jsonl", "245", eio3Open, "text/plain; charset=UTF-8", "application/octet-stream | set-cookie: io=Na0Ai0d30uw3eHZPAAAO; Path=/; HttpOnly"},
	{"ref-socketio-4.jsonl", "245 248", eio3Open, `,"maxPayload":1000000`, ""},
	{"ref-socketio-4.jsonl", "248", eio3Open, "text/plain; charset=UTF-8", "application/octet-stream | set-cookie: io=0mRy8WUHEZ3C872LAAAP; Path=/; HttpOnly"},
}

var sioDifferences = []difference{
	{file: "sio1-websocket.jsonl", line: 16, rule: noKickBack},
	{file: "sio1-websocket.jsonl", line: 50, rule: entryOrder, instead: []string{`message {"id":3,"body":{"users":["alice","bob","王五"]}}`}},
	{file: "sio1-websocket.jsonl", line: 56, rule: pushFirst, after: 59},
	{file: "sio1-websocket.jsonl", line: 68, rule: pushFirst, after: 70},
	{file: "sio1-websocket.jsonl", line: 75, rule: pushFirst, after: 78},
	{file: "sio1-websocket.jsonl", line: 76, rule: pushFirst, after: 82},
	{file: "sio1-websocket.jsonl", line: 77, rule: pushFirst, after: 83},
	{file: "sio1-websocket.jsonl", line: 89, rule: pushFirst, after: 90},
	{file: "sio1-websocket.jsonl", line: 115, rule: pushFirst, after: 117},
	{file: "sio1-websocket.jsonl", line: 120, rule: noKickBack},
	{file: "sio1-polling.jsonl", line: 35, rule: noKickBack},
	{file: "sio1-polling.jsonl", line: 40, rule: noKickBack, instead: []string{"6"}, who: "session uJxS6yfY2IiUvVI_AAAK"},
	{file: "sio1-polling.jsonl", line: 111, rule: entryOrder, instead: []string{`message {"id":3,"body":{"users":["alice","bob","王五"]}}`}},
	{file: "sio1-polling.jsonl", line: 129, rule: pushFirst, after: 134},
	{file: "sio1-polling.jsonl", line: 165, rule: pushFirst, after: 170},
	{file: "sio1-polling.jsonl", line: 183, rule: pushFirst, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"n0","from":"alice","target":"*"}}`}},
	{file: "sio1-polling.jsonl", line: 187, rule: pushFirst, instead: []string{`message {"id":6,"body":{}}`, `message {"route":"onChat","body":{"route":"onChat","msg":"n1","from":"alice","target":"*"}}`}},
	{file: "sio1-polling.jsonl", line: 191, rule: pushFirst, instead: []string{`message {"id":7,"body":{}}`}},
	{file: "sio1-polling.jsonl", line: 203, rule: pushFirst, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"n2","from":"alice","target":"*"}}`, `message {"id":8,"body":{}}`}},
	{file: "sio1-polling.jsonl", line: 220, rule: pushFirst, after: 226},
	{file: "sio1-polling.jsonl", line: 265, rule: noKickBack},
	{file: "sio1-polling.jsonl", line: 270, rule: noKickBack, instead: []string{"6"}, who: "session Yl2d2t-TppPeDrFbAAAB"},
	{file: "sio1-polling.jsonl", line: 300, rule: pushFirst, after: 305},
	{file: "sio1-polling.jsonl", line: 316, rule: noKickBack},
	{file: "sio1-polling.jsonl", line: 317, rule: noKickBack, instead: []string{"6"}, who: "session U_Ndnnt7HN_AkxPPAAAH"},
	{file: "sio1-upgrade.jsonl", line: 31, rule: noKickBack},
	{file: "sio1-upgrade.jsonl", line: 135, rule: noKickBack},
	{file: "sio2-upgrade.jsonl", line: 32, rule: noKickBack},
	{file: "sio2-upgrade.jsonl", line: 130, rule: noKickBack},
	{file: "sio1-errors.jsonl", line: 14, rule: oneAnswer, instead: []string{`message {"id":3,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 19, rule: oneAnswer, instead: []string{`message {"id":5,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 42, rule: pushFirst, after: 43},
	{file: "sio1-errors.jsonl", line: 43, rule: noContent, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"","from":"eve","target":"*"}}`}},
	{file: "sio1-errors.jsonl", line: 46, rule: pushFirst, after: 47},
	{file: "sio1-errors.jsonl", line: 50, rule: pushFirst, after: 51},
	{file: "sio1-errors.jsonl", line: 75, rule: noBinary, instead: []string{`close 1000 ""`}},
	{file: "sio1-errors.jsonl", line: 84, rule: badBody, instead: []string{`message {"id":1,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 120, rule: noKickBack},
	{file: "sio1-errors.jsonl", line: 131, rule: engineClose, instead: []string{`close 1000 ""`}},
	{file: "sio1-errors.jsonl", line: 141, rule: notClosed, instead: []string{`message {"id":1,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 142, rule: notClosed},
	{file: "sio1-errors.jsonl", line: 155, rule: newName, instead: []string{`message {"id":2,"body":{"users":["two"]}}`}},
	{file: "sio1-errors.jsonl", line: 156, rule: ownOnAdd},
	{file: "sio1-errors.jsonl", line: 159, rule: pushFirst, after: 160},
	{file: "sio1-errors.jsonl", line: 160, rule: newName, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"me","from":"two","target":"*"}}`}},
	{file: "sio1-errors.jsonl", line: 163, rule: newName, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"me","from":"two","target":"two"}}`, `message {"id":4,"body":{}}`}},
	{file: "sio1-errors.jsonl", line: 172, rule: badNames, instead: []string{`message {"id":1,"body":{"code":500,"error":true}}`}},
	{file: "sio1-errors.jsonl", line: 185, rule: noStars, instead: []string{`message {"id":1,"body":{"code":500,"error":true}}`}},
	{file: "sio1-errors.jsonl", line: 188, rule: noStars, instead: []string{`message {"id":2,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 189, rule: noStars},
	{file: "sio1-errors.jsonl", line: 192, rule: noStars, instead: []string{`message {"id":3,"body":{"code":500}}`}},
	{file: "sio1-errors.jsonl", line: 193, rule: noStars},
	{file: "sio1-http.jsonl", line: 26, rule: pushFirst, instead: []string{`message {"route":"onChat","body":{"route":"onChat","msg":"二进制","from":"张三","target":"*"}}`, `message {"id":3,"body":{}}`}},
	{file: "sio1-http.jsonl", line: 54, rule: supersede, instead: []string{"6"}, who: "session _g_52MvOKd9jLL95AAAf"},
	{file: "sio1-http.jsonl", line: 55, rule: supersede},
	{file: "sio1-http.jsonl", line: 56, rule: supersede},
	{file: "sio1-http.jsonl", line: 77, rule: preflights, instead: []string{preflight}},
	{file: "sio1-http.jsonl", line: 80, rule: connectAtOnce, instead: []string{"40"}, who: "session KZlBotXCrXvz_G6kAAAh"},
	{file: "sio1-http.jsonl", line: 83, rule: preflights, instead: []string{granted}},
	{file: "sio1-http.jsonl", line: 95, rule: aloneRoot, instead: []string{"HTTP/1.1 200 OK | connection: keep-alive | content-type: text/plain | Welcome to socket.io."}},
	{file: "sio1-http.jsonl", line: 101, rule: connectAtOnce, instead: []string{"40"}, who: "session 3i9zAIuEPYHElaItAAAj"},
	{file: "sio1-http.jsonl", line: 109, rule: elsewhere, instead: []string{nothingHere, "end"}},
	{file: "sio1-http.jsonl", line: 112, rule: onePort, instead: []string{"HTTP/1.1 200 OK | connection: keep-alive | content-type: text/plain | AAAAAAAAAAAAAAAAAAAA:60:60:websocket,xhr-polling,jsonp-polling"}},
	{file: "sio1-http.jsonl", line: 115, rule: elsewhere, instead: []string{nothingHere, "end"}},
	{file: "sio1-http.jsonl", line: 137, rule: noKickBack},
	{file: "sio1-http.jsonl", line: 149, rule: onePort, instead: []string{"HTTP/1.1 101 Switching Protocols | connection: upgrade | sec-websocket-accept: NdXIDxQR4UiYGfw+SQHG1JliCBM= | upgrade: websocket"}},
	{file: "sio09-websocket.jsonl", line: 57, rule: entryOrder, instead: []string{`element {"id":3,"body":{"users":["alice","bob","王五"]}}`}},
	{file: "sio09-websocket.jsonl", line: 84, rule: pushFirst, instead: []string{`element {"id":6,"body":{}}`, `element {"route":"onChat","msg":"n1","from":"alice","target":"*"}`}},
	{file: "sio09-websocket.jsonl", line: 87, rule: pushFirst, instead: []string{`element {"id":7,"body":{}}`, `element {"route":"onChat","msg":"n2","from":"alice","target":"*"}`, `element {"id":8,"body":{}}`}},
	{file: "sio09-websocket.jsonl", line: 109, rule: noGoodbye},
	{file: "sio09-websocket.jsonl", line: 115, rule: oneAnswer, instead: []string{`element {"id":9,"body":{"code":500}}`}},
	{file: "sio09-websocket.jsonl", line: 118, rule: oneAnswer, instead: []string{`element {"route":"onChat","msg":"still here","from":"alice","target":"*"}`, `element {"id":10,"body":{}}`}},
	{file: "sio09-xhr-polling.jsonl", line: 70, rule: entryOrder, instead: []string{`element {"id":3,"body":{"users":["alice","bob","王五"]}}`}},
	{file: "sio09-xhr-polling.jsonl", line: 115, rule: pushFirst, instead: []string{`element {"route":"onChat","msg":"n1","from":"alice","target":"*"}`, `element {"id":7,"body":{}}`, `element {"route":"onChat","msg":"n2","from":"alice","target":"*"}`, `element {"id":8,"body":{}}`}},
	{file: "sio09-xhr-polling.jsonl", line: 164, rule: oneAnswer, instead: []string{`element {"id":9,"body":{"code":500}}`}, who: "session PUOs7VidbCpavVoCeLOL"},
	{file: "sio09-xhr-polling.jsonl", line: 168, rule: oneAnswer, instead: []string{`element {"route":"onChat","msg":"still here","from":"alice","target":"*"}`, `element {"id":10,"body":{}}`}, who: "session PUOs7VidbCpavVoCeLOL"},
	{file: "ref-socketio-0.9.17.jsonl", line: 33, rule: heartbeatFirst, after: 34},
	{file: "ref-socketio-0.9.17.jsonl", line: 35, rule: kicked, instead: []string{`element {"route":"onKick","reason":"booted"}`, "0::"}},
	{file: "ref-socketio-0.9.17.jsonl", line: 94, rule: kicked, instead: []string{`element {"route":"onKick","reason":"booted"}`, "0::"}},
	{file: "ref-socketio-0.9.17.jsonl", line: 125, rule: elsewhere, instead: []string{nothingHere, "end"}},
	{file: "ref-socketio-0.9.17.jsonl", line: 128, rule: saidAtOnce, instead: []string{nothingHere, "end"}},
	{file: "ref-socketio-0.9.17.jsonl", line: 159, rule: notAString, instead: []string{`element {"id":5,"body":{"text":"echo:via event"}}`}},
	{file: "ref-socketio-0.9.17.jsonl", line: 173, rule: takeOver, instead: []string{"8::"}, who: "session sN5RsMFz9rTNy9bnYBqc"},
	{file: "ref-socketio-0.9.17.jsonl", line: 210, rule: answered, instead: []string{preflight}},
	{file: "ref-socketio-2.jsonl", line: 33, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-2.jsonl", line: 117, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-2.jsonl", line: 122, rule: kicked, instead: []string{unknownSID}},
	{file: "ref-socketio-2.jsonl", line: 164, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-2.jsonl", line: 186, rule: preflights, instead: []string{preflight}},
	{file: "ref-socketio-4.jsonl", line: 41, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-4.jsonl", line: 141, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-4.jsonl", line: 148, rule: kicked, instead: []string{unknownSID}},
	{file: "ref-socketio-4.jsonl", line: 150, rule: kicked, instead: []string{unknownSID}},
	{file: "ref-socketio-4.jsonl", line: 201, rule: kicked, instead: []string{`message {"route":"onKick","reason":"booted"}`, "41"}},
	{file: "ref-socketio-4.jsonl", line: 236, rule: preflights, instead: []string{strings.NewReplacer("200 OK", "204 No Content", "access-control-allow-credentials: true | ", "").Replace(preflight)}},
	{file: "ref-socketio-4.jsonl", line: 245, rule: connectAtOnce, instead: []string{"40"}, who: "session Na0Ai0d30uw3eHZPAAAO"},
	{file: "ref-socketio-4.jsonl", line: 248, rule: connectAtOnce, instead: []string{"40"}, who: "session 0mRy8WUHEZ3C872LAAAP"},
}

// sioAlso is what the transcripts tell only in their notes.
var sioAlso = []also{
	{"sio1-websocket.jsonl", 107, "the transport of 王五 is cut", []string{carolIsCut}},
	{"sio1-polling.jsonl", 280, "the transport of 王五 is cut", []string{carolIsCut}},
	{"sio1-upgrade.jsonl", 139, "the transport of 王五 is cut", []string{carolIsCut}},
	{"sio2-upgrade.jsonl", 133, "the transport of 王五 is cut", []string{carolIsCut}},
	{"sio1-http.jsonl", 56, "the newer GET is open still: its end is the session's (§6.3)", []string{
		`{"dir":"c2s","kind":"cut","who":"http","conn":2,"port":13050}`,
		`{"dir":"c2s","kind":"connect","who":"http","conn":2,"port":13050}`,
		`{"dir":"c2s","kind":"request","who":"http","conn":2,"port":13050,"line":"GET /socket.io/?EIO=3&transport=polling&b64=1&sid=_g_52MvOKd9jLL95AAAf HTTP/1.1","headers":{"connection":"keep-alive"}}`,
		`{"dir":"s2c","kind":"response","who":"http","conn":2,"port":13050,"line":"HTTP/1.1 400 Bad Request","headers":{"content-type":"application/json","access-control-allow-origin":"*","connection":"keep-alive"},"text":"{\"code\":1,\"message\":\"Session ID unknown\"}"}`,
	}},
	{"sio1-http.jsonl", 68, "§6.4: use the current request's j (what line 61 would fetch has come before)", []string{
		`{"dir":"c2s","kind":"request","who":"http","conn":1,"port":13050,"line":"POST /socket.io/?EIO=3&transport=polling&b64=1&j=7&sid=POE-tZDh1ogaVgCWAAAg HTTP/1.1","headers":{"content-type":"application/x-www-form-urlencoded","connection":"keep-alive"},"text":"d=1%3A2"}`,
		`{"dir":"s2c","kind":"response","who":"http","conn":1,"port":13050,"line":"HTTP/1.1 200 OK","headers":{"content-type":"text/html","set-cookie":"io=POE-tZDh1ogaVgCWAAAg; Path=/; HttpOnly","connection":"keep-alive"},"text":"ok"}`,
		`{"dir":"c2s","kind":"request","who":"http","conn":1,"port":13050,"line":"GET /socket.io/?EIO=3&transport=polling&b64=1&j=8&sid=POE-tZDh1ogaVgCWAAAg HTTP/1.1","headers":{"connection":"keep-alive"}}`,
		`{"dir":"s2c","kind":"response","who":"http","conn":1,"port":13050,"line":"HTTP/1.1 200 OK","headers":{"content-type":"text/plain; charset=UTF-8","x-xss-protection":"0","set-cookie":"io=POE-tZDh1ogaVgCWAAAg; Path=/; HttpOnly","connection":"keep-alive"},"text":"___eio[8](\"1:3\");"}`,
	}},
	{"sio1-http.jsonl", 116, "the 404 was the last answer", []string{`{"dir":"c2s","kind":"connect","who":"http","conn":2,"port":13050}`}},
	{"sio09-websocket.jsonl", 112, "the transport of 王五 is cut", []string{carolIsCut}},
	{"sio09-xhr-polling.jsonl", 161, "the transport of 王五 is cut", []string{carolIsCut}},
	{"ref-socketio-0.9.17.jsonl", 126, "the 404 was the last answer", []string{`{"dir":"c2s","kind":"connect","who":"http","conn":1,"port":8909}`}},
	{"ref-socketio-0.9.17.jsonl", 219, "the proxy did not see this handshake", []string{
		`{"dir":"c2s","kind":"connect","who":"ws","conn":9,"port":8909}`,
		`{"dir":"c2s","kind":"request","who":"ws","conn":9,"port":8909,"line":"GET /socket.io/1/ HTTP/1.1","headers":{"connection":"close"}}`,
		`{"dir":"s2c","kind":"response","who":"ws","conn":9,"port":8909,"line":"HTTP/1.1 200 OK","headers":{"content-type":"text/plain","connection":"close"},"text":"csAkMBcmMv1044vuYBqg:6:6:websocket,xhr-polling,jsonp-polling"}`,
		`{"dir":"s2c","kind":"closed","who":"ws","conn":9,"port":8909}`,
	}},
}

// unknownSID is the answer to a request for a session that is gone.
const unknownSID = `HTTP/1.1 400 Bad Request | access-control-allow-origin: * | connection: close | content-type: application/json | {"code":1,"message":"Session ID unknown"}`

// nothingHere is the answer where there is nothing.
const nothingHere = "HTTP/1.1 404 Not Found | connection: close | content-type: text/plain; charset=utf-8 | nothing here; a Pomelo client connects by WebSocket, socket.io or TCP"

// preflight is the answer to OPTIONS.
const preflight = "HTTP/1.1 200 OK | access-control-allow-credentials: true | access-control-allow-headers: Content-Type | access-control-allow-methods: GET,POST,OPTIONS | access-control-allow-origin: http://example.test | access-control-max-age: 600 | connection: keep-alive"

// granted is the answer to one that asks for a header, as browsers write it.
var granted = strings.Replace(preflight, "Content-Type", "content-type", 1) + " | vary: Origin, Access-Control-Request-Headers"

const carolIsCut = `{"dir":"c2s","kind":"cut","who":"carol"}`
