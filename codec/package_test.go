package codec

import (
	"bytes"
	"testing"
)

func TestParsePackageNeedsTheWholePackage(t *testing.T) {
	whole := AppendPackage(nil, PackageData, []byte("abc"))
	for cut := range whole {
		if p, n, err := ParsePackage(whole[:cut], 3); n != 0 || err != nil || p.Body != nil {
			t.Errorf("with %d of %d bytes: %+v, %d, %v", cut, len(whole), p, n, err)
		}
	}
	two := append(bytes.Clone(whole), 3, 0, 0, 0)
	if p, n, err := ParsePackage(two, 3); n != 7 || err != nil || string(p.Body) != "abc" || p.Type != PackageData {
		t.Errorf("first of two: %+v, %d, %v", p, n, err)
	}
	if p, n, err := ParsePackage(two[7:], 3); n != 4 || err != nil || len(p.Body) != 0 || p.Body == nil {
		t.Errorf("second of two: %+v, %d, %v", p, n, err)
	}
}

// The type and the length are judged by the head alone, the type first, and nothing is
// judged before all 4 bytes are there (protocol.md §2.2).
func TestParsePackageJudgesTheHeadAlone(t *testing.T) {
	for first := range 256 {
		valid := 1 <= first && first <= 5
		if _, n, err := ParsePackage([]byte{byte(first), 0, 0}, 0); n != 0 || err != nil {
			t.Errorf("type %d, 3 bytes: %d, %v", first, n, err)
		}
		_, _, err := ParsePackage([]byte{byte(first), 0xff, 0xff, 0xff}, 256)
		switch {
		case valid && err != ErrPackageTooLong:
			t.Errorf("type %d, too long: %v", first, err)
		case !valid && err != errPackageType:
			t.Errorf("type %d: %v", first, err)
		}
	}
	if _, n, err := ParsePackage([]byte{4, 0, 1, 0}, 256); n != 0 || err != nil {
		t.Errorf("at the limit: %d, %v", n, err)
	}
	if _, _, err := ParsePackage([]byte{4, 0, 1, 1}, 256); err != ErrPackageTooLong {
		t.Errorf("over the limit: %v", err)
	}
}

func TestParsePackageBodyCannotGrowIntoTheNext(t *testing.T) {
	b := append(AppendPackage(nil, PackageData, []byte("x")), 3, 0, 0, 0)
	p, n, _ := ParsePackage(b, 10)
	_ = append(p.Body, 0xee)
	if b[n] != 3 {
		t.Error("appending to the body overwrote the next package")
	}
}

func TestAppendPackageHeadRefusesWhatDoesNotFit(t *testing.T) {
	if got := AppendPackageHead(nil, PackageData, MaxPackageBody); !bytes.Equal(got, []byte{4, 0xff, 0xff, 0xff}) {
		t.Errorf("largest: %x", got)
	}
	for _, n := range []int{-1, MaxPackageBody + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("length %d was written", n)
				}
			}()
			AppendPackageHead(nil, PackageData, n)
		}()
	}
}
