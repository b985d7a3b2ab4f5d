package tui

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"app.provost/tui/internal/escape"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// isGone tells whether an error of a terminal means that nobody is there any more.
func isGone(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF)
}

// restorer brings a terminal back to what it was before the screen.
type restorer struct {
	mu      sync.Mutex
	in, out *os.File
	state   *term.State
	done    bool
}

func newRestorer(in, out *os.File) *restorer {
	r := &restorer{in: in, out: out}
	if st, err := term.GetState(int(in.Fd())); err == nil {
		r.state = st
	}
	return r
}

// clean is called instead of now when bubbletea has already given the screen back.
func (r *restorer) clean() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.done = true
	if r.state != nil {
		_ = term.Restore(int(r.in.Fd()), r.state) // bubbletea did the same
	}
}

// now restores everything, the first time it is called.
func (r *restorer) now() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.done = true
	// A terminal that takes nothing must not hold us: poll before writing.
	fds := []unix.PollFd{{Fd: int32(r.out.Fd()), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 50); err == nil && n > 0 && fds[0].Revents&unix.POLLOUT != 0 {
		_, _ = r.out.WriteString(escape.RestoreAll)
	}
	if r.state != nil {
		_ = term.Restore(int(r.in.Fd()), r.state) // the terminal may be gone: nothing to restore then
	}
}

// askSync asks the terminal whether it knows synchronized output, and waits 100 ms at most.
func askSync(in, out *os.File, termName string) bool {
	if termName == "" || termName == "dumb" || termName == "linux" || strings.HasPrefix(termName, "vt") {
		return false
	}
	fd := int(in.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return false
	}
	defer func() { _ = term.Restore(fd, old) }()
	if _, err := out.WriteString(escape.AskSync + escape.AskDone); err != nil {
		return false
	}
	var answer []byte
	buf := make([]byte, 256)
	for end := time.Now().Add(100 * time.Millisecond); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 || fds[0].Revents&unix.POLLIN == 0 {
			return false
		}
		k, err := unix.Read(fd, buf)
		if err != nil || k <= 0 {
			return false
		}
		answer = append(answer, buf[:k]...)
		// The answer to the second question ends in "c" and begins with ESC [ ?.
		if i := strings.LastIndex(string(answer), "\x1b[?"); i >= 0 && strings.HasSuffix(string(answer), "c") {
			return escape.SyncKnown(string(answer))
		}
		if len(answer) > 1024 {
			return false
		}
	}
}

// signals follows the table of signals: what ends the screen, what leaves it,
// what asks the engine to stop.
func (s *screen) signals(ctx context.Context) {
	ch := s.o.Signals
	if ch == nil {
		own := make(chan os.Signal, 8)
		signal.Notify(own, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGTSTP, syscall.SIGQUIT, syscall.SIGPIPE)
		defer signal.Stop(own)
		ch = own
	}
	var lastInt time.Time
	for {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-ch:
		}
		switch sig {
		case syscall.SIGHUP:
			s.end(TerminalLost)
		case syscall.SIGINT:
			if !s.o.Foreground || time.Since(lastInt) < 2*time.Second {
				s.leave()
				break
			}
			lastInt = time.Now()
			s.send(askLeaveMsg{})
		case syscall.SIGTERM:
			if s.o.Foreground {
				s.end(StopAsked)
			} else {
				s.leave()
			}
		case syscall.SIGTSTP:
			s.send(suspendMsg{})
		case syscall.SIGQUIT:
			buf := make([]byte, 4<<20)
			buf = buf[:runtime.Stack(buf, true)]
			path := ""
			if s.o.Crash != nil {
				path = s.o.Crash("SIGQUIT", "goroutine dump", buf)
			}
			s.o.Log.Info("goroutines dumped on SIGQUIT", "file", path)
			if !s.o.Foreground {
				s.end(Left)
				break
			}
			s.send(sayMsg("goroutines dumped to " + path))
		case syscall.SIGPIPE:
			if !s.o.Foreground {
				s.end(TerminalLost)
			}
		}
	}
}

// leave quits in order, and by force if the program does not take the message.
func (s *screen) leave() {
	r := Left
	s.reason.CompareAndSwap(nil, &r)
	if !s.send(tea.Quit()) {
		s.end(Left)
	}
}

// send hands a message to the program without waiting longer than 300 ms for it.
func (s *screen) send(msg tea.Msg) bool {
	ch := make(chan struct{})
	go func() { // ends when the program takes the message or has ended
		defer close(ch)
		s.program.Send(msg)
	}()
	select {
	case <-ch:
		return true
	case <-time.After(300 * time.Millisecond):
		return false
	}
}

// cannotSuspend says why stopping this process would leave nobody to wake it:
// the shell that could is not in our session. "" when it is there.
func cannotSuspend() string {
	pid := os.Getpid()
	if sid, err := unix.Getsid(0); err == nil && sid == pid {
		return "nobody could wake this screen again (it leads its session, as under ssh -t); q leaves"
	}
	leader := unix.Getpgrp()
	parent := os.Getppid()
	if leader != pid {
		return "" // a shell started us together with others and watches the group
	}
	psid, err := unix.Getsid(parent)
	sid, err2 := unix.Getsid(0)
	pg, err3 := unix.Getpgid(parent)
	if err != nil || err2 != nil || err3 != nil || psid != sid || pg == leader {
		return "nobody could wake this screen again (no shell waits for it); q leaves"
	}
	return ""
}
