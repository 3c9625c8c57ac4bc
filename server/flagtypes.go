//go:build linux

package server

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizeFlag is a number of bytes: 4096, 256KiB, 16MiB, 1GiB.
type sizeFlag int

var sizeUnits = []struct {
	suffix string
	factor int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (s *sizeFlag) String() string {
	for _, u := range sizeUnits {
		if n := int(*s); n != 0 && n%u.factor == 0 && u.factor > 1 {
			return strconv.Itoa(n/u.factor) + u.suffix
		}
	}
	return strconv.Itoa(int(*s))
}

func (s *sizeFlag) Set(text string) error {
	for _, u := range sizeUnits {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || n <= 0 || n > math.MaxInt/u.factor {
				break
			}
			*s = sizeFlag(n * u.factor)
			return nil
		}
	}
	return errors.New("must be a size such as 4096, 256KiB, 16MiB or 1GiB")
}

// secondsFlag is a time of whole seconds.
type secondsFlag uint32

func (s *secondsFlag) String() string { return (time.Duration(*s) * time.Second).String() }

func (s *secondsFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d%time.Second != 0 || d > 24*time.Hour {
		return errors.New("must be whole seconds from 1s to 24h, such as 20s or 5m")
	}
	*s = secondsFlag(d / time.Second)
	return nil
}
