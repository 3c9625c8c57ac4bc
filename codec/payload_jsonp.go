package codec

import "bytes"

// AppendJSONP appends the script that hands a payload to a JSONP client: callback, "___eio[0]" or
// "io.j[0]", called with the payload as a JSON string (protocol.md §5.5, §6.4). U+2028 and U+2029
// are escaped: JSON may hold them, a script of that time may not.
func AppendJSONP(dst []byte, callback string, payload []byte) []byte {
	dst = append(append(dst, callback...), `("`...)
	payload = NormalizeUTF8(payload)
	for {
		n := skipPlain(payload, 0)
		dst = appendLines(dst, payload[:n])
		if n == len(payload) {
			return append(dst, `");`...)
		}
		dst = appendEscape(dst, payload[n])
		payload = payload[n+1:]
	}
}

// appendLines appends s with the line separators U+2028 and U+2029 escaped.
func appendLines(dst, s []byte) []byte {
	for {
		i := bytes.Index(s, []byte("\u2028")[:2])
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		switch s[i+2] {
		case 0xA8, 0xA9:
			dst = append(dst, '\\', 'u', '2', '0', '2', s[i+2]-0xA8+'8')
		default:
			dst = append(dst, s[i:i+3]...)
		}
		s = s[i+3:]
	}
}

// AppendJSONPBody appends the payload in the body of a JSONP client's POST, the form field d. For
// PayloadSIO09 that is a JSON string (protocol.md §5.5), for PayloadEIO3Text the payload with its
// line feeds escaped (§6.4). ok is false, and dst returned as it was, if there is none.
func AppendJSONPBody(dst, body []byte, form PayloadForm) (payload []byte, ok bool) {
	at := len(dst)
	raw, ok := findQueryValue(body, "d")
	if !ok {
		return dst, false
	}
	dst = appendQueryUnescaped(dst, raw)
	// What follows shortens the text, in place.
	if form != PayloadSIO09 {
		return appendLineFeeds(dst[:at], dst[at:]), true
	}
	literal := bytes.Trim(dst[at:], " \t\r\n")
	if len(literal) == 0 || literal[0] != '"' {
		return dst[:at], false
	}
	if end, _, ok := skipString(literal, 0); !ok || end != len(literal) {
		return dst[:at], false
	}
	return appendStringValue(dst[:at], literal)
}

// appendLineFeeds undoes what keeps browsers from turning line feeds into CRLF on submission: a line
// feed was sent as \n, and \n as \\n.
func appendLineFeeds(dst, s []byte) []byte {
	for {
		i := bytes.Index(s, []byte(`\n`))
		if i < 0 {
			return append(dst, s...)
		}
		if i > 0 && s[i-1] == '\\' {
			dst = append(append(dst, s[:i-1]...), `\n`...)
		} else {
			dst = append(append(dst, s[:i]...), '\n')
		}
		s = s[i+2:]
	}
}
