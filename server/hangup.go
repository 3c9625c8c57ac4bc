//go:build linux

package server

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
)

// handleHangups takes SIGHUP, which systemctl reload sends, until stop is called: pomelod goes on. The end of the terminal that
// it was started in sends one too, and then hungUp is called; else reload reads again what can be.
func (m *manager) handleHangups(hungUp func(), reload func() (admin.Reloaded, error)) (stop func()) {
	if signal.Ignored(syscall.SIGHUP) { // nohup
		return func() {}
	}
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	terminal := inTerminal()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-hangups:
			}
			if terminal && !inTerminal() {
				hungUp()
				return
			}
			switch done, err := reload(); {
			case err != nil: // that is logged
			case len(done.Read) == 0:
				slog.Info("SIGHUP: " + errNoReload.Error())
			default:
				slog.Info("SIGHUP: files were read again", "files", done.Read)
			}
			m.reloaded()
		}
	}()
	return func() { signal.Stop(hangups); close(done) }
}

// inTerminal tells whether this process belongs to a terminal, wherever its output goes. The kernel takes a terminal that is
// gone away from its processes before it sends SIGHUP.
func inTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err != unix.ENXIO && err != unix.ENOENT
}
