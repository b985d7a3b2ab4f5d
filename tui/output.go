package tui

import (
	"bytes"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"app.provost/tui/internal/escape"
)

// output is the terminal as bubbletea writes to it. It embeds the file, so that
// resizes are seen. It sends only the cells that changed, counts bytes, times writes, encloses frames in marks where
// the terminal knows them, and tells how much slower the rate has to be.
type output struct {
	*os.File
	now  func() time.Time
	sync atomic.Bool
	dead atomic.Bool

	mu     sync.Mutex
	diff   differ
	buf    []byte
	writes [10]time.Duration // of the last frames
	n      int
	calm   time.Time // since when every write was quick
	slow   int       // the rate is divided by 2^slow
	window time.Time
	bytes  int
	rate   atomic.Int64 // bytes per second over the last whole window
	factor atomic.Int64
	total  atomic.Int64
}

const (
	slowWrite   = 100 * time.Millisecond
	quickWrite  = 20 * time.Millisecond
	maxSlow     = 6
	maxByteRate = 16 << 10
	rateWindow  = 5 * time.Second
)

func newOutput(f *os.File, now func() time.Time) *output {
	o := &output{File: f, now: now}
	o.factor.Store(1)
	return o
}

// cut makes every later write fail at once: the terminal is gone.
func (o *output) cut() { o.dead.Store(true) }

var homeFirst = []byte("\x1b[H")

// Write is called by bubbletea with one whole frame, or with a short sequence.
func (o *output) Write(p []byte) (int, error) {
	if o.dead.Load() {
		return 0, os.ErrClosed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	frame := bytes.HasPrefix(p, homeFirst)
	out := o.diff.frame(p)
	if len(out) == 0 {
		return len(p), nil
	}
	if frame && o.sync.Load() && !bytes.Contains(p, []byte("\x1b[2J")) {
		o.buf = append(append(append(o.buf[:0], escape.SyncBegin...), out...), escape.SyncEnd...)
		out = o.buf
	}
	start := o.now()
	_, err := o.File.Write(out)
	o.account(start, o.now(), len(out), frame)
	if err != nil {
		o.diff.forget()
		return 0, err
	}
	return len(p), nil
}

// WriteString keeps the embedded file's own from passing by Write.
func (o *output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

// Raw writes a sequence between frames.
func (o *output) Raw(s string) {
	if o.dead.Load() || s == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.File.WriteString(s) // a terminal that is gone is noticed by its input
}

// account follows how long frames take and how many bytes they have. Two slow
// frames in ten halve the rate; a quiet minute doubles it again. More bytes than
// the cap halve it too.
func (o *output) account(start, end time.Time, n int, frame bool) {
	o.total.Add(int64(n))
	o.bytes += n
	if o.window.IsZero() {
		o.window = start
	}
	if d := end.Sub(o.window); d >= rateWindow {
		perSecond := int64(float64(o.bytes) / d.Seconds())
		o.rate.Store(perSecond)
		o.bytes, o.window = 0, end
		if perSecond > maxByteRate && o.slow < maxSlow {
			o.slow++
			o.calm = end
		}
	}
	if !frame {
		return
	}
	took := end.Sub(start)
	o.writes[o.n%len(o.writes)] = took
	o.n++
	if took >= quickWrite || o.calm.IsZero() {
		o.calm = end
	}
	late := 0
	for _, w := range o.writes {
		if w > slowWrite {
			late++
		}
	}
	switch {
	case late >= 2 && o.slow < maxSlow:
		o.slow++
		o.writes = [10]time.Duration{}
		o.calm = end
	case o.slow > 0 && end.Sub(o.calm) >= time.Minute:
		o.slow--
		o.calm = end
	}
	o.factor.Store(1 << o.slow)
}

// Factor is by how much the chosen rate has to be divided, 1 or more.
func (o *output) Factor() int { return int(o.factor.Load()) }

// Rate is the bytes per second of the last few seconds.
func (o *output) Rate() int { return int(o.rate.Load()) }
