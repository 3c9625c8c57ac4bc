package codec

import (
	"hash/crc32"
	"testing"
)

func TestDispatchWithoutServers(t *testing.T) {
	if Dispatch("a", 0) != -1 || Dispatch("a", -3) != -1 {
		t.Error("picked one of none")
	}
}

func TestDispatchSumOfLatin1IsItsCRC(t *testing.T) {
	latin := []rune{}
	for c := range rune(256) {
		latin = append(latin, c)
		bytes := make([]byte, len(latin))
		for i, r := range latin {
			bytes[i] = byte(r)
		}
		want := int64(int32(crc32.ChecksumIEEE(bytes)))
		if got := int64(dispatchSum(string(latin))); got != max(want, -want) {
			t.Fatalf("%d characters: %d, want %d", len(latin), got, want)
		}
	}
}

func TestDispatchDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Dispatch("alice*房间1😀", 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDispatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Dispatch("alice*room1", 4)
	}
}
