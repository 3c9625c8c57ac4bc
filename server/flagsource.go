//go:build linux

package server

import (
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pomelod/pomelod/app"
)

// flagSource is where flags come from: the environment, then a file (-flags-file), then the command line, each of which wins over those before. Of these only the
// file can change while the process lives.
type flagSource struct {
	app           *app.App // its flags are read too; nil: there is none
	args, environ []string
	lines         []string  // of the file, "KEY=value"; nil until it is read
	before        *settings // those that hold, when the flags are read again; nil at the start
	running       bool      // for this process, which has its memory already
}

// envPrefix begins the environment variables that are flags.
const envPrefix = "POMELOD_"

// setFlags sets flags from variables, which stand in where. One that is no flag is an error, as a mistyped flag is.
func setFlags(f *flag.FlagSet, variables []string, where string) error {
	for _, kv := range variables {
		key, value, _ := strings.Cut(kv, "=")
		name, ours := flagOf(key)
		if !ours || value == "" { // as with most programs, an empty variable is none
			continue
		}
		if f.Lookup(name) == nil {
			return fmt.Errorf("%s in %s is no flag of pomelod (there is no -%s); unset it or correct it", key, where, name)
		}
		if err := f.Set(name, value); err != nil {
			return fmt.Errorf("%s=%q in %s: %w", key, value, where, err)
		}
	}
	return nil
}

// setEnviron sets flags from an environment. A token that commands show by TCP is none, and may be exported where a server starts.
func setEnviron(f *flag.FlagSet, environ []string) error {
	environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, tokenEnv+"=") })
	return setFlags(f, environ, "the environment")
}

// flagOf is the flag that a variable is, whether or not there is one of that name.
func flagOf(variable string) (name string, ours bool) {
	name, ours = strings.CutPrefix(variable, envPrefix)
	return strings.ReplaceAll(strings.ToLower(name), "_", "-"), ours
}

// readFile sets flags from the file of -flags-file, or from the lines that were read of it before.
func (from *flagSource) readFile(path string, f *flag.FlagSet) (err error) {
	if from.lines == nil {
		if from.lines, err = readFlags(path); err != nil {
			return fmt.Errorf("the flags of -flags-file: %w", err)
		}
	}
	lines := from.lines
	if slices.Contains(from.environ, startedByNATS) {
		lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
			key, _, _ := strings.Cut(line, "=")
			name, _ := flagOf(key)
			return name == "nats"
		})
	}
	return setFlags(f, lines, path)
}

// flagsFileOf is what a command line says of -flags-file; otherwise, where it says nothing, or is wrong, which parsing it tells. Nothing is set by that: a program's flags may count how
// often they are.
func flagsFileOf(f *flag.FlagSet, otherwise string, args []string) string {
	look := flag.NewFlagSet("", flag.ContinueOnError)
	look.SetOutput(io.Discard)
	path := otherwise
	f.VisitAll(func(g *flag.Flag) {
		if g.Name == "flags-file" {
			look.StringVar(&path, g.Name, path, "")
		} else {
			look.Var(&unreadFlag{g.Value}, g.Name, "")
		}
	})
	if look.Parse(args) != nil {
		return ""
	}
	return path
}

// maxFlagsFile is more than all flags there are take.
const maxFlagsFile = 1 << 20

// readFlags reads a file of lines KEY=value, as systemd's EnvironmentFile= has them: a # begins a comment, and a value may stand in quotes.
func readFlags(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFlagsFile+1))
	if err == nil && len(b) > maxFlagsFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFlagsFile)
	}
	if err != nil {
		return nil, err
	}
	lines, number := []string{}, 0
	for line := range strings.Lines(string(b)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, is := strings.Cut(line, "=")
		name, ours := flagOf(key)
		switch {
		case !is || !ours:
			return nil, fmt.Errorf("line %d of %s: must be like POMELOD_SESSION_RATE=50:100", number, path)
		case name == "flags-file":
			return nil, fmt.Errorf("line %d of %s: a file of flags names no other", number, path)
		}
		if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		lines = append(lines, key+"="+value)
	}
	return lines, nil
}

// programFlags adds the flags of a program to f, and returns their names. When flags are read again the program's own values stay what they are.
func (from *flagSource) programFlags(f *flag.FlagSet) (names []string, err error) {
	if from.app == nil {
		return nil, nil
	}
	from.app.Flags().VisitAll(func(g *flag.Flag) {
		if f.Lookup(g.Name) != nil {
			err = fmt.Errorf("the program declares a flag -%s (App.Flags), which pomelod has already; give it another name", g.Name)
			return
		}
		value := g.Value
		if from.before != nil {
			value = &triedFlag{unreadFlag{value}}
		}
		f.Var(value, g.Name, g.Usage)
		names = append(names, g.Name)
	})
	return names, err
}

// unreadFlag takes any text, and does nothing with it.
type unreadFlag struct{ of flag.Value }

func (u *unreadFlag) String() string   { return "" }
func (u *unreadFlag) Set(string) error { return nil }
func (u *unreadFlag) IsBoolFlag() bool {
	b, ok := u.of.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// triedFlag takes the texts that a program's flag would take at the next start, and has the flag itself stay what it is: the program may be reading it. Values of
// package flag are tried on another one of their type. Those of the program's own types, and functions, might do something: they take any text, and so does a value of
// TextVar that is nothing without what the program has put into it, and panics.
type triedFlag struct{ unreadFlag }

func (u *triedFlag) Set(text string) (err error) {
	defer func() {
		if recover() != nil {
			err = nil
		}
	}()
	if g, is := u.of.(flag.Getter); is {
		if to, is := g.Get().(encoding.TextUnmarshaler); is { // TextVar
			if another, is := another(to).(encoding.TextUnmarshaler); is {
				return another.UnmarshalText([]byte(text))
			}
			return nil
		}
	}
	if t := reflect.TypeOf(u.of); t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "flag" {
		return another(u.of).(flag.Value).Set(text)
	}
	return nil
}

// another is a pointer to a zero value, where v is a pointer to one of that type; else nil.
func another(v any) any {
	if t := reflect.TypeOf(v); t.Kind() == reflect.Pointer {
		return reflect.New(t.Elem()).Interface()
	}
	return nil
}

// valuesOf are the values of all flags; of a program's, what was written.
func valuesOf(f *flag.FlagSet, programs []string) map[string]string {
	values := make(map[string]string)
	f.VisitAll(func(g *flag.Flag) {
		if e := g.Value.(*explainedFlag); !slices.Contains(programs, g.Name) {
			values[g.Name] = e.String()
		} else if n := len(e.texts); n > 0 {
			values[g.Name] = e.texts[n-1]
		}
	})
	return values
}

// again reads the flags once more, as a process would that starts now, and as this one may take them: of the lines of the file those that can change are new. What
// would keep the next process from starting is an error today, when somebody looks.
// changed are flags of which it is so, with their values; later are those that the next process has otherwise. The settings are nil where there is no file.
// c are those that hold.
func (c *settings) again(can func(name string) bool) (now *settings, changed, later []string, err error) {
	if c.flagsFile == "" {
		return nil, nil, nil, nil
	}
	from := c.from
	from.before, from.lines = c, nil
	next, err := from.parse(io.Discard)
	if err != nil {
		return nil, nil, nil, err
	}
	if p, err := next.plan(from.app); err != nil {
		return nil, nil, nil, err
	} else if err := p.checkAddrs(); errors.As(err, new(settingsError)) { // else it is about the machine, and may pass
		return nil, nil, nil, err
	}
	if next.flagsFile != c.flagsFile {
		return nil, nil, nil, errors.New("-flags-file has changed while the process ran")
	}
	from.lines, from.running = []string{}, true
	for i, lines := range [][]string{c.from.lines, next.from.lines} {
		for _, line := range lines {
			key, _, _ := strings.Cut(line, "=")
			if name, _ := flagOf(key); can(name) == (i == 1) {
				from.lines = append(from.lines, line)
			}
		}
	}
	if now, err = from.parse(io.Discard); err != nil {
		return nil, nil, nil, fmt.Errorf("%w; with what only takes effect at the next start it would do", err)
	}
	now.from.before, now.from.running = nil, false // or each reload would keep those before
	c.flags.VisitAll(func(g *flag.Flag) {
		switch name := g.Name; {
		case can(name) && now.values[name] != c.values[name]:
			changed = append(changed, name+"="+now.values[name])
		case !can(name):
			now.values[name] = c.values[name] // also where -limits would have it otherwise
			if next.values[name] != c.values[name] {
				later = append(later, name)
			}
		}
	})
	return now, changed, later, nil
}
