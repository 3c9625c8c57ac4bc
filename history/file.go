package history

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The names in a file (package comment).
var (
	logBucket     = []byte("log")
	membersBucket = []byte("members")
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	openKey       = []byte("open")
)

// Names of what files consist of. One of another format is not read. A file has the second from its first deletion on: who does not know deletions would tell what is
// deleted, and refuses the file instead, but reads all files without.
const (
	format          = "pomelod history 1"
	formatDeletions = "pomelod history 2"
)

func knownFormat(b []byte) bool { return string(b) == format || string(b) == formatDeletions }

// errFormat is the error of a file of another format.
var errFormat = errors.New("it has another format: start the pomelod that wrote it, or give -history-dir another folder")

// errDamaged is the error of a file that cannot be used.
var errDamaged = errors.New("damaged")

const (
	prefix, suffix = "history-", ".db"
	damagedSuffix  = ".damaged"
	dayForm        = "2006-01-02"
	lockTime       = 5 * time.Second // for another process to let go of a file
	growth         = 1 << 20         // a file grows by so many bytes at once
	minFile        = 4 * 4096        // as bbolt begins one, with the smallest pages
)

// name is that of the n-th file of a day. In the order of names files are in that of time.
func name(day string, n int) string { return fmt.Sprintf("%s%s-%06d%s", prefix, day, n, suffix) }

// parseName is the opposite of name.
func parseName(file string) (day string, n int, ok bool) {
	rest, ours := strings.CutPrefix(file, prefix)
	rest, whole := strings.CutSuffix(rest, suffix)
	if !ours || !whole || len(rest) <= len(dayForm)+1 {
		return "", 0, false
	}
	day = rest[:len(dayForm)]
	if _, err := time.Parse(dayForm, day); err != nil {
		return "", 0, false
	}
	if _, err := fmt.Sscanf(rest[len(dayForm):], "-%d", &n); err != nil || name(day, n) != file {
		return "", 0, false
	}
	return day, n, true
}

// files are the names of all files in a folder, the oldest first, those that are damaged aside.
func files(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// damagedFiles are the names of those that were set aside, as they were before, the oldest first.
func damagedFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		base, _, aside := strings.Cut(e.Name(), damagedSuffix)
		if _, _, ok := parseName(base); ok && aside {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return names, err
}

// guard runs f, which uses a file, and returns errDamaged for what bbolt does with one that is damaged: it panics, or reads beyond the file's end. What
// f has opened must not be touched any more then.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("%w: %v", errDamaged, x)
		}
	}()
	err = f()
	for _, e := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return err
}

// openFile opens a file to write it, which may have to be made. dirty tells that the last entries may be missing.
func openFile(path string, sync bool) (db *bolt.DB, dirty bool, err error) {
	if info, statErr := os.Stat(path); statErr != nil { // what was begun and could not be, as on a full disk, must not stay
		defer func() {
			if err != nil {
				_ = os.Remove(path)
			}
		}()
	} else if info.Size() < minFile {
		return nil, false, errDamaged
	}
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTime, NoSync: !sync, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, false, err
	}
	db.AllocSize = growth
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		switch got := meta.Get(formatKey); {
		case got == nil:
			if err := meta.Put(formatKey, []byte(format)); err != nil {
				return err
			}
		case !knownFormat(got):
			return errFormat
		}
		for _, name := range [][]byte{logBucket, membersBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		dirty = isDirty(meta)
		return meta.Put(openKey, mode(sync))
	})
	if err != nil {
		_ = db.Close()
		return nil, false, err
	}
	return db, dirty, nil
}

// isDirty tells whether the last entries may be missing: the file was not closed in order, and nobody waited until entries were on disk.
func isDirty(meta *bolt.Bucket) bool {
	open := meta.Get(openKey)
	return open != nil && !bytes.Equal(open, mode(true))
}

// mode is the value of openKey.
func mode(sync bool) []byte {
	if sync {
		return []byte("always")
	}
	return []byte("off")
}

// closeFile closes a file, in order if all that was to be written has been.
func closeFile(db *bolt.DB, inOrder bool) error {
	var err error
	if inOrder {
		err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Delete(openKey) })
	}
	return errors.Join(err, db.Sync(), db.Close())
}

// readFile has f read a file, and tells whether it was closed in order.
func readFile(path string, f func(*bolt.Tx) error) (dirty bool, err error) {
	err = guard(func() error {
		if info, err := os.Stat(path); err != nil || info.Size() < minFile {
			return cmp.Or(err, errDamaged)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTime, ReadOnly: true})
		if err != nil {
			return err
		}
		err = db.View(func(tx *bolt.Tx) error {
			meta := tx.Bucket(metaBucket)
			switch {
			case meta == nil:
				return nil // it was made, and never written
			case !knownFormat(meta.Get(formatKey)):
				return errFormat
			}
			dirty = isDirty(meta)
			return f(tx)
		})
		return errors.Join(err, db.Close())
	})
	return dirty, err
}

// setAside renames a file that is damaged, and returns its new name.
func setAside(path string) (string, error) {
	aside := path + damagedSuffix
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s%s.%d", path, damagedSuffix, n)
	}
	return filepath.Base(aside), os.Rename(path, aside)
}

// expire removes the files of dir that are too old at a time, or too many bytes together, the oldest first and current never. It returns how many bytes
// those have that stay.
func expire(dir, current string, age time.Duration, most int64, now time.Time) (bytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	type file struct {
		name string
		end  time.Time
		size int64
	}
	var all []file
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), damagedSuffix)
		day, _, ok := parseName(base)
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		begin, _ := time.Parse(dayForm, day)
		all = append(all, file{e.Name(), begin.Add(24 * time.Hour), info.Size()})
		bytes += info.Size()
	}
	var errs []error
	for _, f := range all { // in order of names
		if f.name == current || now.Sub(f.end) < age && bytes <= most {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.name)); err != nil {
			errs = append(errs, err)
			continue
		}
		bytes -= f.size
	}
	return bytes, errors.Join(errs...)
}
