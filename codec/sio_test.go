package codec

import (
	"strings"
	"testing"
)

func TestParseSIOMessageCountsCodeUnits(t *testing.T) {
	const lone = "\xed\xa0\xbd" // U+D83D alone
	for _, c := range []struct {
		name, text  string
		id          int32
		route, body string
		ok          bool
	}{
		{"empty", "", 0, "", "", false},
		{"four units", "\x00\x00\x00\x01", 0, "", "", false},
		{"header only", "\x00\x00\x00\x01\x00", 1, "", "", true},
		{"no body", "\x00\x00\x00\x01\x03a.b", 1, "a.b", "", true},
		{"route cut off", "\x00\x00\x00\x01\x04a.b", 0, "", "", false},
		{"notify", "\x00\x00\x00\x00\x01a{}", 0, "a", "{}", true},
		{"negative id", "ÿÿÿþ\x01a{}", -2, "a", "{}", true},
		{"high bytes of header units", "ĀȀ\u0300Ё\u0501a{}", 1, "a", "{}", true},
		{"non-ASCII route", "\x00\x00\x00\x01\x02房间{}", 1, "房间", "{}", true},
		{"supplementary route", "\x00\x00\x00\x01\x04😀ab{}", 1, "😀ab", "{}", true},
		{"supplementary in the header", "😀\x01\x02\x01a{}", 0x3D000102, "a", "{}", true},
		{"two in the header", "😀😀\x01a{}", 0x3D003D00, "a", "{}", true},
		{"route of 128 units", "\x00\x00\x00\x01\u0080" + strings.Repeat("é", 128) + "{}", 1, strings.Repeat("é", 128), "{}", true},
		{"lone surrogate in the header", lone + "\x00\x00\x01\x01a{}", 0x3D000001, "a", "{}", true},
		{"lone surrogate in the route", "\x00\x00\x00\x01\x02" + lone + "a{}", 1, lone + "a", "{}", true},
		{"replaced surrogate", "\x00\x00\x00\x01\x02\ufffda{}", 1, "\ufffda", "{}", true},
		{"route cuts a character", "\x00\x00\x00\x01\x02a😀{}", 1, "a", "😀{}", true},
		{"header cuts a character", "\x00\x00\x00\x01😀" + strings.Repeat("a", 60) + "{}", 1, "😀" + strings.Repeat("a", 60), "{}", true},
		{"header cuts a character before an empty route", "\x00\x00\x00\x01\U00010000{}", 1, "", "\U00010000{}", true},
		{"route cut off inside a character", "\x00\x00\x00\x01\x03a😀", 1, "a😀", "", true},
		{"character of which the route lacks half", "\x00\x00\x00\x01\x04a😀", 0, "", "", false},
	} {
		m, ok := ParseSIOMessage([]byte(c.text))
		if m.ID != c.id && c.ok || ok != c.ok || string(m.Route) != c.route && c.ok || string(m.Body) != c.body && c.ok {
			t.Errorf("%s: got %d %q %q, %v", c.name, m.ID, m.Route, m.Body, ok)
		}
	}
}

func TestParseSIOPacket(t *testing.T) {
	for _, c := range []struct {
		in                   string
		typ                  SIOPacketType
		namespace, ack, data string // namespace "-": nil
	}{
		{`0`, SIOConnect, "-", "", ""},
		{`0{"token":"x"}`, SIOConnect, "-", "", `{"token":"x"}`},
		{`0/`, SIOConnect, "-", "", ""},
		{`0/chat`, SIOConnect, "/chat", "", ""},
		{`0/chat,`, SIOConnect, "/chat", "", ""},
		{`0/chat?a=1,{}`, SIOConnect, "/chat", "", "{}"},
		{`0/?a=1`, SIOConnect, "-", "", ""},
		{`1`, SIODisconnect, "-", "", ""},
		{`1/chat,`, SIODisconnect, "/chat", "", ""},
		{`2["message","x"]`, SIOEvent, "-", "", `["message","x"]`},
		{`2["message",`, SIOEvent, "-", "", `["message",`},
		{`2/,["message"]`, SIOEvent, "-", "", `["message"]`},
		{`2/chat,["message"]`, SIOEvent, "/chat", "", `["message"]`},
		{`2/chat?a=1,[]`, SIOEvent, "/chat?a=1", "", `[]`},
		{`217["message","x"]`, SIOEvent, "-", "17", `["message","x"]`},
		{`2/chat,17["message"]`, SIOEvent, "/chat", "17", `["message"]`},
		{`317[]`, SIOAck, "-", "17", "[]"},
		{`4"no"`, SIOConnectError, "-", "", `"no"`},
		{`51-["message",{"_placeholder":true,"num":0}]`, SIOBinaryEvent, "-", "", `["message",{"_placeholder":true,"num":0}]`},
		{`512-/chat,3[]`, SIOBinaryEvent, "/chat", "3", `[]`},
		{`61-5[]`, SIOBinaryAck, "-", "5", `[]`},
	} {
		p, ok := ParseSIOPacket([]byte(c.in))
		namespace := string(p.Namespace)
		if p.Namespace == nil {
			namespace = "-"
		}
		if !ok || p.Type != c.typ || namespace != c.namespace || string(p.AckID) != c.ack ||
			(p.AckID == nil) != (c.ack == "") || string(p.Data) != c.data {
			t.Errorf("%s: got %c %q %q %q, %v", c.in, p.Type, namespace, p.AckID, p.Data, ok)
		}
	}
	for _, in := range []string{"", "7", "9[]", "zzz", "b", "/", " 2[]", "0{", "0[}", "1x", "1{}{}", "3]", "4zzz", "5[]", "5-[]", "5", "51", "51[]", "6x-[]"} {
		if p, ok := ParseSIOPacket([]byte(in)); ok || p.Data != nil || p.Type != 0 {
			t.Errorf("%q: got %+v, %v", in, p, ok)
		}
	}
}

func TestAppendEventText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`2["message",""]`, ""},
		{`2["message","x"]`, "x"},
		{`2 [ "message" , "x" ] `, "x"},
		{`23["message","x"]`, "x"},
		{`2["message","x",1,{"a":[]}]`, "x"},
		{`2["\u006dessage","x"]`, "x"},
		{`2["message","\u0000\u0001\"\\\/\b\f\n\r\t"]`, "\x00\x01\"\\/\b\f\n\r\t"},
		{`2["message","é你😀"]`, "é你😀"},
		{`2["message","\u00e9\u4f60\ud83d\ude00"]`, "é你😀"},
		{`2["message","\ud83dx\ude00"]`, "\ufffdx\ufffd"},
		{"2[\"message\",\"\xed\xa0\xbd\xed\xb8\x80\xff\"]", "😀\ufffd"},
	} {
		p, _ := ParseSIOPacket([]byte(c.in))
		if text, ok := p.AppendEventText([]byte("dst")); !ok || string(text) != "dst"+c.want {
			t.Errorf("%s: got %q, %v", c.in, text, ok)
		}
	}
	for _, in := range []string{
		`0["message","x"]`, `3["message","x"]`, `51-["message","x"]`, `2`, `2{}`, `2"message"`, `2[]`, `2["message"]`,
		`2["message",1]`, `2["message",null]`, `2["message",["x"]]`, `2["message",{"x":"x"}]`, `2["msg","x"]`, `2["Message","x"]`,
		`2["message ","x"]`, `2[1,"x"]`, `2[bad`, `2["message","x"`, `2["message","x",]`, `2["message","x"]]`, `2["message","x",bad]`,
		`2["message","x"]"y"`, `2["message","\x"]`, "2[\"message\",\"\n\"]", `2["message","\ud8"]`,
		`2["message","x",` + strings.Repeat("[", maxJSONDepth) + strings.Repeat("]", maxJSONDepth) + `]`,
	} {
		p, _ := ParseSIOPacket([]byte(in))
		if text, ok := p.AppendEventText([]byte("dst")); ok || string(text) != "dst" {
			t.Errorf("%s: got %q, %v", in, text, ok)
		}
	}
}

func TestParseSIO09Packet(t *testing.T) {
	for _, c := range []struct {
		in                 string
		typ                SIO09Type
		id, endpoint, data string
		dataAck            bool
	}{
		{"0::", SIO09Disconnect, "", "", "", false},
		{"1::/chat:?a=1", SIO09Connect, "", "/chat", "?a=1", false},
		{"2::", SIO09Heartbeat, "", "", "", false},
		{"3::", SIO09Message, "", "", "", false},
		{"3:::a:b\n:", SIO09Message, "", "", "a:b\n:", false},
		{"3:12:/chat:x", SIO09Message, "12", "/chat", "x", false},
		{"3:12+::x", SIO09Message, "12", "", "x", true},
		{"3:+::x", SIO09Message, "", "", "x", false},
		{"3::/chat", SIO09Message, "", "/chat", "", false},
		{"4:::{}", SIO09JSON, "", "", "{}", false},
		{"6:::7+[1]", SIO09Ack, "", "", "7+[1]", false},
		{"6:1:", SIO09Ack, "1", "", "", false},
		{"7:::1+0", SIO09Error, "", "", "1+0", false},
		{"8::", SIO09Noop, "", "", "", false},
	} {
		p, ok := ParseSIO09Packet([]byte(c.in))
		if !ok || p.Type != c.typ || string(p.ID) != c.id || (p.ID == nil) != (c.id == "") || p.DataAck != c.dataAck ||
			string(p.Endpoint) != c.endpoint || string(p.Data) != c.data {
			t.Errorf("%q: got %c %q %v %q %q, %v", c.in, p.Type, p.ID, p.DataAck, p.Endpoint, p.Data, ok)
		}
	}
	for _, in := range []string{"", "3", "3:", ":", "::", ":::", "3:x::y", "3:1++::y", "3:1", "3:1+", "9::", "10::", "x::", " 3::", "-1::", "33:::x", "\ufffd5\ufffd3:::a"} {
		if p, ok := ParseSIO09Packet([]byte(in)); ok || p.Type != 0 {
			t.Errorf("%q: got %+v, %v", in, p, ok)
		}
	}
}

func TestSIO09AppendText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"3:::x", "x"},
		{"3::", ""},
		{"3:::\x00\xff", "\x00\ufffd"},
		{`5:::{"name":"message","args":["x"]}`, "x"},
		{`5:1+:/chat:{"args":["\ud83d\ude00\ud83d",2],"name":"message"}`, "😀\ufffd"},
		{`5:::{"name":"e","name":"message","args":1,"args":["x"]}`, "x"},
		{`5:::{"\u006eame":"\u006dessage","args":["x"],"more":{}}`, "x"},
	} {
		p, _ := ParseSIO09Packet([]byte(c.in))
		if text, ok := p.AppendText([]byte("dst")); !ok || string(text) != "dst"+c.want {
			t.Errorf("%s: got %q, %v", c.in, text, ok)
		}
	}
	for _, in := range []string{
		`0::`, `1::`, `2::`, `4:::"x"`, `6:::7`, `7:::1+0`, `8::`, `5::`, `5:::{bad`, `5:::[]`, `5:::{}`, `5:::{"name":"message"}`,
		`5:::{"args":["x"]}`, `5:::{"name":"message","args":[]}`, `5:::{"name":"message","args":{}}`, `5:::{"name":"message","args":"x"}`,
		`5:::{"name":"message","args":[1]}`, `5:::{"name":"e","args":["x"]}`, `5:::{"name":["message"],"args":["x"]}`,
		`5:::{"name":"message","args":["x"]}}`, `5:::{"name":"message","args":["x"],"y":bad}`, `5:::{"name":"message","args":["x",]}`,
	} {
		p, _ := ParseSIO09Packet([]byte(in))
		if text, ok := p.AppendText([]byte("dst")); ok || string(text) != "dst" {
			t.Errorf("%s: got %q, %v", in, text, ok)
		}
	}
}
