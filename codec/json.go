package codec

// Unmarshal decodes the one JSON value in b into v, as encoding/json would.
//
// The text is checked by our own scanner first, so every engine accepts the same: sonic alone
// lets raw control characters, bad escapes or deep nesting pass in some modes, and leaves them
// to whoever is sent the value next. Text that is not UTF-8 is read as NormalizeUTF8 reads it.
// It fails for text that is not one JSON value, or is nested too deeply (128 levels), and when a value does not fit v.
//
// Nothing in v aliases b afterwards: the caller may reuse b at once.
func Unmarshal(b []byte, v any) error {
	if err := checkJSON(b); err != nil {
		return err
	}
	return engineUnmarshal(NormalizeUTF8(b), v)
}

// Marshal encodes v as compact JSON: map keys sorted, no HTML escapes, no trailing newline.
// Characters above U+FFFF stand as they are; AppendCanonical makes the text fit for every client.
func Marshal(v any) ([]byte, error) {
	return engineMarshal(v)
}

// JSONEngine names what Unmarshal and Marshal run on, for -version and metrics: "sonic-jit"
// (amd64), "sonic-native" (arm64), or "std" where sonic does not support the architecture or
// the Go release, or the build tag pomelod_stdjson leaves it out.
func JSONEngine() string {
	return engineName()
}
