package names

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var safe = Safe([]string{"system", "Администратор"})

// Names of people, in scripts that need marks, joiners and selectors, are names, and shown as they are.
func TestNamesOfManyScripts(t *testing.T) {
	for _, name := range []string{
		"alice", "Jo Ann", "o'brien", "José", "Jose\u0301", "Łukasz", "Ἀλέξανδρος", "Наташа", "שָׁלוֹם", "محمد", "مهدی\u200cزاده", // Persian, with a non-joiner
		"क्\u200dष", "ශ්\u200dරී", "ক্ষমা", "தமிழ்", "ไทยแลนด์", "မြန်မာ", "ខ្មែរ", "ᠮᠣᠩᠭᠣᠯ", "ᠡ\u180bᠨᠡ", "김철수", "ㄱㅎ", "小明", "田中さくら", "龍\U000e0100", "Ａｌｉｃｅ",
		"❤\ufe0f\u200d🔥", "👩🏽\u200d💻", "1\ufe0f⃣", "🇨🇳", "a·b", "—x—", "١٢٣", "\u0601١٢",
	} {
		if _, v := safe.Check(name); v != OK {
			t.Errorf("%q (%+q) is refused: %d", name, name, v)
		}
	}
}

func TestUnfitNames(t *testing.T) {
	for what, name := range map[string]string{
		"an embedding":                 "\u202aalice",
		"an override":                  "a\u202elice",
		"an isolate":                   "\u2067alice\u2069",
		"a mark of direction":          "alice\u200f",
		"an Arabic letter mark":        "a\u061c",
		"a Hangul filler":              "\u3164",
		"a half filler":                "a\uffa0",
		"a choseong filler":            "\u115fa",
		"a soft hyphen":                "ali\u00adce",
		"a zero width space":           "ali\u200bce",
		"a word joiner":                "ali\u2060ce",
		"a byte order mark":            "\ufeffalice",
		"a grapheme joiner":            "a\u034fb",
		"a Khmer inherent vowel":       "ក\u17b4",
		"an invisible plus":            "1\u20642",
		"a tag":                        "a\U000e0061",
		"a Mongolian separator":        "a\u180eb",
		"a blank of Braille":           "\u2800",
		"a null notehead":              "\U0001d159",
		"a line separator":             "a\u2028b",
		"no character":                 "a\uffff",
		"nothing":                      "\u00a0\u3000",
		"blanks":                       "  ",
		"a joiner at the beginning":    "\u200da",
		"two joiners":                  "a\u200d\u200db",
		"a joiner behind a blank":      "a \u200db",
		"a selector behind a blank":    "a \ufe0f",
		"two selectors":                "a\ufe0f\ufe0f",
		"a selector behind a joiner":   "a\u200d\ufe0f",
		"a wide star":                  "＊",
		"one character for a sentence": "\ufdfa",
	} {
		if fold, v := safe.Check(name); v != Unfit || fold != "" {
			t.Errorf("%s: %+q has the fold %q, %d", what, name, fold, v)
		}
		original := Rules{}
		if fold, v := original.Check(name); v != OK || fold != "" || original.Fold(name) != "" {
			t.Errorf("%s: original: %+q has the fold %q, %d", what, name, fold, v)
		}
	}
}

func TestFolds(t *testing.T) {
	for _, names := range [][]string{
		{"alice", "ａｌｉｃｅ", "ⓐⓛⓘⓒⓔ", "𝐚𝐥𝐢𝐜𝐞", " alice", "alice\u3000", "a\u200dlice", "alice\ufe0f"},
		{"Jo Ann", "Jo  Ann", "Jo\u00a0Ann", " Jo Ann ", "Jo\u2003Ann"},
		{"José", "Jose\u0301", "Jose\u200d\u0301"},
		{"田中", "田\U000e0100中"},
		{"김", "\u1100\u1175\u11b7", "ᄀ\u200dᅵᆷ"},
		{"❤", "❤\ufe0f"},
		{"ﬁn", "fin"},
		// Scripts in which letters join, stack or have several forms. With or without the joiner, in whatever form it is typed, it is one name.
		{"مهدیزاده", "مهدی\u200cزاده", "ﻣﻬﺪیزاده"},
		{"الله", "الله\u200d", "ﺍﻟﻠﻪ"},
		{"שלום", "שלום\u200c"},
		{"שָׁ", "\ufb2aָ", "ש\u05c1\u05b8"},
		{"क्ष", "क्\u200dष", "क्\u200cष"},
		{"\u0958", "\u0915\u093c"},
		{"\u09dc", "\u09a1\u09bc"},
		{"ශ්රී", "ශ්\u200dරී"},
		{"กำ", "ก\u0e4d\u0e32"},
		{"ຫນ", "\u0edc"},
		{"バ", "ﾊﾞ", "ハ\u3099"},
		{"ｶﾞ", "ガ"},
		{"ὰ", "α\u0300"},
		{"Ångström", "\u212bngström", "A\u030angström"},
		{"Việt", "Vie\u0323\u0302t", "Viê\u0323t"},
		{"ё", "е\u0308"},
		{"ᠡᠨᠡ", "ᠡ\u180bᠨᠡ"},
		{"豈", "\uf900"},
		{"①②", "12"},
	} {
		want := foldOf(names[0])
		for _, name := range names {
			fold, v := safe.Check(name)
			if fold == "" {
				fold = name
			}
			if v != OK || fold != want {
				t.Errorf("%+q has the fold %+q, %d, want %+q", name, fold, v, want)
			}
			if looked := safe.Fold(name); other(want, name) != looked {
				t.Errorf("%+q is looked for by %+q", name, looked)
			}
		}
	}
	for _, pair := range [][2]string{{"alice", "Alice"}, {"alice", "аlice"}, {"a b", "ab"}} { // case and alphabets are told apart, and so are blanks from none
		if foldOf(pair[0]) == foldOf(pair[1]) {
			t.Errorf("%q and %q look alike", pair[0], pair[1])
		}
	}
}

func TestReserved(t *testing.T) {
	for _, name := range []string{"system", "System", "SYSTEM", "ｓystem", " sys\u200dtem", "ſystem", "администратор"} {
		if _, v := safe.Check(name); v != Reserved {
			t.Errorf("%q: %d", name, v)
		}
	}
	for _, name := range []string{"systems", "the system", "admin"} {
		if _, v := safe.Check(name); v != OK {
			t.Errorf("%q: %d", name, v)
		}
	}
}

// Names that are their own fold cost no allocation, plain or not.
func TestOwnFoldsAllocateNothing(t *testing.T) {
	for _, name := range []string{"alice", "Jo Ann", "小明", "José", "김철수", "👩🏽💻"} {
		if n := testing.AllocsPerRun(100, func() { safe.Check(name); safe.Fold(name) }); n != 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

// A fold is its own fold, is never longer than the rules allow, and nothing of it is hidden.
func FuzzFold(f *testing.F) {
	for _, s := range []string{"alice", "ａ\u200dlice ", "e\u200d\u0301", "\u00a8a", "a\u00a8", "\u1100\u115f\u1161", "ﷺ", "ก\u0e33", "\u0344", "ﾊﾞ", "\u3164a", "x\u00a0 y", "ẛ\u0323", "\U0001d15e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return
		}
		fold := foldOf(name)
		if again := foldOf(fold); again != fold {
			t.Fatalf("%+q has the fold %+q, which has %+q", name, fold, again)
		}
		if strings.ContainsFunc(fold, dropped) || fold != "" && !singleBlanks(fold) {
			t.Fatalf("%+q has the fold %+q", name, fold)
		}
		got, v := safe.Check(name)
		switch {
		case v != OK && got != "", v == OK && got == name, v == OK && len(got) > maxGrowth*len(name):
			t.Fatalf("%+q: %+q, %d", name, got, v)
		case v == OK && got == "" && fold != name, v == OK && got != "" && got != fold:
			t.Fatalf("%+q: %+q, %d; the fold is %+q", name, got, v, fold)
		}
		if plain(name) && fold != name {
			t.Fatalf("%q is plain, and has the fold %q", name, fold)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct{ kind, name string }{{"plain", "alice"}, {"own", "小明"}, {"folded", "ａｌｉｃｅ"}} {
		b.Run("name="+c.kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				safe.Check(c.name)
			}
		})
	}
}
