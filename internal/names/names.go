// Package names says what users may be called where many strangers meet (-names safe), and which names look alike.
//
// A name that nobody sees, or that turns the text around it the other way, is refused. Two names look alike when they have the same fold:
// the form of Unicode that ignores how a character is written (NFKC), without what is not shown, and with blanks as one writes them.
// Plain ASCII is its own fold, and most names are. This is folding; it promises nothing about letters of different alphabets that look
// alike.
package names

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Verdict says whether somebody may be called by a name.
type Verdict uint8

// The verdicts.
const (
	OK       Verdict = iota
	Unfit            // characters that are not shown, or that change how others are shown; or nothing is left of it, or far too much
	Reserved         // nobody may be called like that
)

// Rules are those of a server. The zero Rules let everything pass and fold nothing, as Pomelo does. Static once in use; safe from any
// goroutine.
type Rules struct {
	safe     bool
	reserved []string // folds
}

// Safe makes the rules of -names safe. Nobody may have a name of reserved, or one that looks like it or differs in case only.
func Safe(reserved []string) Rules {
	r := Rules{safe: true}
	for _, name := range reserved {
		if fold := foldOf(name); fold != "" {
			r.reserved = append(r.reserved, fold)
		}
	}
	return r
}

// Check judges a name of valid UTF-8 without control characters, and returns its fold, empty if that is the name itself. It allocates
// nothing for names that are their own fold.
func (r *Rules) Check(name string) (fold string, v Verdict) {
	if !r.safe {
		return "", OK
	}
	fold = name
	if !plain(name) {
		if !fit(name) {
			return "", Unfit
		}
		fold = foldOf(name)
		if fold == "" || len(fold) > maxGrowth*len(name) || strings.ContainsFunc(fold, outOfPlace) {
			return "", Unfit
		}
	}
	for _, reserved := range r.reserved {
		if strings.EqualFold(fold, reserved) {
			return "", Reserved
		}
	}
	return other(fold, name), OK
}

// Fold is the fold of a name that somebody is looked for by, empty if it is the name itself.
func (r *Rules) Fold(name string) string {
	if !r.safe || plain(name) {
		return ""
	}
	return other(foldOf(name), name)
}

func other(fold, name string) string {
	if fold == name {
		return ""
	}
	return fold
}

// maxGrowth is how much longer than the name its fold may be. A few single characters stand for whole sentences.
const maxGrowth = 4

// outOfPlace is what no name may have, so no fold either: a star, and what controls.
func outOfPlace(r rune) bool { return r == '*' || unicode.IsControl(r) }

// plain tells whether a name is ASCII that is its own fold: blanks stand alone and between others.
func plain(name string) bool {
	blank := true
	for i := range len(name) {
		c := name[i]
		if c >= utf8.RuneSelf || c < ' ' || c == ' ' && blank {
			return false
		}
		blank = c == ' '
	}
	return !blank
}

// fit tells whether a name consists of what is shown, and of joiners and variation selectors where they belong: behind a letter, a mark, an emoji
// or what can be shown as one.
func fit(name string) bool {
	last := rune(0)
	for _, r := range name {
		switch {
		case isJoiner(r):
			if !carries(last) {
				return false
			}
		case isSelector(r):
			if isSelector(last) || !carries(last) {
				return false
			}
		case hidden(r):
			return false
		}
		last = r
	}
	return true
}

func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

func isSelector(r rune) bool { return unicode.Is(unicode.Variation_Selector, r) }

// carries tells whether a joiner or a variation selector may follow: in scripts that join, and in emoji. Digits, # and some punctuation are
// shown as emoji with a selector. Selectors are marks, so joiners may follow them; joiners are not, and carry nothing.
func carries(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.S) || r >= '0' && r <= '9' || r == '#' || r == '\u203c' || r == '\u2049' || r == '\u3030'
}

// hidden tells whether a character is not shown, or changes how others are: all that controls format but for signs that stand around
// numbers, what Unicode lets programs ignore, fillers and other blanks that do not call themselves so, separators of lines, and what
// is no character.
func hidden(r rune) bool {
	if r < utf8.RuneSelf {
		return false
	}
	switch r {
	case '\u2800', '\U0001d159': // blanks by shape
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}

// foldOf is the fold of any text. It is its own fold.
func foldOf(name string) string {
	if plain(name) {
		return name
	}
	if !strings.ContainsFunc(name, dropped) {
		if norm.NFKC.QuickSpanString(name) == len(name) && singleBlanks(name) {
			return name
		}
	} else {
		name = strings.Map(func(r rune) rune {
			if dropped(r) {
				return -1
			}
			return r
		}, name) // first: what it kept apart may be one character
	}
	return strings.Join(strings.FieldsFunc(norm.NFKC.String(name), unicode.IsSpace), " ")
}

// dropped is what is not shown by itself, whether or not a name may have it.
func dropped(r rune) bool { return isJoiner(r) || isSelector(r) || hidden(r) }

// singleBlanks tells whether all that is blank is a space between others.
func singleBlanks(name string) bool {
	blank := true
	for _, r := range name {
		if unicode.IsSpace(r) && (r != ' ' || blank) {
			return false
		}
		blank = r == ' '
	}
	return !blank
}
