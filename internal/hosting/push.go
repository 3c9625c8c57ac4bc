package hosting

import "github.com/pomelod/pomelod/codec"

// PushBody is the body of a push in the form that every client can read, made of JSON text that b may become a part of. It returns false where that is no
// object, or one with a member named body, which Pomelo's clients would take for the whole.
func PushBody(b []byte) (body []byte, ok bool) {
	b = codec.NormalizeUTF8(b)
	if !codec.IsCanonical(b) {
		b = codec.AppendCanonical(make([]byte, 0, len(b)+len(b)/2), b)
	}
	object := codec.ScanObject(b)
	for key, _, more := object.Next(); more; key, _, more = object.Next() {
		if string(key) == "body" {
			return nil, false
		}
	}
	return b, object.Err() == nil
}
