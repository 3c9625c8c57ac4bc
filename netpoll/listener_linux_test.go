package netpoll

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// passed is a descriptor of a socket as another process would pass it: blocking, without options of ours. f stays open for the
// other process's part.
func passed(t *testing.T, f *os.File) int {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return fd
}

func tcpListener(t *testing.T, multipath bool) *net.TCPListener {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(multipath)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func file(t *testing.T, l interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What an inherited listener accepts has the options that our own listeners hand down; accepting never blocks; and closing it
// leaves the socket to those who have it too.
func TestInheritedListener(t *testing.T) {
	theirs := tcpListener(t, false)
	ln, err := Inherit("connector", passed(t, file(t, theirs)), 7)
	if err != nil {
		t.Fatal(err)
	}
	if ln.Addr.String() != theirs.Addr().String() || ln.tag != 7 || ln.Name != "connector" {
		t.Errorf("got %v of %q, tag %d; want %v", ln.Addr, ln.Name, ln.tag, theirs.Addr())
	}
	if _, _, err := unix.Accept4(ln.fd, 0); err != unix.EAGAIN {
		t.Errorf("accept with nobody there: %v", err)
	}
	client, err := net.Dial("tcp", ln.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, _, err := unix.Accept4(ln.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	for _, o := range []struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeoutMillis},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdleSeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEverySeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * sendBuffer}, // the kernel doubles it
	} {
		if got, err := unix.GetsockoptInt(conn, o.level, o.name); err != nil || got != o.want {
			t.Errorf("option %d/%d of an accepted socket is %d, %v; want %d", o.level, o.name, got, err, o.want)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(ln.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs started by this one would have the listener too: %#x, %v", flags, err)
	}

	ln.Close()
	late, err := net.Dial("tcp", ln.Addr.String())
	if err != nil {
		t.Fatal("refused although somebody else has the socket:", err)
	}
	defer late.Close()
	if conn, err := theirs.Accept(); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// Only a listening TCP socket will do; whatever it is instead is said.
func TestInheritRefusesOtherDescriptors(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	theirs := tcpListener(t, false)
	conn, err := net.DialTCP("tcp", nil, theirs.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	others := map[string]*os.File{"UDP": file(t, udp), "a path": file(t, path), "a connection": file(t, conn), "no socket": null}
	multipath := file(t, tcpListener(t, true))
	if p, err := unix.GetsockoptInt(int(multipath.Fd()), unix.SOL_SOCKET, unix.SO_PROTOCOL); err == nil && p == unix.IPPROTO_MPTCP { // not every kernel has it
		others["Multipath TCP"] = multipath
	}
	for name, f := range others {
		fd := passed(t, f)
		if ln, err := Inherit("gate", fd, 0); !errors.Is(err, ErrNotListening) {
			t.Errorf("%s: %v, %v", name, ln, err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%s: the descriptor is left open", name)
		}
	}
	if _, err := ListenerAddr(1 << 20); !errors.Is(err, ErrNotListening) {
		t.Errorf("no descriptor: %v", err)
	}
}

// 0.0.0.0 is every address of IPv4 and none of IPv6; no host, and ::, are every address of both.
func TestListenAddresses(t *testing.T) {
	six, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	six.Close()
	for _, tc := range []struct {
		host      string
		four, six bool
	}{
		{"", true, true},
		{"[::]", true, true},
		{"0.0.0.0", true, false},
		{"127.0.0.1", true, false},
		{"[::1]", false, true},
		{"localhost", true, false}, // Go takes its address of IPv4 if there is one
	} {
		ln, err := Listen("connector", tc.host+":0", 0)
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]bool{"127.0.0.1": tc.four, "::1": tc.six} {
			c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.ParseIP(host), Port: ln.Addr.Port})
			if err == nil {
				c.Close()
			}
			if (err == nil) != want {
				t.Errorf("listening on %q: %s gets %v", tc.host, host, err)
			}
		}
		ln.Close()
	}
}
