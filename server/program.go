//go:build linux

package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/internal/handover"
)

// program is how this process was started, for starting it once more. Static once the process serves.
type program struct {
	path    string // of the binary, as it was called: by now it may be another file, or a link that leads elsewhere
	dir     string
	args    []string
	environ []string
}

// handoverEnv tells a new process the descriptor of the channel to the one whose place it takes.
const handoverEnv = "HANDOVER_FD"

// startedEnv tells a process that pomelod start has started it, which waits for it.
const startedEnv = "STARTED_BY_POMELOD"

// thisProgram is what this process was started with. Call it before the environment is changed.
func thisProgram() program {
	p := program{args: os.Args, environ: os.Environ()}
	p.dir, _ = os.Getwd()
	name, err := exec.LookPath(os.Args[0])
	if err == nil {
		name, err = filepath.Abs(name)
	}
	if err != nil {
		name, _ = os.Executable()
	}
	p.path = name
	return p
}

// next is the command that starts the binary that is there now, and the channel to it. Sockets that a service manager has passed go by the channel; and
// the manager hears from another process than it has started, so what names that one does not go along. The caller closes files when it has started.
func (p *program) next() (cmd *exec.Cmd, ch *handover.Channel, file *os.File, err error) {
	ch, file, err = handover.Pair()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = &exec.Cmd{Path: p.path, Args: p.args, Dir: p.dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{file}}
	drop := []string{handoverEnv, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"}
	for _, kv := range p.environ {
		if key, _, _ := strings.Cut(kv, "="); !slices.Contains(drop, key) {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, handoverEnv+"="+strconv.Itoa(listenFDsStart))
	return cmd, ch, file, nil
}
