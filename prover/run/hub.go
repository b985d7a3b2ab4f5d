package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"app.provost/prover"
)

// Bounds of a hub. A connection whose orders pile up is ended: its worker dials again and says what it has.
const (
	maxConns     = 8192
	maxOrders    = 64 // waiting for one worker
	eventBuffer  = 1024
	greetingTime = 5 * time.Second
	writeTime    = 10 * time.Second
	maxSocket    = 103 // bytes of a path that every unix takes
)

// ErrGone: the connection that an order is for has ended, or does not take orders fast enough and is ended.
var ErrGone = errors.New("the worker is not connected")

// ErrSocketTaken: somebody listens there.
var ErrSocketTaken = errors.New("another engine listens on the socket")

// ErrSocketPath: the path is longer than the system takes.
var ErrSocketPath = errors.New("the socket's path is too long")

// HubOptions are what a hub needs. All but Now, PingEvery and Silence are required.
type HubOptions struct {
	// Path of the socket, at most 103 bytes, in a directory of mode 0700.
	Path string
	// Token gives the token that this worker must show in this role; an error refuses it.
	Token func(prover.WorkerID, prover.WorkerRole) (Token, error)
	// Spawn starts the hub's goroutine; it must be waited for. Connections are waited for by that goroutine.
	Spawn   func(name string, fn func(ctx context.Context) error)
	Version string
	Logger  *slog.Logger
	Now     func() time.Time // default time.Now
	// PingEvery is how often latency is measured (5 s); Silence is how long a connection may say nothing (15 s).
	PingEvery, Silence time.Duration
}

// Hub is the control side's end of the worker socket. Its methods may be called from any goroutine.
type Hub struct {
	o        HubOptions
	listener *net.UnixListener
	uid      int
	events   chan prover.WorkerEvent
	slots    chan struct{}

	mu    sync.Mutex // guards what follows; nothing is waited for while it is held
	conns map[prover.WorkerID]*hubConn
	next  uint64
}

type hubConn struct {
	peer   prover.Peer
	conn   *net.UnixConn
	orders chan prover.Order
	ended  chan struct{} // closed after its last event
	drop   func()        // ends the connection; may be called often
	reason *refusal      // told to the worker at the end; set before drop, guarded by Hub.mu

	pingMu  sync.Mutex // guards latency measurement between reader and writer
	pinged  uint64
	pingAt  time.Time
	latency time.Duration
}

// Listen takes the socket and begins to accept workers. It ends, with all connections, when the context of Spawn does.
func Listen(o HubOptions) (*Hub, error) {
	if o.Token == nil || o.Spawn == nil || o.Logger == nil {
		return nil, errors.New("listen for workers: options are incomplete")
	}
	if len(o.Path) > maxSocket || o.Path == "" {
		return nil, fmt.Errorf("listen for workers on %s: %w: it has %d bytes, the system takes %d", o.Path, ErrSocketPath, len(o.Path), maxSocket)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PingEvery <= 0 {
		o.PingEvery = 5 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = 15 * time.Second
	}
	l, err := listen(o.Path)
	if err != nil {
		return nil, fmt.Errorf("listen for workers on %s: %w", o.Path, err)
	}
	h := &Hub{o: o, listener: l, uid: os.Getuid(), events: make(chan prover.WorkerEvent, eventBuffer),
		slots: make(chan struct{}, maxConns), conns: map[prover.WorkerID]*hubConn{}}
	o.Spawn("worker-socket", h.accept)
	return h, nil
}

// listen binds the socket. One that nobody answers on was left by a process that died, and is replaced.
func listen(path string) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		if info, serr := os.Lstat(path); serr != nil || info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("there is a file of that name that is no socket: %w", err)
		}
		if c, derr := net.DialTimeout("unix", path, time.Second); derr == nil {
			c.Close()
			return nil, ErrSocketTaken
		} else if !errors.Is(derr, syscall.ECONNREFUSED) {
			return nil, derr
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.ListenUnix("unix", addr)
	}
	if err != nil {
		return nil, err
	}
	// Until the mode is set, the 0700 directory and the check of the peer's user keep others out.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Events are what workers report. One reader; while it does not read, workers wait. The channel is never closed.
func (h *Hub) Events() <-chan prover.WorkerEvent { return h.events }

// Send hands an order to a connection and does not wait: ErrGone if it has ended. An order that was taken may still be
// lost with its connection; the worker's next hello tells.
func (h *Hub) Send(to prover.Peer, o prover.Order) error {
	if err := o.Check(); err != nil {
		return err
	}
	h.mu.Lock()
	c := h.conns[to.Worker]
	h.mu.Unlock()
	if c == nil || c.peer != to {
		return fmt.Errorf("send order to %s: %w", to.Worker, ErrGone)
	}
	select {
	case <-c.ended:
		return fmt.Errorf("send order to %s: %w", to.Worker, ErrGone)
	case c.orders <- o:
		return nil
	default:
		c.drop()
		return fmt.Errorf("send order to %s: it does not take its orders: %w", to.Worker, ErrGone)
	}
}

func (h *Hub) accept(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { h.listener.Close() })
	defer stop()
	defer h.listener.Close()
	for {
		c, err := h.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept workers: %w", err)
			}
			// Out of file descriptors, most likely: it passes, or the finding about it is read.
			h.o.Logger.Warn("a worker could not connect", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case h.slots <- struct{}{}:
		default:
			h.refuse(c, refuseFull, fmt.Sprintf("%d connections are open", maxConns))
			c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-h.slots }()
			h.serve(ctx, c)
		})
	}
}

// refuse says why a connection ends, if the other end still reads.
func (h *Hub) refuse(c *net.UnixConn, code, text string) {
	b, err := encode(&message{Type: "refusal", Refusal: &refusal{Code: code, Text: text}})
	if err != nil {
		return
	}
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write(b)
}

// greet reads the hello and says whether to let the worker in.
func (h *Hub) greet(c *net.UnixConn) (*hello, *refusal, error) {
	uid, err := peerUID(c)
	if err != nil {
		return nil, nil, fmt.Errorf("whose process it is cannot be told: %w", err)
	}
	if uid != h.uid {
		return nil, nil, fmt.Errorf("it belongs to user %d, not %d", uid, h.uid)
	}
	c.SetReadDeadline(time.Now().Add(greetingTime))
	m, err := readMessage(c, maxGreeting)
	if err != nil {
		return nil, nil, err
	}
	if m.Hello == nil {
		return nil, nil, fmt.Errorf("%w: %s before hello", errProtocol, m.Type)
	}
	if !sameMajor(m.Hello.Schema) {
		return m.Hello, &refusal{Code: refuseSchema, Text: fmt.Sprintf("this engine speaks %s, the worker %q", Schema, m.Hello.Schema)}, nil
	}
	want, err := h.o.Token(m.Hello.Worker, m.Hello.Process.Role)
	if err != nil || !want.Equal(m.Hello.Token.Token) {
		return m.Hello, &refusal{Code: refuseToken, Text: fmt.Sprintf("worker %s in role %s with this token is not known here", m.Hello.Worker, m.Hello.Process.Role)}, nil
	}
	return m.Hello, nil, nil
}

func (h *Hub) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	hi, no, err := h.greet(conn)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		h.o.Logger.Warn("a process on the worker socket was turned away", "error", err)
		return
	case no != nil:
		h.o.Logger.Warn("a worker was refused", "worker", hi.Worker, "pid", hi.Process.PID, "code", no.Code, "reason", no.Text)
		h.refuse(conn, no.Code, no.Text)
		return
	}

	connCtx, drop := context.WithCancel(ctx)
	defer drop()
	c := &hubConn{conn: conn, orders: make(chan prover.Order, maxOrders), ended: make(chan struct{}), drop: drop}
	if !h.enter(ctx, c, hi.Worker) {
		return
	}
	stopDrop := context.AfterFunc(connCtx, func() {
		h.mu.Lock()
		no := c.reason
		h.mu.Unlock()
		if no != nil {
			h.refuse(conn, no.Code, no.Text)
		}
		conn.Close()
	})
	defer stopDrop()

	var writer sync.WaitGroup
	welcomed := h.write(conn, &message{Type: "welcome", Welcome: &welcome{Schema: Schema, Version: h.o.Version}})
	if welcomed == nil {
		welcomed = h.emit(ctx, c, prover.Report{Kind: prover.ReportHello, Hello: &hi.Process, Holding: hi.Holding})
	}
	if welcomed == nil {
		writer.Go(func() { h.send(connCtx, c); drop() })
		err = h.receive(ctx, c)
	} else {
		err = welcomed
	}
	drop()
	writer.Wait()
	h.leave(ctx, c, err)
}

// enter makes c the worker's connection. An earlier one is ended and its last event awaited, so that events of one
// worker never mix.
func (h *Hub) enter(ctx context.Context, c *hubConn, id prover.WorkerID) bool {
	for {
		h.mu.Lock()
		old := h.conns[id]
		if old == nil {
			h.next++
			c.peer = prover.Peer{Worker: id, Conn: h.next}
			h.conns[id] = c
			h.mu.Unlock()
			return true
		}
		old.reason = &refusal{Code: refuseReplaced, Text: "another process said that it is worker " + string(id)}
		h.mu.Unlock()
		old.drop()
		select {
		case <-old.ended:
		case <-ctx.Done():
			return false
		}
	}
}

func (h *Hub) leave(ctx context.Context, c *hubConn, cause error) {
	why := "the connection was closed"
	if cause != nil && !errors.Is(cause, io.EOF) && !errors.Is(cause, net.ErrClosed) {
		why = cause.Error()
	}
	h.emit(ctx, c, prover.Report{Kind: prover.ReportGone, Why: why})
	h.mu.Lock()
	delete(h.conns, c.peer.Worker)
	h.mu.Unlock()
	close(c.ended)
}

func (h *Hub) emit(ctx context.Context, c *hubConn, r prover.Report) error {
	c.pingMu.Lock()
	latency := c.latency
	c.pingMu.Unlock()
	select {
	case h.events <- prover.WorkerEvent{Peer: c.peer, At: h.o.Now(), Report: r, Latency: latency}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive hands on what the worker says until the connection ends.
func (h *Hub) receive(ctx context.Context, c *hubConn) error {
	for {
		c.conn.SetReadDeadline(time.Now().Add(h.o.Silence))
		m, err := readMessage(c.conn, maxFrame)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("nothing was heard for %s", h.o.Silence)
		case err != nil:
			return err
		case m.Pong != nil:
			c.pingMu.Lock()
			if m.Pong.Seq == c.pinged && !c.pingAt.IsZero() {
				c.latency = max(time.Since(c.pingAt), 1)
				c.pingAt = time.Time{}
			}
			c.pingMu.Unlock()
		case m.Report != nil:
			if err := h.emit(ctx, c, *m.Report); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: a worker sends no %s", errProtocol, m.Type)
		}
	}
}

// send writes orders and pings until the connection ends.
func (h *Hub) send(ctx context.Context, c *hubConn) {
	tick := time.NewTicker(h.o.PingEvery)
	defer tick.Stop()
	ask := func() error {
		c.pingMu.Lock()
		c.pinged++
		c.pingAt = time.Now()
		m := &message{Type: "ping", Ping: &ping{Seq: c.pinged}}
		c.pingMu.Unlock()
		return h.write(c.conn, m)
	}
	err := ask()
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case o := <-c.orders:
			err = h.write(c.conn, &message{Type: "order", Order: &o})
		case <-tick.C:
			err = ask()
		}
	}
	if ctx.Err() == nil {
		h.o.Logger.Info("a worker does not take what it is sent", "worker", c.peer.Worker, "error", err)
	}
}

func (h *Hub) write(c *net.UnixConn, m *message) error {
	b, err := encode(m)
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(writeTime))
	_, err = c.Write(b)
	return err
}

// SocketIn is the path of the worker socket in a runtime directory.
func SocketIn(dir string) string { return filepath.Join(dir, "workers.sock") }
