package super

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
	"app.provost/prover"
)

// What a stub ends with, for those who can wait for it. The child's own end is in exit.json.
const (
	stubOK     = 0
	stubUsage  = 2
	stubIO     = 74 // exit.json could not be written
	stubLocked = 75 // another stub or its child lives: nothing was started
)

const (
	logLook = 2 * time.Second // between two looks at the size of the log
)

// StubMain is the stub: it reads D/spec.json, starts the child, waits for it and
// records how it ended. args are the words after "internal-stub" ("--dir", D).
// main calls it before anything else is set up, and ends with its result. It
// returns when the child has ended, or when nothing could be started.
func StubMain(args []string) int {
	// The parent-death signal is bound to the thread that starts the child; niceness and
	// affinity are too. This goroutine keeps its thread to the end.
	runtime.LockOSThread()
	fl := flag.NewFlagSet("internal-stub", flag.ContinueOnError)
	fl.SetOutput(io.Discard)
	dir := fl.String("dir", "", "directory of the process")
	if err := fl.Parse(args); err != nil || *dir == "" || fl.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "internal-stub: want --dir DIR; it is started by the engine, not by hand")
		return stubUsage
	}
	var o order
	if err := readJSON(filepath.Join(*dir, specName), specSchema, &o); err != nil {
		fmt.Fprintln(os.Stderr, "internal-stub:", err)
		return stubUsage
	}
	if o.Spec.Dir != *dir || o.Spec.check() != nil {
		fmt.Fprintln(os.Stderr, "internal-stub: spec.json is not of this directory, or was changed by hand")
		return stubUsage
	}
	s := &stub{o: o, dir: *dir}
	return s.main()
}

// stub is one run of StubMain. All fields belong to its one goroutine.
type stub struct {
	o        order
	dir      string
	lifeline *os.File
	log      *os.File
	keep     []*os.File // lock and reservations, inherited by the child
	run      running
	notes    []string
	group    *group
}

func (s *stub) main() int {
	if s.o.Lifeline {
		s.lifeline = os.NewFile(3, "lifeline")
		unix.CloseOnExec(3)
	}
	closeInherited(s.o.Lifeline)

	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return stubIO
	}
	if err := lockFile(lock); err != nil {
		return stubLocked
	}
	s.keep = append(s.keep, lock)
	sweepTemp(s.dir)

	// From here on this is the only stub of the id. What goes wrong is recorded.
	id, err := me()
	if err != nil {
		return s.never(fmt.Errorf("read own start time: %w", err))
	}
	s.run = running{Schema: runSchema, ID: s.o.Spec.ID, Run: s.o.Run, Boot: id.Boot, StubPID: id.PID, StubTicks: id.Ticks}
	// Without sync: after a power cut nobody runs.
	if err := writeJSON(s.dir, runName, s.run, false); err != nil {
		return s.never(err)
	}
	if err := s.openLog(); err != nil {
		return s.never(err)
	}
	if err := s.takeCPUs(); err != nil {
		return s.never(err)
	}
	s.prepare()

	// Handlers, not ignoring: an ignored signal would stay ignored in the child.
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)

	oomBefore := machineOOMKills()
	cmd, err := s.start()
	if err != nil {
		if s.group != nil {
			s.group.remove()
		}
		return s.never(err)
	}
	s.say("started", "pid", strconv.Itoa(cmd.Process.Pid))
	s.run.ChildPID = cmd.Process.Pid
	if st, err := readStat(cmd.Process.Pid); err == nil {
		s.run.ChildTicks = st.Ticks
	}
	s.run.StartedAt = time.Now().UTC()
	s.run.Notes = s.notes
	if err := writeJSON(s.dir, runName, s.run, false); err != nil {
		// An engine that cannot learn of the child would never call it running.
		s.say("end the child: its pid could not be recorded", "err", err.Error())
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	// The binary's initialisation left garbage behind, and this process only waits from now on.
	debug.FreeOSMemory()

	e := s.wait(cmd, sigs)
	e.oomBefore, e.oomAfter = oomBefore, machineOOMKills()
	return s.record(cmd, e)
}

// closeInherited closes descriptors that came over the exec and are not ours:
// a listening socket of the engine that a library forgot to mark must not live on
// here. What this process opened itself is marked close-on-exec, which nothing
// that came over an exec can be.
func closeInherited(lifeline bool) {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return
	}
	names, _ := d.Readdirnames(-1)
	d.Close()
	for _, n := range names {
		fd, err := strconv.Atoi(n)
		if err != nil || fd < 3 || lifeline && fd == 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// openLog opens the log for appending and makes it stdout and stderr.
func (s *stub) openLog() error {
	if err := os.MkdirAll(filepath.Dir(s.o.Spec.LogFile), 0o700); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	f, err := os.OpenFile(s.o.Spec.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.log = f
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("open log: %w", err)
		}
	}
	s.rotate()
	return nil
}

// rotate keeps the log bounded; see the package comment.
func (s *stub) rotate() {
	if err := rotateLog(s.log, s.o.Spec.LogFile, s.o.Spec.logMax()); err != nil {
		s.say("the log could not be rotated", "err", err.Error())
	}
}

// takeCPUs reserves the CPUs machine-wide for as long as this process and its child live.
func (s *stub) takeCPUs() error {
	for _, c := range s.o.Spec.CPUs {
		h := Holder{ID: s.o.Spec.ID, Owner: s.o.Owner, UID: os.Getuid(), PID: os.Getpid(), At: time.Now().UTC()}
		f, who, err := reserve(s.o.CoreDir, c, h)
		switch {
		case err == nil:
			s.keep = append(s.keep, f)
		case !s.o.Spec.ShareCPUs && errors.Is(err, errHeld):
			return fmt.Errorf("reserve CPU %d: taken by %s", c, who)
		case !s.o.Spec.ShareCPUs:
			return err
		case errors.Is(err, errHeld):
			s.run.Shared = append(s.run.Shared, c)
			s.note("CPU %d is shared with %s", c, who)
		default:
			// Sharing was allowed, so a directory that cannot be used must not stop the work.
			s.run.Shared = append(s.run.Shared, c)
			s.note("%v", err)
		}
	}
	return nil
}

// prepare sets what the child inherits from this thread. What the system does
// not allow is noted, and the child runs all the same: work first.
func (s *stub) prepare() {
	for _, tid := range threads() {
		if n := s.o.Spec.Nice; n > 0 {
			if err := unix.Setpriority(unix.PRIO_PROCESS, tid, n); err != nil {
				s.note("set nice %d: %v", n, err)
			}
		}
		if len(s.o.Spec.CPUs) > 0 {
			var set unix.CPUSet
			for _, c := range s.o.Spec.CPUs {
				set.Set(int(c))
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil {
				s.note("pin to CPUs %v: %v", s.o.Spec.CPUs, err)
			}
		}
	}
	// A core file would hold witnesses and keys.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		s.note("forbid core dumps: %v", err)
	}
	if limit := s.o.Spec.MemoryMaxBytes; limit > 0 {
		g, err := systemCgroups.make("provost-"+s.o.Spec.ID+"."+s.o.Run, limit)
		if err != nil {
			s.run.CapBy = capPolling
			s.note("no control group for the memory cap, so the stub looks itself: %v", err)
		} else {
			s.run.CapBy, s.group = capCgroup, g
		}
	}
}

const (
	capCgroup  = "cgroup"
	capPolling = "polling"
)

// threads lists the thread ids of this process: niceness and affinity belong to
// threads, and new ones inherit from whichever starts them.
func threads() []int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return []int{0} // the calling thread, which starts the child
	}
	out := []int{unix.Gettid()}
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil && tid != out[0] {
			out = append(out, tid)
		}
	}
	return out
}

func (s *stub) start() (*exec.Cmd, error) {
	argv := slices.Clone(s.o.Spec.Argv)
	if argv[0] == "" {
		p, err := ownBinary()
		if err != nil {
			return nil, err
		}
		argv[0] = p
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(slices.Clone(s.o.Environ), runVar+"="+s.mark())
	cmd.Stdout, cmd.Stderr = s.log, s.log // files, so no pipe and no copying goroutine
	// The child holds lock and reservations too: they last until both are gone.
	cmd.ExtraFiles = slices.Clone(s.keep)
	if s.lifeline != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.lifeline)
		cmd.Env = append(cmd.Env, LifelineVar+"="+strconv.Itoa(2+len(cmd.ExtraFiles)))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	if s.group != nil {
		// A moment after the exec: what it has taken until then is next to nothing.
		if err := s.group.add(cmd.Process.Pid); err != nil {
			s.group.remove()
			s.group, s.run.CapBy = nil, capPolling
			s.note("move into the control group, so the stub looks itself: %v", err)
		}
	}
	// The child, not the stub, is what the kernel should choose.
	adj := defaultOOMScore
	if s.o.Spec.OOMScoreAdj != nil {
		adj = *s.o.Spec.OOMScoreAdj
	}
	if adj > 0 {
		if err := os.WriteFile("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/oom_score_adj", []byte(strconv.Itoa(adj)), 0); err != nil {
			s.note("set oom_score_adj %d: %v", adj, err)
		}
	}
	return cmd, nil
}

func (s *stub) mark() string { return s.o.Spec.ID + "." + s.o.Run }

// wait returns when the child is dead, its group killed, and it is still a
// zombie: while it is, its group's number cannot become somebody else's.
func (s *stub) wait(cmd *exec.Cmd, sigs <-chan os.Signal) ending {
	pid := cmd.Process.Pid
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	broken := make(chan struct{})
	if s.lifeline != nil {
		go func() {
			// Ends with the process: nothing but the other end's death wakes it.
			p := []unix.PollFd{{Fd: int32(s.lifeline.Fd())}}
			for {
				n, err := unix.Poll(p, -1)
				if err == nil && n > 0 {
					close(broken)
					return
				}
				if err != nil && !errors.Is(err, unix.EINTR) {
					return
				}
			}
		}()
	}
	look := time.NewTicker(logLook)
	defer look.Stop()
	var capTick <-chan time.Time
	if s.o.Spec.MemoryMaxBytes > 0 && s.group == nil {
		t := time.NewTicker(pollCap)
		defer t.Stop()
		capTick = t.C
	}
	e := ending{limit: s.o.Spec.MemoryMaxBytes}
	var graceOver <-chan time.Time
	stop := func(why string) {
		if e.stopAsked {
			return
		}
		e.stopAsked = true
		s.say("stopping", "why", why)
		unix.Kill(pid, unix.SIGTERM) // it is a zombie at worst: the pid is still the child's
		graceOver = time.After(s.o.Spec.grace())
	}
	for {
		select {
		case <-dead:
			unix.Kill(-pid, unix.SIGKILL) // what it started and left behind
			return e
		case sig := <-sigs:
			if sig == unix.SIGTERM {
				stop("SIGTERM to the stub")
			}
			if sig == unix.SIGUSR1 {
				s.rotate()
			}
		case <-broken:
			broken = nil
			e.lifeline = true
			stop("the lifeline broke")
		case <-graceOver:
			e.overGrace = s.o.Spec.grace()
			unix.Kill(-pid, unix.SIGKILL)
		case <-capTick:
			if n := rss(pid); n > s.o.Spec.MemoryMaxBytes {
				e.overRSS = n
				capTick = nil
				unix.Kill(-pid, unix.SIGKILL)
			}
		case <-look.C:
			s.rotate()
		}
	}
}

// record writes exit.json.
func (s *stub) record(cmd *exec.Cmd, e ending) int {
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return s.never(fmt.Errorf("wait for the child: %w", err))
	}
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		e.signal, e.core = ws.Signal(), ws.CoreDump()
	} else {
		e.code = cmd.ProcessState.ExitCode()
	}
	if s.group != nil {
		e.groupOOM = s.group.kills()
		s.group.remove()
	}
	x := exited{Schema: exitSchema, ID: s.o.Spec.ID, Run: s.o.Run, StartedAt: &s.run.StartedAt, StopAsked: e.stopAsked, OOM: e.oom()}
	x.Exit = engine.ExitRecord{At: time.Now().UTC(), Cause: e.cause()}
	if e.signal != 0 {
		x.Exit.Signal = signalName(e.signal)
	} else {
		x.Exit.Code = &e.code
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		x.Usage = &Usage{
			MaxRSSBytes: uint64(ru.Maxrss) << 10, // the kernel counts KiB
			UserS:       cmd.ProcessState.UserTime().Seconds(),
			SystemS:     cmd.ProcessState.SystemTime().Seconds(),
		}
	}
	return s.write(x)
}

// never records a run that did not come about.
func (s *stub) never(err error) int {
	return s.write(exited{Schema: exitSchema, ID: s.o.Spec.ID, Run: s.o.Run,
		Exit: engine.ExitRecord{At: time.Now().UTC(), Cause: "did not start: " + err.Error()}})
}

func (s *stub) write(x exited) int {
	s.say("ended", "cause", x.Exit.Cause)
	if err := writeJSON(s.dir, exitName, x, true); err != nil {
		s.say("the exit status could not be recorded", "err", err.Error())
		return stubIO
	}
	return stubOK
}

func (s *stub) note(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	// The same trouble on every thread is one note.
	if len(s.notes) < 16 && !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
		s.say("not all that was asked could be set", "what", text)
	}
}

// say writes one line of the stub to the child's log, in slog's text form.
// log/slog itself is not used: it would cost the stub memory for ten lines a day.
func (s *stub) say(msg string, kv ...string) {
	if s.log == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "time=%s level=INFO msg=%s room=stub run=%s", time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), strconv.Quote("process "+s.o.Spec.ID+": "+msg), s.o.Run)
	for i := 0; i+1 < len(kv); i += 2 {
		fmt.Fprintf(&b, " %s=%s", kv[i], strconv.Quote(kv[i+1]))
	}
	b.WriteByte('\n')
	io.WriteString(s.log, b.String())
}

// rotateLog copies a log that is over limit to path.1 and cuts it to nothing. f is
// the open log, appending.
func rotateLog(f *os.File, path string, limit int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() <= limit {
		return err
	}
	old, tmp := path+".1", path+".1.tmp"
	// The old one goes first, so that no more than twice the limit is ever on disk.
	if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if fj, err := in.Stat(); err != nil || !os.SameFile(fi, fj) {
		return errors.Join(err, fmt.Errorf("%s is another file than the one that is written to", path))
	}
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	// Far over the limit already: then the newest part is what is kept.
	if fi.Size() > 2*limit {
		if _, err := in.Seek(fi.Size()-limit, io.SeekStart); err != nil {
			return err
		}
	}
	// Bounded, should the child write faster than we copy: what is beyond is cut.
	_, err = io.Copy(out, io.LimitReader(in, 2*limit))
	if errors.Is(err, unix.ENOSPC) {
		// A full disk: better to lose old lines than to fill it further.
		return errors.Join(err, os.Remove(tmp), f.Truncate(0))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	// In place before the cut, so that one who follows the log finds the rest there.
	if err := os.Rename(tmp, old); err != nil {
		return err
	}
	// The copy took time and the child wrote on.
	if _, err := io.Copy(out, io.LimitReader(in, limit)); err != nil {
		return errors.Join(err, f.Truncate(0))
	}
	return f.Truncate(0)
}

// CPUsOf tells on which CPUs a process may run, for those who check a pin.
func CPUsOf(pid int) ([]prover.CPU, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &set); err != nil {
		return nil, fmt.Errorf("read affinity of pid %d: %w", pid, err)
	}
	var out []prover.CPU
	for i := range maxCPUs {
		if set.IsSet(i) {
			out = append(out, prover.CPU(i))
		}
	}
	return out, nil
}
