package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"

	"golang.org/x/sys/unix"
)

// DialOptions says whom to call and how the caller presents itself.
type DialOptions struct {
	Socket  string
	Version string     // of this binary, for the text of a protocol mismatch
	Via     engine.Via // the face, where a request's actor names none (ViaCLI)
	Host    string     // from where the caller looks, if it knows (SSH)
	// Patience bounds every call whose context has no deadline, but for Do (30s).
	Patience time.Duration
	// DoPatience bounds Do whose context has no deadline (10m).
	DoPatience time.Duration
	// Silence is after how many missed keepalives a stream counts as lost (3).
	Silence int
}

func (o *DialOptions) defaults() {
	if o.Via == "" {
		o.Via = engine.ViaCLI
	}
	if o.Patience <= 0 {
		o.Patience = 30 * time.Second
	}
	if o.DoPatience <= 0 {
		o.DoPatience = 10 * time.Minute
	}
	if o.Silence <= 0 {
		o.Silence = 3
	}
}

// Client is an engine at the other end of a socket. It is an engine.Engine.
type Client struct {
	o     DialOptions
	http  *http.Client
	hello Hello
}

var _ engine.Engine = (*Client)(nil)

// Dial calls an engine and agrees on the protocol. The caller closes the client.
// Errors are *engine.Problem: CodeNoEngine (nobody answers), CodeProtocol,
// CodeDenied (not our socket).
func Dial(ctx context.Context, o DialOptions) (*Client, error) {
	o.defaults()
	c := &Client{o: o}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:           c.connect,
		DisableCompression:    true,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
		ExpectContinueTimeout: time.Second,
	}}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.call(ctx, "talk to the engine", http.MethodGet, "/v1/hello", nil, "", &c.hello); err != nil {
		c.Close()
		return nil, err
	}
	if c.hello.Schema != HelloSchema || c.hello.Protocol != Protocol {
		c.Close()
		return nil, protocolProblem(strconv.Itoa(Protocol), strconv.Itoa(c.hello.Protocol), clean(c.hello.Version, 64))
	}
	return c, nil
}

// Hello is what the engine said about itself when it was dialled.
func (c *Client) Hello() Hello { return c.hello }

// Socket is the path on which the engine was dialled. The engine may know its socket
// by another one, when it is reached from a container or over a forwarded socket.
func (c *Client) Socket() string { return c.o.Socket }

// Close frees what the client holds. Open feeds and log streams have their own Close.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// connect dials the socket and asks the kernel who listens there: an order must
// not go to somebody who only sits at the right path.
func (c *Client) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.o.Socket)
	if err != nil {
		return nil, err
	}
	uid, err := peerUID(conn)
	self := os.Geteuid()
	if err == nil && uid != 0 && uid != self && self != 0 {
		err = engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: "talk to the engine",
			Cause:  fmt.Sprintf("%s belongs to uid %d, not to you (uid %d)", c.o.Socket, uid, self),
			Remedy: "run the command as the engine's user"}.Because(nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// problemOf puts a transport's error in words. ctx is the call's own.
func (c *Client) problemOf(ctx context.Context, doing string, err error) error {
	var p *engine.Problem
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case ctx.Err() != nil:
		return engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitTimeout, Doing: doing,
			Cause: "the engine did not answer in time", Remedy: "look with provost status; what was asked may still be carried out"}.Because(ctx.Err())
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: doing,
			Cause: "no engine answers on " + c.o.Socket, Remedy: "start one with provost up"}.Because(&lost{err})
	case errors.Is(err, fs.ErrPermission):
		return engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause: "you may not open " + c.o.Socket, Remedy: "run the command as the engine's user"}.Because(err)
	case errors.Is(err, unix.EAGAIN):
		return engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitNoEngine, Doing: doing,
			Cause: "the engine does not take connections on " + c.o.Socket, Remedy: "see whether its process is stopped or stuck"}.Because(&lost{err})
	}
	return linkLost(doing, err)
}

func (c *Client) request(ctx context.Context, method, route string, q url.Values, body []byte) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "provost", Path: route, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.Header.Set(headerProtocol, strconv.Itoa(Protocol))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// call makes one round trip and reads the answer into "into". A key allows the
// transport to send again when a kept connection turns out to be dead.
func (c *Client) call(ctx context.Context, doing, method, route string, body []byte, key string, into any) error {
	req, err := c.request(ctx, method, route, nil, body)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set(headerKey, key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.problemOf(ctx, doing, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.readProblem(ctx, doing, resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.problemOf(ctx, doing, err)
	}
	if len(data) > maxAnswer {
		return engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitUnexpected, Doing: doing,
			Cause: fmt.Sprintf("the engine's answer is longer than %d bytes", maxAnswer), Remedy: "ask for less at once"}.Because(nil)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return unreadable(doing, err)
	}
	return nil
}

func unreadable(doing string, err error) error {
	return engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitUnexpected, Doing: doing,
		Cause:  "the engine's answer cannot be read: " + err.Error(),
		Remedy: "use the engine's binary; if both are the same version, report this"}.Because(err)
}

// readProblem reads the problem in an answer that is not 200.
func (c *Client) readProblem(ctx context.Context, doing string, resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.problemOf(ctx, doing, err)
	}
	var b problemBody
	if err := json.Unmarshal(data, &b); err != nil || b.Problem == nil {
		theirs := resp.Header.Get(headerProtocol)
		if theirs != "" && theirs != strconv.Itoa(Protocol) {
			return protocolProblem(strconv.Itoa(Protocol), clean(theirs, 20), "")
		}
		return unreadable(doing, fmt.Errorf("status %s without a problem in it", resp.Status))
	}
	return b.Problem
}

func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

func (c *Client) ask(verb string, r engine.Request, digest engine.Digest) ([]byte, error) {
	if r.Action == nil {
		return nil, usage(verb, "action", "no action is named", "name one of the actions that the engine knows")
	}
	action, err := engine.MarshalAction(r.Action)
	if err != nil {
		return nil, usage(verb, "action", err.Error(), "name one of the actions that the engine knows")
	}
	q := ask{Key: r.Key, Action: action, Digest: digest, Via: r.Actor.Via, Host: r.Actor.Host}
	if q.Via == "" {
		q.Via = c.o.Via
	}
	if q.Host == "" {
		q.Host = c.o.Host
	}
	b, err := json.Marshal(q)
	if err != nil {
		return nil, engine.AsProblem(verb, err)
	}
	return b, nil
}

// Preview asks what an action would do. The actor is who calls, as the kernel
// tells the engine; only Via and Host of r.Actor travel.
func (c *Client) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	body, err := c.ask("preview", r, "")
	if err != nil {
		return engine.Plan{}, err
	}
	ctx, cancel := bounded(ctx, c.o.Patience)
	defer cancel()
	var p engine.Plan
	if err := c.call(ctx, r.Action.Doing(), http.MethodPost, "/v1/preview", body, "", &p); err != nil {
		return engine.Plan{}, err
	}
	return p, nil
}

// Do asks for the act. When the link breaks before the answer (LinkLost), the
// same request with the same key may be sent again: it is done once.
func (c *Client) Do(ctx context.Context, r engine.Request, digest engine.Digest) (engine.Receipt, error) {
	body, err := c.ask("do", r, digest)
	if err != nil {
		return engine.Receipt{}, err
	}
	ctx, cancel := bounded(ctx, c.o.DoPatience)
	defer cancel()
	var rec receipt
	if err := c.call(ctx, r.Action.Doing(), http.MethodPost, "/v1/do", body, r.Key, &rec); err != nil {
		return engine.Receipt{}, err
	}
	return rec.Receipt, nil
}

// Snapshot reads the newest snapshot once.
func (c *Client) Snapshot(ctx context.Context) (*engine.Snapshot, error) {
	f, err := c.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ctx, cancel := bounded(ctx, c.o.Patience)
	defer cancel()
	u, err := f.Next(ctx)
	if err != nil {
		return nil, err
	}
	return u.Snapshot, nil
}

// Watch opens a feed. ctx bounds the opening, not the feed.
func (c *Client) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	q := url.Values{}
	if o.Every > 0 {
		q.Set("every", o.Every.String())
	}
	if len(o.Sections) > 0 {
		q.Set("sections", strings.ReplaceAll(joined(o.Sections), ", ", ","))
	}
	if o.After != nil {
		q.Set("after", strconv.FormatUint(*o.After, 10))
	}
	if o.Viewer != "" {
		q.Set("viewer", o.Viewer)
	}
	in, err := c.open(ctx, "watch", "/v1/watch", q)
	if err != nil {
		return nil, err
	}
	f := &rpcFeed{in: in, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{})}
	go f.read()
	return f, nil
}

// Logs opens a stream of log lines. ctx bounds the opening, not the stream.
func (c *Client) Logs(ctx context.Context, lq engine.LogQuery) (engine.LogStream, error) {
	q := url.Values{"source": lq.Sources}
	if lq.Follow {
		q.Set("follow", "true")
	}
	if lq.Tail != 0 {
		q.Set("tail", strconv.Itoa(lq.Tail))
	}
	if lq.Since != nil {
		q.Set("since", lq.Since.UTC().Format(time.RFC3339Nano))
	}
	if lq.Grep != "" {
		q.Set("grep", lq.Grep)
	}
	if lq.Level != "" {
		q.Set("level", string(lq.Level))
	}
	in, err := c.open(ctx, "read logs", "/v1/logs", q)
	if err != nil {
		return nil, err
	}
	l := &logStream{in: in, lines: make(chan engine.LogLine, 256), gone: make(chan struct{})}
	go l.read()
	return l, nil
}

// inflow is an open event stream with a watch on its silence.
type inflow struct {
	events *events
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	ctx    context.Context
	doing  string
	pulse  *time.Timer
	limit  time.Duration
}

var errSilent = errors.New("the engine has sent nothing for too long")

// Read passes bytes on; each of them is a sign of life.
func (in *inflow) Read(b []byte) (int, error) {
	n, err := in.body.Read(b)
	if n > 0 && in.pulse != nil {
		in.pulse.Reset(in.limit)
	}
	return n, err
}

func (c *Client) open(ctx context.Context, doing, route string, q url.Values) (*inflow, error) {
	until, stop := bounded(ctx, c.o.Patience)
	defer stop()
	life, cancel := context.WithCancelCause(context.Background())
	in := &inflow{ctx: life, cancel: cancel, doing: doing}
	abort := context.AfterFunc(until, func() { cancel(until.Err()) })
	fail := func(err error) (*inflow, error) {
		cancel(nil)
		if in.body != nil {
			in.body.Close()
		}
		return nil, err
	}
	req, err := c.request(life, http.MethodGet, route, q, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail(c.problemOf(until, doing, err))
	}
	in.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		return fail(c.readProblem(until, doing, resp))
	}
	in.events = newEvents(in, maxEvent)
	ev, err := in.events.next()
	if err != nil {
		return fail(c.problemOf(until, doing, err))
	}
	var o opening
	if err := json.Unmarshal(ev.data, &o); err != nil || ev.name != eventOpen {
		return fail(unreadable(doing, fmt.Errorf("a stream began with event %q", clean(ev.name, 40))))
	}
	if o.Protocol != Protocol {
		return fail(protocolProblem(strconv.Itoa(Protocol), strconv.Itoa(o.Protocol), ""))
	}
	if !abort() {
		return fail(c.problemOf(until, doing, until.Err()))
	}
	in.limit = max(time.Second, time.Duration(o.KeepaliveS*float64(c.o.Silence)*float64(time.Second)))
	in.pulse = time.AfterFunc(in.limit, func() { cancel(errSilent) })
	return in, nil
}

// failure is the error for a stream that broke with err. io.EOF without an "end"
// event before it is a broken link, not an end.
func (in *inflow) failure(err error) error {
	if cause := context.Cause(in.ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, errEventTooLong) {
		return unreadable(in.doing, err)
	}
	return linkLost(in.doing, err)
}

// stray handles the events that every stream may carry; done tells that the stream ends with err.
func (in *inflow) stray(ev event) (err error, done bool) {
	switch ev.name {
	case eventEnd:
		return io.EOF, true
	case eventProblem:
		var b problemBody
		if err := json.Unmarshal(ev.data, &b); err != nil || b.Problem == nil {
			return unreadable(in.doing, errors.New("a problem event without a problem")), true
		}
		return b.Problem, true
	}
	return nil, false // an event of a newer engine: skipped
}

func (in *inflow) close() {
	in.pulse.Stop()
	in.cancel(nil)
	in.body.Close()
}
