//go:build !pomelod_stdjson

package codec

import (
	"runtime"

	"github.com/bytedance/sonic"
)

// sonicAPI is sonic set up to give what encoding/json gives. CopyString keeps a short string that
// outlives its message from pinning the whole of it; SortMapKeys makes output reproducible.
var sonicAPI = sonic.Config{
	ValidateString:   true,
	CopyString:       true,
	SortMapKeys:      true,
	CompactMarshaler: true,
	EscapeHTML:       false,
}.Froze()

func engineUnmarshal(b []byte, v any) error { return sonicAPI.Unmarshal(b, v) }

func engineMarshal(v any) ([]byte, error) { return sonicAPI.Marshal(v) }

// engineName asks sonic what it was built as: on an unsupported Go release (1.28 for v1.15)
// or architecture it turns into encoding/json without a word.
func engineName() string {
	switch {
	case sonic.APIKind == sonic.UseStdJSON:
		return "std"
	case runtime.GOARCH == "amd64":
		return "sonic-jit"
	default:
		return "sonic-native"
	}
}
