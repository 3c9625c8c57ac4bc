// Package overlay writes files for go's flag -overlay: the module is built with some of its lines replaced, while its files stay as they
// are. Tests use it to show that they fail when a defence is off (test/abuse), or when a bug is planted (test/mutants).
package overlay

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Edit replaces a text that a file has once.
type Edit struct {
	File     string // from the module's root
	Old, New string
}

// Write writes a file for -overlay, and the edited copies that it names, into dir, and returns its name. root is the module's root. It fails
// when an edit does not fit any more.
func Write(root, dir string, edits []Edit) (name string, err error) {
	texts, err := apply(root, edits)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for path, text := range texts {
		copied := filepath.Join(dir, strconv.Itoa(len(replace))+"-"+filepath.Base(path))
		if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[path] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name = filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, b, 0o644)
}

// apply returns the edited texts, by absolute path.
func apply(root string, edits []Edit) (map[string]string, error) {
	texts := make(map[string]string)
	for _, e := range edits {
		path, err := filepath.Abs(filepath.Join(root, e.File))
		if err != nil {
			return nil, err
		}
		text, ok := texts[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, not once: %s\nThe code has moved: write the edit again", e.File, n, e.Old)
		}
		texts[path] = strings.Replace(text, e.Old, e.New, 1)
	}
	return texts, nil
}
