//go:build pomelod_stdjson

package codec

import (
	"bytes"
	"encoding/json"
)

func engineUnmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

func engineMarshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil // Encode ends each value with one
}

func engineName() string { return "std" }
