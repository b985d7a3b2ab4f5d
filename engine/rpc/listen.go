package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"app.provost/engine"

	"golang.org/x/sys/unix"
)

const doingListen = "listen for screens"

// listen binds the socket with mode 0600. A file left behind by an engine that
// is gone is replaced; one on which somebody listens is not. The directory is
// made with mode 0700 if it is missing.
func listen(path string) (*net.UnixListener, error) {
	if len(path) >= maxSocket {
		return nil, engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: doingListen, Field: "socket",
			Cause:  fmt.Sprintf("the socket's path has %d characters and the system takes %d: %s", len(path), maxSocket-1, path),
			Remedy: "choose a shorter directory with --runtime-dir"}.Because(nil)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, err)
	}
	// Two engines that start at once must not both find the same file stale: the
	// look and the bind happen under a lock on the directory.
	d, err := os.Open(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, unwritable(dir, fmt.Errorf("lock directory: %w", err))
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// The kernel makes the file with the mode of the unbound socket, less the
		// umask: so it is never open to others, not even for a moment.
		var inner error
		if err := c.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return inner
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false) // removed by us, and only if it is still ours
	if err := os.Chmod(path, 0o600); err != nil {
		ul.Close()
		return nil, unwritable(dir, err)
	}
	return ul, nil
}

func unwritable(dir string, err error) error {
	return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitNotAllowed, Doing: doingListen, Field: "socket",
		Cause:  fmt.Sprintf("cannot make the socket in %s: %v", dir, err),
		Remedy: "make the directory writable, or name another runtime directory"}.Because(err)
}

// clearStale removes a socket on which nobody answers.
func clearStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unwritable(filepath.Dir(path), err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return engine.Problem{Code: engine.CodeSocketTaken, Exit: engine.ExitNotAllowed, Doing: doingListen, Field: "socket",
			Cause:  path + " is there and is no socket",
			Remedy: "move it away, or name another socket"}.Because(nil)
	}
	// A full backlog (EAGAIN) means that somebody listens who is busy or stopped:
	// only a refused connection proves that nobody does.
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	if err == nil || !errors.Is(err, unix.ECONNREFUSED) {
		return engine.Problem{Code: engine.CodeSocketTaken, Exit: engine.ExitNotAllowed, Doing: doingListen, Field: "socket",
			Cause:  "somebody already listens on " + path,
			Remedy: "attach to that engine with provost attach, stop it with provost down, or name another socket"}.Because(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unwritable(filepath.Dir(path), err)
	}
	return nil
}

// sameFile tells whether path is still the file that st described.
func sameFile(path string, st fs.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && st != nil && os.SameFile(now, st)
}

// peerUID asks the kernel who is on the other end.
func peerUID(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("ask who calls: not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask who calls: %w", err)
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("ask who calls: %w", err)
	}
	if inner != nil {
		return 0, fmt.Errorf("ask who calls: %w", inner)
	}
	return int(cred.Uid), nil
}

// names turns user ids into names. A directory service may take long or hang:
// then the number has to do, and the name is used once it has come. At most two
// ids are ever asked for (ours and root's), so at most two goroutines wait there.
type names struct {
	mu    sync.Mutex
	known map[int]*lookup
}

type lookup struct {
	done chan struct{}
	name string
}

func (n *names) of(uid int, patience time.Duration) string {
	n.mu.Lock()
	if n.known == nil {
		n.known = map[int]*lookup{}
	}
	l := n.known[uid]
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		n.known[uid] = l
		go func() {
			defer close(l.done)
			// A number without a name is normal in containers: then the number is shown.
			if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
				l.name = u.Username
			}
		}()
	}
	n.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-l.done:
		return l.name
	case <-t.C:
		return ""
	}
}

// peer is who is on the other end of a connection, as the kernel says.
type peer struct {
	uid    int
	refuse *engine.Problem // why this connection gets no answer but this
}

// conn is an accepted connection. Each write gets a fresh deadline for each
// 256 KiB, so that a viewer on a slow line is not dropped while it reads, and one
// that reads nothing is.
type conn struct {
	net.Conn
	peer  peer
	write time.Duration
	done  func()
	once  sync.Once
}

func (c *conn) Write(b []byte) (int, error) {
	const step = 256 << 10
	sent := 0
	for {
		part := b[sent:min(len(b), sent+step)]
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
			return sent, err
		}
		n, err := c.Conn.Write(part)
		sent += n
		if err != nil || sent == len(b) {
			return sent, err
		}
	}
}

func (c *conn) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}

// gate accepts connections, asks who calls and counts. Up to max are served, as
// many again are told that it is full, more are closed.
type gate struct {
	*net.UnixListener
	max   int
	write time.Duration
	self  int

	mu   sync.Mutex
	open int
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.UnixListener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		g.open++
		n := g.open
		g.mu.Unlock()
		out := &conn{Conn: c, write: g.write, done: func() {
			g.mu.Lock()
			g.open--
			g.mu.Unlock()
		}}
		if n > 2*g.max {
			out.Close()
			continue
		}
		uid, err := peerUID(c)
		switch {
		case err != nil:
			out.peer.refuse = engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: "connect",
				Cause: "the system does not say who calls", Remedy: "call over the unix socket of this machine"}.Because(err)
		case uid != g.self && uid != 0:
			out.peer.uid = uid
			out.peer.refuse = engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: "connect",
				Cause:  fmt.Sprintf("uid %d may not: this engine belongs to uid %d", uid, g.self),
				Remedy: "run the command as the engine's user"}.Because(nil)
		case n > g.max:
			out.peer.refuse = engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitNotAllowed, Doing: "connect",
				Cause:  fmt.Sprintf("%d connections are open, as many as this engine takes", g.max),
				Remedy: "close a screen, then try again"}.Because(nil)
		default:
			out.peer.uid = uid
		}
		return out, nil
	}
}
