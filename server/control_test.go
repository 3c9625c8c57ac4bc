//go:build linux

package server

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// nobodysPid is no process's: more than the kernel gives (PID_MAX_LIMIT).
const nobodysPid = 1<<22 + 1

// Whoever is first may take the name by which a process is asked for an upgrade. Another user's process is not listened to.
func TestAnswersFor(t *testing.T) {
	me, other := uint32(os.Geteuid()), uint32(os.Geteuid()+1)
	for _, tc := range []struct {
		cred *unix.Ucred
		want bool
	}{
		{nil, false},
		{&unix.Ucred{Pid: 7, Uid: other}, true}, // root asks another user's server
		{&unix.Ucred{Pid: 8, Uid: other}, false},
		{&unix.Ucred{Pid: 0, Uid: other}, false}, // of a container next to ours
		{&unix.Ucred{Pid: 0, Uid: me}, true},
		{&unix.Ucred{Pid: 8, Uid: 0}, true},
	} {
		if got := answersFor(tc.cred, 7); got != tc.want {
			t.Errorf("%+v for 7: %v", tc.cred, got)
		}
	}
}

// What the other process says is shown without what a terminal would obey.
func TestAnswerIsPrintable(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlName(nobodysPid), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			fmt.Fprint(conn, "ok \x1b[2J\u009bdone ä\xff\n")
			conn.Close()
		}
	}()
	if text, err := askUpgrade(nobodysPid); err != nil || text != "?[2J?done ä\ufffd" {
		t.Errorf("%q, %v", text, err)
	}
}
