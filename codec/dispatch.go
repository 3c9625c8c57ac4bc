package codec

import (
	"hash/crc32"
	"unicode/utf16"
)

// Dispatch picks one of n servers for s, a uid or a rid: dispatchSum modulo n (protocol.md §9.1).
// It is -1 when n is not positive, because there is nobody to pick.
func Dispatch(s string, n int) int {
	if n <= 0 {
		return -1
	}
	return int(uint64(dispatchSum(s)) % uint64(n))
}

// dispatchSum is the hash behind Dispatch: the CRC-32 of the low byte of each UTF-16 code unit
// of s, read as a signed number, without its sign (protocol.md §9.1). The largest sum is 1<<31.
func dispatchSum(s string) uint32 {
	crc := ^uint32(0)
	for _, r := range s {
		if r >= 0x10000 {
			hi, lo := utf16.EncodeRune(r)
			crc = addByte(crc, byte(hi))
			r = lo
		}
		crc = addByte(crc, byte(r))
	}
	sum := ^crc
	if int32(sum) < 0 {
		return -sum // two's complement: 1<<31 stays itself
	}
	return sum
}

func addByte(crc uint32, c byte) uint32 {
	return crc32.IEEETable[byte(crc)^c] ^ crc>>8
}
