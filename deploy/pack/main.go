// Command pack makes of a binary what is given away beside packages: a container image, a list of what is in it (SBOM), and the licences of that. Of the same
// binary, version and SOURCE_DATE_EPOCH it makes the same bytes. It needs no daemon.
//
//	go run ./deploy/pack image    -binary FILE -arch amd64 -version V -out FILE
//	go run ./deploy/pack sbom     -binary FILE -version V -out FILE
//	go run ./deploy/pack licences -out FILE
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// subject is what is packed.
type subject struct {
	binary, arch, version string
	time                  time.Time // of all that is made
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to make: image, sbom or licences")
	}
	var s subject
	f := flag.NewFlagSet("pack "+args[0], flag.ContinueOnError)
	f.StringVar(&s.binary, "binary", "", "the `file` that was built")
	f.StringVar(&s.arch, "arch", "amd64", "what it was built for")
	f.StringVar(&s.version, "version", "devel", "its version")
	out := f.String("out", "", "`file` to write")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		seconds = 0
	}
	s.time = time.Unix(seconds, 0).UTC()
	makers := map[string]func(io.Writer, subject) error{"image": writeImage, "sbom": writeSBOM, "licences": func(w io.Writer, _ subject) error { return writeLicences(w) }}
	write := makers[args[0]]
	if write == nil || *out == "" || f.NArg() > 0 {
		return fmt.Errorf("%q: there are image, sbom and licences, each with -out FILE", args)
	}
	return writeFile(*out, func(w io.Writer) error { return write(w, s) })
}

// writeFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
