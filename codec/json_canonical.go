package codec

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"sync"
)

// What one client says in JSON another one's parser reads, and parsers differ in what they refuse: Go's a number beyond a double, some
// of Java's and C#'s an object with equal keys, browser builds of Pomelo four bytes of UTF-8. The original reads all
// of it and writes it anew (JSON.parse, JSON.stringify); so do we, but only where there is something of the kind (protocol.md §9.4):
//
//   - characters above U+FFFF become pairs of \u escapes; a lone surrogate that came as an escape stays one
//   - a number beyond a double becomes null; one of more than maxNumber bytes, or with more than three digits of exponent, what
//     JavaScript would write; an integer beyond 64 bits gets an exponent, as jansson, the parser of libpomelo2, refuses it otherwise
//   - of members with equal keys the last one counts, in the place of the first. Keys that look like array indices keep their place,
//     other than in JavaScript. Keys that differ in lone surrogates only are taken for equal, as Go's parser does
//
// maxJSONDepth bounds the nesting before all of this. The work is that of reading the text, and for objects n log n in their members.

// maxNumber is how long a number may be: Jackson refuses more than 1000 bytes, Python integers of more than 4300 digits.
const maxNumber = 100

// minBigInteger is how many bytes the shortest integer has that may be beyond 64 bits.
const minBigInteger = len("9223372036854775808")

// IsCanonical tells whether raw, valid JSON in valid UTF-8, can be sent to every client as it is. If not, AppendCanonical makes it so.
func IsCanonical(raw []byte) bool {
	return !hasAstral(raw) && IsPlain(raw)
}

// IsPlain is IsCanonical but for characters above U+FFFF, which cost AppendCanonical next to nothing. Text that is not plain it writes
// anew, at up to a tenth of a microsecond for each byte: equal keys, numbers that some parsers refuse. No client's JSON library writes such
// text by itself. What is no valid JSON may be either.
func IsPlain(raw []byte) bool {
	i := skipSpace(raw, 0)
	if i == len(raw) || raw[i] == '"' {
		return true // nearly all content is a string
	}
	kept := hashPool.Get().(*[]uint64)
	hashes, _, plain := checkPlain((*kept)[:0], raw, i, maxJSONDepth)
	if cap(hashes) <= maxHashesKept {
		*kept = hashes
	}
	hashPool.Put(kept)
	return plain
}

// hashPool keeps what IsPlain needs for objects.
var hashPool = sync.Pool{New: func() any { return new([]uint64) }}

const maxHashesKept = 1024

// AppendCanonical appends raw, valid JSON in valid UTF-8, in the form every client can read. White space, and whatever needs no
// change, is copied as it is, unless numbers or keys need one: then the text is compact. What is no valid JSON only has its
// characters above U+FFFF escaped.
func AppendCanonical(dst, raw []byte) []byte {
	if IsPlain(raw) {
		return appendEscaped(dst, raw)
	}
	w := rewriter{dst: dst}
	end, ok := w.value(raw, skipSpace(raw, 0), maxJSONDepth)
	if !ok || skipSpace(raw, end) < len(raw) {
		return appendEscaped(w.dst[:len(dst)], raw)
	}
	return w.dst
}

// keySeed makes hashes of keys unpredictable. Two that collide only cost a rewriting that changes nothing.
var keySeed = maphash.MakeSeed()

// checkPlain looks at the value at b[i] and returns where it ends, and false for one that needs a change or is malformed. hashes are those
// of the keys of the objects that are open.
func checkPlain(hashes []uint64, b []byte, i, depth int) (_ []uint64, end int, plain bool) {
	if i >= len(b) || depth < 0 {
		return hashes, i, false
	}
	switch b[i] {
	case '"':
		end, _, plain = skipString(b, i)
	case '{', '[':
		return checkContainer(hashes, b, i, depth-1)
	case 't':
		end, plain = skipWord(b, i, "true")
	case 'f':
		end, plain = skipWord(b, i, "false")
	case 'n':
		end, plain = skipWord(b, i, "null")
	default:
		end, plain = skipNumber(b, i)
		plain = plain && plainNumber(b[i:end])
	}
	return hashes, end, plain
}

func checkContainer(hashes []uint64, b []byte, i, depth int) (_ []uint64, end int, plain bool) {
	object, base := b[i] == '{', len(hashes)
	if i = skipSpace(b, i+1); i < len(b) && (b[i] == '}' || b[i] == ']') {
		return hashes, i + 1, true
	}
	for {
		if object {
			key, next, ok := scanKey(b, i)
			if !ok {
				return hashes, next, false
			}
			hashes, i = append(hashes, maphash.Bytes(keySeed, key)), next
		}
		if hashes, i, plain = checkPlain(hashes, b, i, depth); !plain {
			return hashes, i, false
		}
		if i = skipSpace(b, i); i >= len(b) {
			return hashes, i, false
		}
		if b[i] != ',' {
			return hashes[:base], i + 1, !anyEqual(hashes[base:])
		}
		i = skipSpace(b, i+1)
	}
}

// anyEqual tells whether two hashes are equal. It changes their order.
func anyEqual(hashes []uint64) bool {
	if len(hashes) > inlineFields {
		slices.Sort(hashes)
		for i := 1; i < len(hashes); i++ {
			if hashes[i] == hashes[i-1] {
				return true
			}
		}
		return false
	}
	for i, h := range hashes {
		if slices.Contains(hashes[:i], h) {
			return true
		}
	}
	return false
}

// plainNumber tells whether a number can stand as it is.
func plainNumber(raw []byte) bool {
	if len(raw) > maxNumber {
		return false
	}
	if len(raw) >= minBigInteger && !bytes.ContainsAny(raw, ".eE") {
		_, err := strconv.ParseInt(string(raw), 10, 64)
		return err == nil
	}
	exponent := 0
	if i := bytes.IndexAny(raw, "eE"); i >= 0 {
		digits := bytes.TrimLeft(raw[i+1:], "+-")
		if len(digits) > 3 {
			return false
		}
		if raw[i+1] != '-' {
			exponent, _ = strconv.Atoi(string(digits))
		}
	}
	if len(raw)+exponent < 308 { // each digit before the point is a power of ten
		return true
	}
	_, err := strconv.ParseFloat(string(raw), 64)
	return err == nil
}

// appendNumber appends a number as JavaScript would, where it must not stay as it is.
func appendNumber(dst, raw []byte) []byte {
	if plainNumber(raw) {
		return append(dst, raw...)
	}
	f, _ := strconv.ParseFloat(string(raw), 64) // an infinity when it is beyond the range
	if size := math.Abs(f); size >= 1<<63 && size < 1e21 {
		return strconv.AppendFloat(dst, f, 'e', -1, 64) // where JavaScript would write all digits
	}
	return appendJSONFloat(dst, f)
}

// rewriter writes JSON anew, as JavaScript would have read it.
type rewriter struct {
	dst     []byte
	members []rewritten // of the objects that are open, the innermost last
	hashes  []uint64    // of one object's keys
	spare   []byte      // what mergeEqual moves
}

// rewritten is a member of an object that is open: dst[from:to].
type rewritten struct {
	key      []byte
	from, to int
}

// value writes the value at b[i] and returns where it ends, and false when it is malformed.
func (w *rewriter) value(b []byte, i, depth int) (end int, ok bool) {
	if i >= len(b) || depth < 0 {
		return i, false
	}
	switch b[i] {
	case '{':
		return w.object(b, i, depth-1)
	case '[':
		return w.array(b, i, depth-1)
	}
	end, err := skipValue(b, i, 0)
	if err != nil {
		return end, false
	}
	if raw := b[i:end]; raw[0] == '-' || raw[0]-'0' < 10 {
		w.dst = appendNumber(w.dst, raw)
	} else {
		w.dst = appendEscaped(w.dst, raw)
	}
	return end, true
}

func (w *rewriter) array(b []byte, i, depth int) (end int, ok bool) {
	w.dst = append(w.dst, '[')
	if i = skipSpace(b, i+1); i < len(b) && b[i] == ']' {
		w.dst = append(w.dst, ']')
		return i + 1, true
	}
	for {
		if i, ok = w.value(b, i, depth); !ok {
			return i, false
		}
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			w.dst, i = append(w.dst, ','), skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			w.dst = append(w.dst, ']')
			return i + 1, true
		default:
			return i, false
		}
	}
}

func (w *rewriter) object(b []byte, i, depth int) (end int, ok bool) {
	w.dst = append(w.dst, '{')
	members := len(w.members)
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		w.dst = append(w.dst, '}')
		return i + 1, true
	}
	for {
		at := i
		key, next, ok := scanKey(b, i)
		if !ok {
			return next, false
		}
		from := len(w.dst)
		text, _, _ := skipString(b, at)
		w.dst = append(appendEscaped(w.dst, b[at:text]), ':')
		if i, ok = w.value(b, next, depth); !ok {
			return i, false
		}
		w.members = append(w.members, rewritten{key, from, len(w.dst)})
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			w.dst, i = append(w.dst, ','), skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			w.mergeEqual(w.members[members:])
			w.members = w.members[:members]
			w.dst = append(w.dst, '}')
			return i + 1, true
		default:
			return i, false
		}
	}
}

// mergeEqual writes the members of the innermost object again, if there are equal keys: of those only the last.
func (w *rewriter) mergeEqual(members []rewritten) {
	w.hashes = w.hashes[:0]
	for _, m := range members {
		w.hashes = append(w.hashes, maphash.Bytes(keySeed, m.key))
	}
	if !anyEqual(w.hashes) {
		return
	}
	begin := members[0].from
	w.spare = append(w.spare[:0], w.dst[begin:]...)
	places := make(map[string]int)
	kept := members[:0]
	for _, m := range members {
		if at, twice := places[string(m.key)]; twice {
			kept[at] = m
			continue
		}
		places[string(m.key)] = len(kept)
		kept = append(kept, m)
	}
	w.dst = w.dst[:begin]
	for i, m := range kept {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = append(w.dst, w.spare[m.from-begin:m.to-begin]...)
	}
}
