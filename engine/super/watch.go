package super

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells loops that a pidfd became readable, which is when its process
// has ended. One goroutine serves all processes and sleeps in the kernel.
type watcher struct {
	ep, wakeFD int

	mu     sync.Mutex // guards what follows
	byFD   map[int32]chan<- struct{}
	closed bool
}

func newWatcher() (*watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	return &watcher{ep: ep, wakeFD: wake, byFD: map[int32]chan<- struct{}{}}, nil
}

// add asks for one note on c (which must have room for one) when fd's process ends.
// A note may be spurious: the receiver looks for itself.
func (w *watcher) add(fd int, c chan<- struct{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return context.Canceled
	}
	w.byFD[int32(fd)] = c
	return unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)})
}

// remove forgets fd, before it is closed.
func (w *watcher) remove(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	delete(w.byFD, int32(fd))
	// It may never have been added; closing it takes it out in any case.
	_ = unix.EpollCtl(w.ep, unix.EPOLL_CTL_DEL, fd, nil)
}

// run serves until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.closed {
			unix.Write(w.wakeFD, binary.NativeEndian.AppendUint64(nil, 1))
		}
	})
	defer stop()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.closed = true
		unix.Close(w.ep)
		unix.Close(w.wakeFD)
	}()
	events := make([]unix.EpollEvent, 64)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(w.ep, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch processes: %w", err)
		}
		w.mu.Lock()
		for _, e := range events[:n] {
			if c := w.byFD[e.Fd]; c != nil {
				select {
				case c <- struct{}{}:
				default: // a note is there already
				}
			}
		}
		w.mu.Unlock()
	}
	return nil
}

// teller hands changes to OnChange, in order, one at a time.
type teller struct {
	fn   func(Status)
	wake chan struct{} // room for one

	mu     sync.Mutex // guards what follows
	queue  []Status
	missed map[string]int
}

const tellQueue = 256

func newTeller(fn func(Status)) *teller {
	return &teller{fn: fn, wake: make(chan struct{}, 1), missed: map[string]int{}}
}

// tell never blocks. Full: the oldest goes, counted for its id.
func (t *teller) tell(s Status) {
	t.mu.Lock()
	if len(t.queue) >= tellQueue {
		t.missed[t.queue[0].ID]++
		t.queue = append(t.queue[:0], t.queue[1:]...)
	}
	t.queue = append(t.queue, s)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *teller) next() (Status, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return Status{}, false
	}
	s := t.queue[0]
	t.queue = append(t.queue[:0], t.queue[1:]...)
	s.Missed = t.missed[s.ID]
	delete(t.missed, s.ID)
	return s, true
}

// run serves until ctx ends, then tells what is left, so that the last exits are heard.
func (t *teller) run(ctx context.Context) error {
	for {
		s, ok := t.next()
		if ok {
			t.fn(s)
			continue
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			for s, ok := t.next(); ok; s, ok = t.next() {
				t.fn(s)
			}
			return nil
		}
	}
}
