package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// ProcSample is what one process uses. Null is not known: the first sample of a
// process has no CPUPercent yet.
type ProcSample struct {
	CPUPercent *float64 // of one core since the sample before: two busy threads make 200
	RSSBytes   *uint64
}

// ProcSampler samples processes. It opens one file per process and sample, so
// that thousands of workers cost little. Safe for concurrent use.
type ProcSampler struct {
	root string
	page uint64
	now  func() time.Time

	mu   sync.Mutex
	last map[int]procTimes
}

type procTimes struct {
	started uint64 // since boot; tells a process from a later one with the same id
	ticks   uint64
	at      time.Time
}

// ticksPerSecond is the kernel's unit in /proc/PID/stat (USER_HZ): 100 on every
// architecture that Go runs on.
const ticksPerSecond = 100

// NewProcSampler makes a sampler over a file tree; "" is this machine's.
func NewProcSampler(root string) *ProcSampler {
	if root == "" {
		root = "/"
	}
	return &ProcSampler{root: root, page: uint64(os.Getpagesize()), now: time.Now, last: map[int]procTimes{}}
}

// Sample looks at these processes. A process that is not there has no entry; one
// that is not asked for any more is forgotten.
func (s *ProcSampler) Sample(pids []int) map[int]ProcSample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[int]ProcSample, len(pids))
	next := make(map[int]procTimes, len(pids))
	for _, pid := range pids {
		b, err := os.ReadFile(filepath.Join(s.root, "proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		st, err := parseStat(b)
		if err != nil {
			continue
		}
		now := s.now()
		rss := st.rssPages * s.page
		sample := ProcSample{RSSBytes: &rss}
		t := procTimes{started: st.started, ticks: st.ticks, at: now}
		if old, ok := s.last[pid]; ok && old.started == t.started {
			if wall := now.Sub(old.at).Seconds(); wall > 0.05 && t.ticks >= old.ticks {
				use := 100 * float64(t.ticks-old.ticks) / ticksPerSecond / wall
				sample.CPUPercent = &use
			} else {
				t = old // too soon: wait for a longer stretch
			}
		}
		out[pid], next[pid] = sample, t
	}
	s.last = next
	return out
}

type procStat struct{ ticks, started, rssPages uint64 }

// parseStat reads /proc/PID/stat (proc_pid_stat(5)): fields 14, 15, 22 and 24.
// The name in field 2 may hold anything, brackets and spaces too.
func parseStat(b []byte) (procStat, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return procStat{}, errors.New("read process: no name in its stat")
	}
	f := bytes.Fields(b[end+1:]) // f[0] is field 3
	if len(f) < 22 {
		return procStat{}, fmt.Errorf("read process: its stat has %d fields after the name", len(f))
	}
	num := func(field int) (uint64, error) { return strconv.ParseUint(string(f[field-3]), 10, 64) }
	user, e1 := num(14)
	system, e2 := num(15)
	started, e3 := num(22)
	rss, e4 := num(24)
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return procStat{}, fmt.Errorf("read process: %w", err)
	}
	return procStat{ticks: user + system, started: started, rssPages: rss}, nil
}
