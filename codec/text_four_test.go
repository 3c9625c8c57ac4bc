package codec

import "testing"

func TestHasFourByteUTF8(t *testing.T) {
	for in, want := range map[string]bool{
		"": false, "é中": false, "😀": true, "0123456789😀": true, "\xed\xa0\xbd\xed\xb8\x80": false, "\xf0\x9f\x98": false, "\xf0\x9f\x98x😀": true,
		"\xff\xff\xff\xff\xff\xff\xff\xff": false, "\xf4\x90\x80\x80": false, "\xf0\x80\x80\x80": false,
	} {
		if got := HasFourByteUTF8([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// Only strings count, wherever they stand: the bytes of numbers may look like anything.
func TestProtoHasFourByteUTF8(t *testing.T) {
	p, err := ParseProtos([]byte(`{}`), []byte(`{"r":{"optional double d":1,"optional string s":2,"repeated string rs":3,"repeated uInt32 ru":4,
		"message M":{"optional string s":1},"optional M m":5}}`))
	if err != nil {
		t.Fatal(err)
	}
	m := p.Client("r")
	for in, want := range map[string]bool{
		"": false, "\x12\x04😀": true, "\x12\x03中": false, "\x1a\x01x\x1a\x04😀": true, "\x09😀😀": false, "\x2a\x06\x0a\x04😀": true,
		"\x22\x01\xf0\x9f\x98\x00": false, "\x12\x05😀": false, "\x2a\x06\x0a\x05😀": false, "\x78😀": false,
		"\x12\x06\xed\xa0\xbd\xed\xb8\x80": false,
	} {
		if got := m.HasFourByteUTF8([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}
