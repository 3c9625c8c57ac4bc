package main

import (
	"bytes"
	"os/exec"
	"syscall"
)

// contained is a command as a container runs it: the image's file system, user, environment and directory.
func contained(root string, config *imageConfig, args []string) *exec.Cmd {
	return &exec.Cmd{Path: args[0], Args: args, Env: config.Config.Env, Dir: config.Config.WorkingDir, SysProcAttr: &syscall.SysProcAttr{
		Chroot: root, Credential: &syscall.Credential{Uid: userID, Gid: userID}, Pdeathsig: syscall.SIGKILL,
	}}
}

func signalOf(name string) syscall.Signal {
	return map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM}[name]
}

// watched passes on what is written, and closes found when a word has come.
type watched struct {
	to    *bytes.Buffer
	word  string
	found chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	if w.found != nil && bytes.Contains(w.to.Bytes(), []byte(w.word)) {
		close(w.found)
		w.found = nil
	}
	return n, err
}
