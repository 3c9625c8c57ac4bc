//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/cluster"
)

// The file of rules (-rules-file). It is JSON that an operator can read and edit. Several processes may have the same: who changes it holds a lock of its
// directory, and takes in what others have written before.

// rulesContent is what stands in the file.
type rulesContent struct {
	Version int          `json:"version"`
	Rules   []admin.Rule `json:"rules"`            // also those whose time is over, for a while
	Lifted  []admin.Rule `json:"lifted,omitempty"` // what they were about and when, so that a node that was away does not bring them back
}

// maxRulesBytes is more than any file of rules has.
const maxRulesBytes = 256 << 20

// autoRules stands for the file in the directory that systemd keeps for the service (StateDirectory=), if it does.
const autoRules = "auto"

// rulesPath is where the file of -rules-file is.
func rulesPath(flag string, environ []string) string {
	switch flag {
	case autoRules:
		if dir := variables(environ, "STATE_DIRECTORY")["STATE_DIRECTORY"]; filepath.IsAbs(dir) {
			return filepath.Join(dir, "rules.json")
		}
		return ""
	case noAddr:
		return ""
	}
	return flag
}

// rulesFile is the file in the hands of who may change it. Without a path it is empty, and takes everything.
type rulesFile struct {
	path  string
	dir   *os.File
	text  []byte         // nil: there is no file
	notes []cluster.Note // what it says
}

// errNoRulesDirectory means that the directory of the file is missing.
var errNoRulesDirectory = errors.New("the directory of -rules-file is missing; make it, or name another file")

// rulesLockTime is how long another process may keep the file.
const rulesLockTime = 2 * time.Second

// openRules locks the file and reads it. Its directory is what is locked, as the file is replaced; where the file system has no such locks, as some of
// networks, several processes must not have the same file.
func openRules(path string) (_ *rulesFile, err error) {
	f := &rulesFile{path: path}
	if path == "" {
		return f, nil
	}
	if f.dir, err = os.Open(filepath.Dir(path)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errNoRulesDirectory
		}
		return nil, fmt.Errorf("read the rules of -rules-file: %w", err)
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	for late := time.Now().Add(rulesLockTime); ; time.Sleep(5 * time.Millisecond) {
		if err := unix.Flock(int(f.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
		if time.Now().After(late) {
			return nil, fmt.Errorf("the rules of -rules-file: another process has had %s locked for %v", filepath.Dir(path), rulesLockTime)
		}
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the rules of -rules-file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil {
		f.text, err = io.ReadAll(io.LimitReader(file, maxRulesBytes))
	}
	if err != nil {
		return nil, fmt.Errorf("read the rules of -rules-file: %w", err)
	}
	if f.notes, err = parseRules(f.text, info.ModTime()); err != nil {
		return nil, fmt.Errorf("the rules in %s: %w; correct the file or move it away", path, err)
	}
	return f, nil
}

// close gives the file back.
func (f *rulesFile) close() {
	if f.dir != nil {
		_ = f.dir.Close()
	}
}

// parseRules reads the content of a file. Rules that do not say when they were given, as those written by hand, have the file's time. What is not known is
// refused: of a mistyped "until" a ban would be for ever.
func parseRules(text []byte, modified time.Time) (list []cluster.Note, err error) {
	var c rulesContent
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something is behind the end of the JSON")
	}
	if c.Version > 1 || len(c.Rules)+len(c.Lifted) > 2*cluster.MaxNotes {
		return nil, fmt.Errorf("version %d with %d rules; this pomelod reads version 1 with at most %d", c.Version, len(c.Rules)+len(c.Lifted), 2*cluster.MaxNotes)
	}
	for i, rules := range [][]admin.Rule{c.Rules, c.Lifted} {
		for j := range rules {
			r := &rules[j]
			check := r.Check
			if i == 1 {
				check = r.CheckLifted
			}
			if err := check(); err != nil {
				return nil, fmt.Errorf("rule %d: %w", j+1, err)
			}
			if r.At.IsZero() {
				r.At = modified.UTC().Truncate(time.Millisecond)
			}
			n := noteOf(*r)
			if i == 1 {
				n = liftOf(n.Key, n.At)
			}
			list = append(list, n)
		}
	}
	return list, nil
}

// formatRules is what parseRules reads.
func formatRules(list []cluster.Note) ([]byte, error) {
	c := rulesContent{Version: 1, Rules: []admin.Rule{}}
	for i := range list {
		n := &list[i]
		if n.Text == nil {
			if r, ok := aboutOf(n); ok {
				c.Lifted = append(c.Lifted, r)
			}
		} else if r, err := ruleOf(n); err == nil { // else it is of a later version, which others remember
			c.Rules = append(c.Rules, r)
		}
	}
	b, err := json.MarshalIndent(&c, "", "  ")
	return append(b, '\n'), err
}

// aboutOf is what a note that something was lifted is about.
func aboutOf(n *cluster.Note) (r admin.Rule, ok bool) {
	parts := bytes.Split([]byte(n.Key), []byte{0})
	if len(parts) != 4 {
		return r, false
	}
	r = admin.Rule{Kind: string(parts[0]), Name: string(parts[1]), Address: string(parts[2]), Room: string(parts[3]), At: time.UnixMilli(int64(n.At)).UTC()}
	return r, r.CheckLifted() == nil
}

// write has the file say this, so that there is always a whole one, the old or the new, whatever the machine does.
func (f *rulesFile) write(list []cluster.Note) (err error) {
	if f.path == "" {
		return nil
	}
	b, err := formatRules(list)
	if err != nil || bytes.Equal(b, f.text) {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(f.path), ".rules-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(b)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), f.path)
	}
	if err == nil {
		_ = f.dir.Sync() // or the name may be the old file's after a crash of the machine
	}
	return err
}
