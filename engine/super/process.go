package super

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
)

const (
	startLook    = 2 * time.Millisecond // first wait for the stub's word; it doubles up to startLookMax
	startLookMax = 50 * time.Millisecond
	startLimit   = 15 * time.Second       // a stub that has no child by then is ended
	killAfter    = 5 * time.Second        // beyond the grace: the stub itself hangs
	pollLook     = 250 * time.Millisecond // where the kernel has no pidfd
	lockLook     = 20 * time.Millisecond  // first wait for a lock that should become free
	lockPatience = time.Second            // before what holds it is taken for left behind
)

const noSpec = "its spec.json cannot be read; it starts when the engine's configuration names it again"

// command is a request to a process's loop. The zero value asks for nothing but an answer.
type command struct {
	spec    *Spec
	wish    engine.WorkerWish
	restart bool
	forget  bool
	down    bool
	reply   chan error
}

// proc is one supervised process. Its loop alone touches the fields below mu's.
type proc struct {
	s     *Supervisor
	id    string
	cmds  chan command
	exits chan struct{} // room for one; see watcher
	ended chan struct{} // closed when the loop has ended

	mu      sync.Mutex // guards what the loop publishes: the next three
	view    Status
	dir     string
	changed chan struct{} // closed and replaced with every change

	spec     Spec
	h        handle
	adopting bool
	state    State
	since    time.Time
	fd       int  // pidfd of the stub; -1: none
	mine     bool // the stub is a child of this process and must be reaped
	run      running
	problem  string
	usage    *Usage
	asked    bool
	look     time.Duration // next wait in StateStarting, or for the lock
	startBy  time.Time
	startAt  time.Time
	policy   bool // the start at startAt is the policy's, and counts as a restart
	killAt   time.Time
	lockedAt time.Time // since when a start waits for the lock

	restart, forget, down bool
}

func newProc(s *Supervisor, id string) *proc {
	return &proc{
		s: s, id: id, fd: -1, state: StateHeld, since: time.Now().UTC(),
		cmds: make(chan command), exits: make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{}),
	}
}

// begin makes p a new process; before its loop runs.
func (p *proc) begin(spec Spec) {
	p.spec = spec
	p.h = handle{Schema: handleSchema, ID: p.id, Dir: spec.Dir, Wish: engine.WishRun, Counted: true}
	p.publish(EventNone)
}

// resume makes p a process of an earlier engine; before its loop runs.
func (p *proc) resume(h handle) {
	p.h, p.adopting = h, true
	p.publish(EventNone)
}

// ---- for callers

// ask hands a command to the loop and waits for its answer.
func (p *proc) ask(ctx context.Context, c command) error {
	c.reply = make(chan error, 1)
	select {
	case p.cmds <- c:
	case <-p.ended:
		return fmt.Errorf("process %s: %w", p.id, ErrEnding)
	case <-ctx.Done():
		return fmt.Errorf("process %s: %w", p.id, ctx.Err())
	}
	return <-c.reply // the loop answers what it has taken
}

func (p *proc) now() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

func (p *proc) directory() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dir
}

// await returns when ok holds for a published status, or with ctx's error.
func (p *proc) await(ctx context.Context, ok func(Status) bool) error {
	for {
		p.mu.Lock()
		st, changed := p.view, p.changed
		p.mu.Unlock()
		if ok(st) {
			return nil
		}
		select {
		case <-changed:
		case <-p.ended:
			return fmt.Errorf("process %s: %w", p.id, ErrEnding)
		case <-ctx.Done():
			return fmt.Errorf("wait for process %s: %w", p.id, ctx.Err())
		}
	}
}

// ---- the loop

func (p *proc) loop(ctx context.Context) error {
	defer close(p.ended)
	defer p.s.forgetProc(p)
	defer p.closeFD()
	if p.adopting {
		p.adopt(time.Now().UTC())
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil { // nothing is started on the way out
		due := p.step(time.Now().UTC())
		if p.forget && p.state == StateHeld {
			if err := p.s.o.Handles.DeleteHandle(p.id); err != nil {
				return fmt.Errorf("forget process %s: %w", p.id, err)
			}
			return nil
		}
		var tick <-chan time.Time
		if !due.IsZero() {
			timer.Reset(time.Until(due))
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-p.cmds:
			c.reply <- p.take(c, time.Now().UTC())
		case <-p.exits: // step looks for itself
		case <-tick:
		}
	}
	return nil
}

// take carries out a command's immediate part; step does the rest.
func (p *proc) take(c command, now time.Time) error {
	if c.spec != nil {
		if p.h.Dir != c.spec.Dir {
			return fmt.Errorf("process %s: dir: is %s and cannot be changed to %s; stop it first", p.id, p.h.Dir, c.spec.Dir)
		}
		p.spec = *c.spec
	}
	if p.forget && (c.wish != "" || c.spec != nil) && !c.forget {
		return fmt.Errorf("process %s: %w", p.id, ErrEnding)
	}
	p.forget = p.forget || c.forget
	p.restart = p.restart || c.restart && p.lives()
	if c.down {
		p.down = true
	}
	if c.wish != "" {
		p.h.Wish = c.wish
		if c.wish == engine.WishRun {
			p.down = false
			if !p.lives() {
				// By hand: at once, and with a clean sheet.
				p.h.History, p.h.GivenUp, p.problem = History{}, "", ""
				p.policy = false
				p.set(StateHeld, now)
			}
		}
	}
	if (p.state == StateBackoff || p.state == StateGivenUp) && !p.wanted() {
		p.problem = ""
		if p.h.Wish != engine.WishRun {
			p.h.GivenUp = ""
		}
		p.set(StateHeld, now)
	}
	if c.wish == "" && c.spec == nil && !c.down {
		return nil
	}
	p.publish(EventNone)
	return p.save()
}

// wanted tells whether a process should be there.
func (p *proc) wanted() bool { return p.h.Wish == engine.WishRun && !p.forget && !p.down }

// unwanted tells whether the process that is there should go.
func (p *proc) unwanted() bool {
	return p.h.Wish == engine.WishHeld || p.forget || p.down || p.restart
}

// lives tells whether there is a stub.
func (p *proc) lives() bool {
	return p.state == StateStarting || p.state == StateRunning || p.state == StateStopping
}

// step does everything that is due and says when to be called again at the latest; zero: only on news.
func (p *proc) step(now time.Time) time.Time {
	if p.lives() && p.gone() {
		p.finish(now)
	}
	switch p.state {
	case StateHeld:
		// Given up outlasts a stop of everything; only Run takes it back.
		if p.wanted() && p.h.GivenUp == "" && len(p.spec.Argv) > 0 {
			p.start(now)
		}
	case StateBackoff:
		if !p.wanted() {
			p.set(StateHeld, now)
			p.publish(EventNone)
		} else if !now.Before(p.startAt) {
			p.start(now)
		}
	}
	switch p.state {
	case StateBackoff:
		return p.startAt
	case StateStarting:
		if p.unwanted() {
			return p.stop(now)
		}
		// Told apart by the stub, not by the run: should another engine have written spec.json
		// in between, our stub carries out that order.
		if r := readRun(p.h.Dir); r != nil && r.ID == p.id && r.StubPID == p.h.StubPID && r.StubTicks == p.h.StubTicks && r.ChildPID > 0 {
			p.h.Run = r.Run
			p.up(*r, EventStarted, now)
			return p.step(now)
		}
		if now.After(p.startBy) {
			p.s.log.Warn("end a stub that starts no child", "id", p.id, "stub", p.h.StubPID)
			p.signal(unix.SIGKILL)
			p.startBy = now.Add(startLimit)
		}
		p.look = min(2*p.look, startLookMax)
		return now.Add(p.look)
	case StateRunning:
		if p.unwanted() {
			return p.stop(now)
		}
	case StateStopping:
		if !now.Before(p.killAt) {
			// The kernel kills the child with it.
			p.s.log.Warn("end a stub that does not stop", "id", p.id, "stub", p.h.StubPID)
			p.signal(unix.SIGKILL)
			p.killAt = now.Add(killAfter)
		}
		if p.fd >= 0 {
			return p.killAt
		}
	}
	if p.lives() && p.fd < 0 {
		return now.Add(pollLook)
	}
	return time.Time{}
}

// start brings up a stub, or takes up the one that is there.
func (p *proc) start(now time.Time) {
	if len(p.spec.Argv) == 0 {
		p.problem = noSpec
		p.set(StateHeld, now)
		p.publish(EventNone)
		return
	}
	dir := p.spec.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.failed(now, err)
		return
	}
	held, err := heldPath(filepath.Join(dir, lockName))
	if err != nil {
		p.failed(now, err)
		return
	}
	if held {
		p.occupied(now)
		return
	}
	p.lockedAt = time.Time{}
	if p.policy {
		p.h.Restarts++
		p.policy = false
	}
	o := order{
		Schema: specSchema, Run: newRun(), Spec: p.spec, SpecHash: p.spec.hash(), Environ: p.spec.environ(os.Environ()),
		CoreDir: p.s.o.CoreDir, Owner: p.s.o.Owner, Lifeline: p.s.o.Lifeline != nil,
	}
	if err := writeJSON(dir, specName, o, true); err != nil {
		p.failed(now, err)
		return
	}
	// The handle is saved before the stub is there: an engine that dies in between leaves
	// one that leads to it. Should the next engine be faster than the stub, one of the two stubs
	// finds the lock taken and ends.
	p.h.Dir, p.h.Run, p.h.SpecHash, p.h.Boot = dir, o.Run, o.SpecHash, bootID()
	p.h.StubPID, p.h.StubTicks, p.h.ChildPID, p.h.StartedAt = 0, 0, 0, time.Time{}
	p.h.Counted, p.h.Stopping, p.h.GivenUp = false, false, ""
	if err := p.save(); err != nil {
		p.failed(now, err)
		return
	}
	if err := p.spawn(dir); err != nil {
		p.failed(now, err)
		return
	}
	p.look, p.startBy, p.problem, p.asked, p.restart = startLook, now.Add(startLimit), "", false, false
	p.run = running{}
	p.set(StateStarting, now)
	p.publish(EventNone)
}

// spawn starts the stub in a session of its own.
func (p *proc) spawn(dir string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	argv := append(slices.Clone(p.s.o.StubArgv), "--dir", dir)
	// The stub opens the log itself, so that nothing of it depends on this process.
	files := []*os.File{null, null, null}
	if p.s.o.Lifeline != nil {
		files = append(files, p.s.o.Lifeline)
	}
	fd := -1
	// One thread is enough for waiting, and keeps the stub small.
	env := []string{"GOMAXPROCS=1", "PATH=" + os.Getenv("PATH"), "PROVOST_STUB=" + p.id}
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: "/", Env: env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &fd}})
	if err != nil {
		return fmt.Errorf("start stub: %w", err)
	}
	p.h.StubPID, p.mine = child.Pid, true
	// It cannot be reaped by anybody else, so its pid is its own until we have.
	if st, err := readStat(child.Pid); err == nil {
		p.h.StubTicks = st.Ticks
	}
	child.Release()
	if p.s.o.noPidfd && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	p.hold(fd)
	return nil
}

// hold watches a stub through its pidfd; -1: by looking.
func (p *proc) hold(fd int) {
	p.fd = fd
	if fd < 0 {
		return
	}
	if err := p.s.watch.add(fd, p.exits); err != nil {
		p.closeFD() // by looking, then
	}
}

func (p *proc) closeFD() {
	if p.fd >= 0 {
		p.s.watch.remove(p.fd)
		unix.Close(p.fd)
		p.fd = -1
	}
	select {
	case <-p.exits: // a note of the old one
	default:
	}
}

// occupied handles a start that finds the lock taken: by a stub that we did not
// know of, or by what an earlier run left behind.
func (p *proc) occupied(now time.Time) {
	if r := readRun(p.spec.Dir); r != nil && r.ID == p.id && p.takeUp(r.stub()) {
		p.h.Run, p.h.Counted = r.Run, false
		p.up(*r, EventAdopted, now)
		return
	}
	if p.lockedAt.IsZero() {
		p.lockedAt, p.look = now, lockLook
	}
	if now.Sub(p.lockedAt) >= lockPatience {
		// Its stub is dead, and the kernel has had time to end the child.
		p.sweep()
		if p.problem == "" {
			p.problem = "its lock is held by something that an earlier run left behind; see fuser " + filepath.Join(p.spec.Dir, lockName)
			p.s.log.Warn("a start waits for its lock", "id", p.id, "file", filepath.Join(p.spec.Dir, lockName))
		}
	}
	p.startAt = now.Add(p.look)
	p.look = min(2*p.look, 2*time.Second)
	p.set(StateBackoff, now)
	p.publish(EventNone)
}

// takeUp makes a living stub ours to watch; false: it is dead.
func (p *proc) takeUp(stub identity) bool {
	fd, err := stub.open()
	if fd >= 0 && p.s.o.noPidfd {
		unix.Close(fd)
		fd, err = -1, errNoPidfd
	}
	if errors.Is(err, errNoPidfd) {
		if !stub.alive() {
			return false
		}
	} else if fd < 0 {
		return false
	}
	p.mine = false
	p.h.StubPID, p.h.StubTicks, p.h.Boot = stub.PID, stub.Ticks, stub.Boot
	p.hold(fd)
	return true
}

// up notes that the child runs.
func (p *proc) up(r running, e Event, now time.Time) {
	p.run = r
	p.h.ChildPID, p.h.StartedAt = r.ChildPID, r.StartedAt
	p.problem = ""
	if r.ChildPID == 0 {
		// Taken up in the middle of its start.
		p.look, p.startBy = startLook, now.Add(startLimit)
		p.set(StateStarting, now)
	} else {
		p.set(StateRunning, now)
	}
	if err := p.save(); err != nil {
		// It runs all the same; run.json leads to it too.
		p.s.log.Warn("could not save the handle of a process that runs", "id", p.id, "err", err)
	}
	if r.ChildPID == 0 {
		e = EventNone
	}
	p.publish(e)
}

// stop tells the stub to stop its child.
func (p *proc) stop(now time.Time) time.Time {
	p.h.Stopping = true
	if err := p.save(); err != nil {
		// Only an engine that dies before the process does would take its end for a death.
		p.s.log.Warn("could not save the handle of a process that stops", "id", p.id, "err", err)
	}
	p.signal(unix.SIGTERM)
	p.killAt = now.Add(p.spec.grace() + killAfter)
	p.set(StateStopping, now)
	p.publish(EventNone)
	return p.step(now)
}

// signal reaches exactly our stub, or nobody.
func (p *proc) signal(sig unix.Signal) {
	var err error
	if p.fd >= 0 {
		err = unix.PidfdSendSignal(p.fd, sig, nil, 0)
	} else {
		err = p.h.stub().kill(sig)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		p.s.log.Warn("could not signal a stub", "id", p.id, "stub", p.h.StubPID, "signal", signalName(sig), "err", err)
	}
}

// gone tells whether the stub has ended.
func (p *proc) gone() bool {
	if p.fd >= 0 {
		return exitedFD(p.fd)
	}
	if p.mine {
		// Its first thread may be a zombie while others are still dying: only the kernel's
		// word that it can be reaped will do, or it would stay a zombie for ever.
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.h.StubPID, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		return err == nil && info.Signo != 0 || errors.Is(err, unix.ECHILD)
	}
	return !p.h.stub().alive()
}

// finish takes note of a stub's end.
func (p *proc) finish(now time.Time) {
	code := -1
	killedBy := unix.Signal(0)
	if p.mine {
		var ws unix.WaitStatus
		if pid, err := unix.Wait4(p.h.StubPID, &ws, unix.WNOHANG, nil); err == nil && pid == p.h.StubPID {
			code = ws.ExitStatus()
			if ws.Signaled() {
				killedBy = ws.Signal()
			}
		}
	}
	p.closeFD()
	p.mine = false
	if code == stubLocked {
		// It started nothing. Whoever holds the lock is found by the next try.
		p.h.Counted, p.h.StubPID = true, 0
		p.startAt = now.Add(lockLook)
		p.set(StateBackoff, now)
		return
	}
	if r := readRun(p.h.Dir); r != nil && r.ID == p.id && r.StubPID == p.h.StubPID && r.StubTicks == p.h.StubTicks {
		p.h.Run = r.Run // see StateStarting
	}
	x, err := readExit(p.h.Dir, p.h.Run)
	if x == nil {
		cause := "its stub was killed, and the kernel ended the process with it"
		switch {
		case err != nil:
			cause = "how it ended cannot be read: " + err.Error()
		case code == stubIO:
			cause = "how it ended could not be recorded: no space left, or the directory is not writable"
		case code == stubUsage:
			cause = "did not start: its stub could not read spec.json"
		case killedBy != 0:
			cause = fmt.Sprintf("its stub was killed by %s, and the kernel ended the process with it", signalName(killedBy))
		}
		x = &exited{Exit: engine.ExitRecord{At: now, Cause: cause}}
		if !p.h.StartedAt.IsZero() {
			x.StartedAt = &p.h.StartedAt
		}
	}
	p.sweep() // what left the child's group is beyond the stub's reach
	p.settle(now, *x, p.h.Stopping)
}

// settle applies the policy to the end of a run.
func (p *proc) settle(now time.Time, x exited, asked bool) {
	e := Ending{At: now, Asked: asked}
	if x.Exit.At.Before(now.Add(-time.Minute)) {
		e.At = x.Exit.At // nobody watched then
	}
	if x.StartedAt != nil {
		e.Ran = x.Exit.At.Sub(*x.StartedAt)
	}
	p.h.LastExit, p.usage, p.asked = &x.Exit, x.Usage, asked
	p.h.Counted, p.h.Stopping = true, false
	p.h.StubPID, p.h.StubTicks, p.h.ChildPID, p.h.StartedAt = 0, 0, 0, time.Time{}
	p.run, p.restart, p.policy, p.lockedAt = running{}, false, false, time.Time{}
	wish := p.h.Wish
	if !p.wanted() {
		wish = engine.WishHeld
	}
	v, history := p.s.o.Policy.After(p.h.History, e, wish)
	p.h.History = history
	p.problem = ""
	if !asked {
		p.problem = x.Exit.Cause
	}
	switch v.Do {
	case NextStart:
		// A clock that was set back must not make it wait longer.
		p.startAt, p.policy = earlier(v.At, now.Add(p.s.o.Policy.Max)), !asked
		p.set(StateBackoff, now)
	case NextGiveUp:
		p.h.GivenUp = v.Why
		p.problem = fmt.Sprintf("%s; the last time: %s", v.Why, x.Exit.Cause)
		p.set(StateGivenUp, now)
	default:
		p.set(StateHeld, now)
	}
	if err := p.save(); err != nil {
		// The next engine would count this end once more, from exit.json.
		p.s.log.Warn("could not save the handle of a process that ended", "id", p.id, "err", err)
	}
	p.publish(EventExited)
	if v.Do == NextGiveUp {
		p.publish(EventGivenUp)
	}
}

// failed is a start that did not get as far as a stub. It counts as a death, so
// that it is tried again ever more slowly.
func (p *proc) failed(now time.Time, err error) {
	p.settle(now, exited{Exit: engine.ExitRecord{At: now, Cause: "did not start: " + err.Error()}}, false)
}

// sweep ends what carries the mark of the last run, its stub being dead. It finds
// processes by their environment and signals them by pidfd, so it hits no other.
func (p *proc) sweep() {
	if p.h.Run == "" || p.h.Boot != bootID() {
		return
	}
	for _, id := range marked(p.id + "." + p.h.Run) {
		if err := id.kill(unix.SIGKILL); err != nil {
			p.s.log.Warn("could not end what a process left behind", "id", p.id, "pid", id.PID, "err", err)
		}
	}
}

// adopt looks for what an earlier engine left.
func (p *proc) adopt(now time.Time) {
	p.adopting = false
	var o order
	if err := readJSON(filepath.Join(p.h.Dir, specName), specSchema, &o); err != nil {
		// It can be watched, and stopped, without; it is started again when Start brings a spec.
		p.s.log.Warn("the spec of a saved process cannot be read", "id", p.id, "err", err)
		p.spec.Dir = p.h.Dir
	} else {
		p.spec = o.Spec
	}
	r := readRun(p.h.Dir)
	if r != nil && (r.ID != p.id || r.Boot != bootID()) {
		r = nil
	}
	if r != nil && p.takeUp(r.stub()) {
		p.h.Run, p.h.Counted = r.Run, false
		if o.Run == r.Run {
			p.h.SpecHash = o.SpecHash
		}
		p.up(*r, EventAdopted, now)
		return
	}
	if h := p.h; h.StubPID > 0 && p.takeUp(h.stub()) {
		// Its directory was lost, and it lives.
		p.up(running{Run: h.Run, StubPID: h.StubPID, StubTicks: h.StubTicks, Boot: h.Boot, ChildPID: h.ChildPID, StartedAt: h.StartedAt}, EventAdopted, now)
		return
	}
	if !p.h.Counted && (p.h.StubPID > 0 || r != nil && r.Run == p.h.Run || p.h.Run != "" && hasExit(p.h)) {
		p.endedUnwatched(now, r)
		return
	}
	// Nothing ran, or its end is known already.
	p.h.Counted, p.h.StubPID, p.h.ChildPID, p.h.StartedAt = true, 0, 0, time.Time{}
	switch {
	case p.h.GivenUp != "" && p.h.Wish == engine.WishRun:
		p.problem = p.h.GivenUp
		p.set(StateGivenUp, now)
	case p.wanted() && len(p.h.History.Deaths) > 0:
		pol := p.s.o.Policy
		p.startAt = earlier(p.h.History.Deaths[len(p.h.History.Deaths)-1].Add(pol.wait(p.h.History.Streak)), now.Add(pol.Max))
		p.policy = true
		p.set(StateBackoff, now)
	default:
		p.set(StateHeld, now)
	}
	if len(p.spec.Argv) == 0 {
		p.problem = noSpec
		p.set(StateHeld, now)
	}
	p.publish(EventNone)
}

func hasExit(h handle) bool {
	x, err := readExit(h.Dir, h.Run)
	return x != nil || err != nil
}

// endedUnwatched settles a run that ended while no engine watched.
func (p *proc) endedUnwatched(now time.Time, r *running) {
	p.sweep()
	x, err := readExit(p.h.Dir, p.h.Run)
	if x != nil {
		p.settle(now, *x, p.h.Stopping)
		return
	}
	e := exited{Exit: engine.ExitRecord{At: now, Cause: "ended while no engine watched, and its stub with it"}}
	if err != nil {
		e.Exit.Cause = "how it ended while no engine watched cannot be read: " + err.Error()
	}
	if r != nil && r.Run == p.h.Run && !r.StartedAt.IsZero() {
		e.StartedAt = &r.StartedAt
	} else if !p.h.StartedAt.IsZero() {
		e.StartedAt = &p.h.StartedAt
	}
	rebooted := p.h.Boot != bootID()
	if rebooted {
		e.Exit.Cause = "the machine was restarted"
	}
	// A restart of the machine is nobody's fault: no death.
	p.settle(now, e, p.h.Stopping || rebooted)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// set changes the state.
func (p *proc) set(s State, now time.Time) {
	if p.state != s {
		p.state, p.since = s, now
	}
}

// save writes the handle.
func (p *proc) save() error {
	b, err := json.Marshal(p.h)
	if err == nil {
		err = p.s.o.Handles.SaveHandle(p.id, b)
	}
	if err != nil {
		return fmt.Errorf("save handle of process %s: %w", p.id, err)
	}
	return nil
}

// publish shows how things stand, and tells it.
func (p *proc) publish(e Event) {
	st := Status{
		ID: p.id, State: p.state, Since: p.since, Wish: p.h.Wish, Event: e, Restarts: p.h.Restarts,
		LastExit: p.h.LastExit, Asked: p.asked, Usage: p.usage, Problem: p.problem,
	}
	if p.lives() {
		st.StubPID, st.PID, st.StartedAt = p.h.StubPID, p.h.ChildPID, p.h.StartedAt
		// run is replaced as a whole and never changed, so its slices may be shared.
		st.Shared, st.CapBy, st.Notes = p.run.Shared, p.run.CapBy, p.run.Notes
		st.Outdated = len(p.spec.Argv) > 0 && p.spec.hash() != p.h.SpecHash
	}
	if p.state == StateBackoff {
		st.RestartAt = p.startAt
	}
	p.mu.Lock()
	p.view, p.dir = st, p.h.Dir
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	p.s.tell.tell(st)
}
