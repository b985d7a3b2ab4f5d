package super

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
)

const (
	logChunk   = 64 << 10 // read at a time
	logLineMax = 16 << 10 // a longer line is cut there, and the rest of it skipped
	logTailMax = 100_000  // the most lines that Tail keeps
	logBehind  = 4 << 20  // a follower further behind a source than this skips to its newest lines
	logKeep    = 256 << 10
	logHead    = 128                    // bytes by which a file is known again
	logPoll    = 200 * time.Millisecond // between looks for new lines
	logRescan  = time.Second            // between looks for new sources
)

// Logs reads the log files of a directory: NAME.log is the source NAME, and
// NAME.log.1 the part of it that was rotated away last.
//
// A stream has no goroutine: it reads when Next is called, at most 64 KiB of a
// source at a time, so a slow reader costs nothing. What a follower is slow for
// stays in the files; one that is more than 4 MiB behind a source skips to its
// newest 256 KiB, and LogLine.Dropped of the next line counts what it skipped.
// Rotation by renaming and by copy and truncate is followed without loss as long
// as it happens at most once between two looks; otherwise Dropped is at least 1.
//
// Sources are merged by time; lines without a time stay behind the line of their
// source before them. A line without a level passes every level filter: what
// cannot be graded, like the trace of a crash, is not hidden.
type Logs struct {
	dir  string
	poll time.Duration
}

// NewLogs reads the log files of dir. It opens nothing yet.
func NewLogs(dir string) *Logs { return &Logs{dir: dir, poll: logPoll} }

var sourceForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Sources lists what there is, sorted.
func (l *Logs) Sources() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".log"); ok && sourceForm.MatchString(name) && e.Type().IsRegular() {
			out = append(out, name)
		}
	}
	return out, nil
}

// Logs opens a stream. Errors are of type *engine.Problem.
func (l *Logs) Logs(_ context.Context, q engine.LogQuery) (engine.LogStream, error) {
	const doing = "read logs"
	usage := func(field, cause, remedy string) error {
		return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: field, Cause: cause, Remedy: remedy}.Because(nil)
	}
	s := &logStream{l: l, q: q, last: -1}
	if q.Grep != "" {
		re, err := regexp.Compile(q.Grep)
		if err != nil {
			return nil, usage("grep", fmt.Sprintf("%q is no regular expression: %v", q.Grep, err), "see the RE2 syntax")
		}
		s.grep = re
	}
	switch q.Level {
	case "", engine.LevelDebug, engine.LevelNote, engine.LevelWarn, engine.LevelCrit:
	default:
		return nil, usage("level", fmt.Sprintf("%q is no level", q.Level), "use debug, note, warn or crit")
	}
	if q.Tail < 0 || q.Tail > logTailMax {
		return nil, usage("tail", fmt.Sprintf("%d lines", q.Tail), fmt.Sprintf("use 0 to %d", logTailMax))
	}
	have, err := l.Sources()
	if err != nil {
		return nil, engine.AsProblem(doing, err)
	}
	for _, name := range q.Sources {
		if !slices.Contains(have, name) && !(q.Follow && sourceForm.MatchString(name)) {
			return nil, engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: doing, Field: "sources",
				Cause: fmt.Sprintf("there is no log of %q", name), Remedy: "there are: " + strings.Join(have, ", ")}.Because(nil)
		}
	}
	if err := s.open(have); err != nil {
		s.Close()
		return nil, engine.AsProblem(doing, err)
	}
	return s, nil
}

// logStream is one reader. One goroutine at a time uses it.
type logStream struct {
	l       *Logs
	q       engine.LogQuery
	grep    *regexp.Regexp
	srcs    []*logSource
	tail    []engine.LogLine // the last lines, where Tail was asked for
	last    int              // index of the source of the line given last
	rescan  time.Time
	closed  bool
	started bool
}

// open opens the sources that there are.
func (s *logStream) open(names []string) error {
	for _, name := range names {
		if len(s.q.Sources) > 0 && !slices.Contains(s.q.Sources, name) || s.has(name) {
			continue
		}
		src := &logSource{name: name, path: filepath.Join(s.l.dir, name+".log"), keep: s.keep, follow: s.q.Follow}
		if err := src.open(); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		s.srcs = append(s.srcs, src)
		switch {
		case s.started: // a new source: all of it is new
		case s.q.Tail > 0:
			src.seekBack(s.q.Tail, s.q.Since)
		case s.q.Since != nil:
			src.seekBack(0, s.q.Since)
		}
	}
	s.started = true
	s.rescan = time.Now().Add(logRescan)
	return nil
}

func (s *logStream) has(name string) bool {
	return slices.ContainsFunc(s.srcs, func(x *logSource) bool { return x.name == name })
}

// keep tells whether a line passes the query. The pattern is held against what a
// viewer sees: the text, and the fields after it.
func (s *logStream) keep(at time.Time, p parsed) bool {
	level := p.level
	if s.q.Since != nil && !at.IsZero() && at.Before(*s.q.Since) {
		return false
	}
	if s.q.Level != "" && level != "" && level.Rank() < s.q.Level.Rank() {
		return false
	}
	if s.grep == nil {
		return true
	}
	line := p.text
	if p.fields != "" {
		line += " " + p.fields
	}
	return s.grep.MatchString(line)
}

// Next gives the next line; see engine.LogStream.
func (s *logStream) Next(ctx context.Context) (engine.LogLine, error) {
	if s.closed {
		return engine.LogLine{}, io.EOF
	}
	if s.q.Tail > 0 && s.tail == nil {
		if err := s.collect(ctx); err != nil {
			return engine.LogLine{}, err
		}
	}
	if len(s.tail) > 0 {
		l := s.tail[0]
		s.tail = s.tail[1:]
		return l, nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return engine.LogLine{}, err
		}
		l, ok, err := s.pick()
		if err != nil {
			return engine.LogLine{}, fmt.Errorf("read logs: %w", err)
		}
		if ok {
			return l, nil
		}
		if !s.q.Follow {
			return engine.LogLine{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return engine.LogLine{}, ctx.Err()
		case <-time.After(s.l.poll):
		}
		if time.Now().After(s.rescan) {
			names, err := s.l.Sources()
			if err == nil {
				err = s.open(names)
			}
			if err != nil {
				return engine.LogLine{}, fmt.Errorf("read logs: %w", err)
			}
		}
	}
}

// collect reads what there is now and keeps the last lines of the merge. Each
// source stands at most Tail matching lines before its end.
func (s *logStream) collect(ctx context.Context) error {
	ring := make([]engine.LogLine, 0, min(s.q.Tail, 1024))
	head := 0
	for ctx.Err() == nil {
		l, ok, err := s.pick()
		if err != nil {
			return fmt.Errorf("read logs: %w", err)
		}
		if !ok {
			s.tail = append(append(make([]engine.LogLine, 0, len(ring)), ring[head:]...), ring[:head]...)
			return nil
		}
		if len(ring) < s.q.Tail {
			ring = append(ring, l)
		} else {
			ring[head] = l
			head = (head + 1) % len(ring)
		}
	}
	return ctx.Err()
}

// pick gives the oldest line that any source has ready; false: none has.
func (s *logStream) pick() (engine.LogLine, bool, error) {
	best := -1
	for i, src := range s.srcs {
		if err := src.fill(); err != nil {
			return engine.LogLine{}, false, err
		}
		if len(src.ready) > 0 && (best < 0 || src.ready[0].at.Before(s.srcs[best].ready[0].at)) {
			best = i
		}
	}
	if best < 0 {
		return engine.LogLine{}, false, nil
	}
	// Lines of one source with the same time stay together.
	if l := s.last; l >= 0 && l < len(s.srcs) && len(s.srcs[l].ready) > 0 && s.srcs[l].ready[0].at.Equal(s.srcs[best].ready[0].at) {
		best = l
	}
	s.last = best
	src := s.srcs[best]
	l := src.ready[0].line
	src.ready = src.ready[1:]
	return l, true, nil
}

// Close frees the files.
func (s *logStream) Close() error {
	s.closed = true
	s.tail = nil
	for _, src := range s.srcs {
		src.close()
	}
	s.srcs = nil
	return nil
}

// timedLine is a line with the time that it is sorted by: its own, or that of
// the line before it.
type timedLine struct {
	at   time.Time
	line engine.LogLine
}

// logSource reads one log, first what was rotated away, then the live file.
type logSource struct {
	name, path string
	follow     bool
	keep       func(at time.Time, p parsed) bool

	old   *os.File // the rest of the part that was rotated away; nil: read
	live  *os.File
	oldAt int64 // where to read next
	at    int64
	head  []byte // how the live file begins, to know it again as NAME.log.1

	size   int64 // of the live file when it was opened
	caught bool  // everything of that was read

	partial []byte // a line without its end yet
	cut     bool   // the rest of an overlong line is skipped
	clock   time.Time
	dropped int
	ready   []timedLine
}

func (s *logSource) open() error {
	live, err := openLog(s.path)
	if err != nil {
		return err
	}
	s.live = live
	s.old, err = openLog(s.path + ".1")
	if errors.Is(err, fs.ErrNotExist) {
		s.old, err = nil, nil
	}
	if err != nil {
		s.close()
		return err
	}
	s.head = make([]byte, logHead)
	n, _ := live.ReadAt(s.head, 0)
	s.head = s.head[:n]
	fi, err := live.Stat()
	if err != nil {
		s.close()
		return err
	}
	s.size = fi.Size()
	return nil
}

// openLog refuses what is no file: a pipe would block for ever.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return f, nil
}

func (s *logSource) close() {
	for _, f := range []*os.File{s.old, s.live} {
		if f != nil {
			f.Close()
		}
	}
	s.old, s.live = nil, nil
}

// seekBack puts the source so far before its end that tail matching lines follow
// (0: any number), or all since a time. It looks on until a line with a time, so
// that the lines after that are put in order by it.
func (s *logSource) seekBack(tail int, since *time.Time) {
	found := 0
	var start *int64 // in the file that is looked at; nil: not found yet
	look := func(raw []byte, place int64) (stop bool) {
		if len(raw) == 0 {
			return false
		}
		p := parseLine(raw)
		if start != nil {
			if p.at != nil {
				s.clock = *p.at
			}
			return p.at != nil
		}
		if since != nil && p.at != nil && p.at.Before(*since) {
			s.clock, start = *p.at, &place
			return true
		}
		at := time.Time{}
		if p.at != nil {
			at = *p.at
		}
		if tail > 0 && s.keep(at, p) {
			if found++; found >= tail {
				start = &place
				return p.at != nil
			}
		}
		return false
	}
	scanBack(s.live, look)
	if start != nil {
		s.at = *start
		if s.old != nil {
			s.old.Close()
			s.old = nil
		}
		return
	}
	if s.old != nil {
		scanBack(s.old, look)
		if start != nil {
			s.oldAt = *start
		}
	}
}

// scanBack hands the lines of f, with their places, from the last to the first to
// look, until that says stop. A file that is cut meanwhile ends it.
func scanBack(f *os.File, look func(line []byte, place int64) (stop bool)) {
	fi, err := f.Stat()
	if err != nil {
		return
	}
	end := fi.Size()
	var rest []byte // what is known of the line that began before the chunk after
	for first := true; end > 0; first = false {
		n := min(end, logChunk)
		buf := make([]byte, n, int(n)+len(rest))
		if _, err := io.ReadFull(io.NewSectionReader(f, end-n, n), buf); err != nil {
			return
		}
		end -= n
		buf = append(buf, rest...)
		if first {
			// The last line's own end begins no further line.
			buf = bytes.TrimSuffix(buf, []byte("\n"))
		}
		for {
			i := bytes.LastIndexByte(buf, '\n')
			if i < 0 {
				break
			}
			if look(buf[i+1:], end+int64(i)+1) {
				return
			}
			buf = buf[:i]
		}
		// Of a long line its beginning is what matters.
		rest = buf[:min(len(buf), logLineMax)]
		if end == 0 {
			look(rest, 0)
		}
	}
}

// fill reads until a line is ready or nothing more is there.
func (s *logSource) fill() error {
	buf := []byte(nil)
	for len(s.ready) == 0 {
		if buf == nil {
			buf = make([]byte, logChunk)
		}
		if s.old != nil {
			n, err := s.old.ReadAt(buf, s.oldAt)
			s.oldAt += int64(n)
			s.take(buf[:n])
			if n == 0 {
				s.old.Close()
				s.old = nil
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
			continue
		}
		if s.live == nil {
			return nil
		}
		if s.follow {
			if moved, err := s.wasCut(); err != nil {
				return err
			} else if moved {
				continue
			}
			if err := s.skipAhead(); err != nil {
				return err
			}
		}
		n, err := s.live.ReadAt(buf, s.at)
		if n > 0 {
			s.note(buf[:n])
			s.at += int64(n)
			s.take(buf[:n])
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !s.follow {
			s.endLine() // a last line without its end is a line too
			s.live.Close()
			s.live = nil
			continue
		}
		moved, err := s.moved()
		if err != nil || !moved {
			return err
		}
	}
	return nil
}

// note keeps how the live file begins.
func (s *logSource) note(b []byte) {
	if s.at == 0 {
		s.head = bytes.Clone(b[:min(len(b), logHead)])
	}
}

// moved looks whether the live file was renamed away since the last look, and goes
// on with what was still written to it and then with its successor.
func (s *logSource) moved() (bool, error) {
	fi, err := s.live.Stat()
	if err != nil {
		return false, err
	}
	now, err := openLog(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between two steps of a renaming
	}
	if err != nil {
		return false, err
	}
	fn, err := now.Stat()
	if err != nil || os.SameFile(fi, fn) {
		now.Close()
		return false, err
	}
	if prev, err := os.Lstat(s.path + ".1"); err == nil && !os.SameFile(fi, prev) {
		s.dropped++ // there was another in between
	}
	s.old, s.oldAt = s.live, s.at
	s.live, s.at, s.head = now, 0, nil
	return true, nil
}

// wasCut looks whether the live file was cut to nothing since the last look, which
// shows also when it has grown again: it begins with other bytes. What we had not
// read yet is in NAME.log.1 then, at the same place.
func (s *logSource) wasCut() (bool, error) {
	fi, err := s.live.Stat()
	if err != nil {
		return false, err
	}
	if fi.Size() >= s.at && s.begins(s.live) {
		return false, nil
	}
	old, err := openLog(s.path + ".1")
	if err == nil {
		if fo, serr := old.Stat(); serr == nil && fo.Size() >= s.at && s.begins(old) {
			s.old, s.oldAt = old, s.at
		} else {
			old.Close()
		}
	}
	if s.old == nil && s.at > 0 {
		s.partial, s.cut = s.partial[:0], false
		s.dropped++ // it was rotated more than once, or by hand: how many lines that were nobody knows
	}
	s.at, s.head = 0, nil
	return true, nil
}

// begins tells whether f begins as the live file did when it was read first.
func (s *logSource) begins(f *os.File) bool {
	b := make([]byte, len(s.head))
	n, _ := f.ReadAt(b, 0)
	return n == len(b) && bytes.Equal(b, s.head)
}

// skipAhead keeps a slow follower from reading old lines for ever.
func (s *logSource) skipAhead() error {
	fi, err := s.live.Stat()
	if err != nil {
		return err
	}
	if !s.caught {
		// What was there when the stream was opened was asked for, however long it is.
		s.caught = s.at >= s.size
		return nil
	}
	if fi.Size()-s.at <= logBehind {
		return nil
	}
	to := fi.Size() - logKeep
	buf := make([]byte, logChunk)
	s.partial = nil
	for s.at < to {
		n, err := s.live.ReadAt(buf[:min(int64(len(buf)), to-s.at)], s.at)
		if n == 0 {
			return err
		}
		s.dropped += bytes.Count(buf[:n], []byte("\n"))
		s.at += int64(n)
	}
	// To the next line's beginning.
	for {
		n, err := s.live.ReadAt(buf, s.at)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			s.at += int64(i) + 1
			s.dropped++
			return nil
		}
		if n == 0 {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		s.at += int64(n)
	}
}

// take splits bytes into lines.
func (s *logSource) take(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b
		if i >= 0 {
			part = b[:i]
		}
		if !s.cut {
			room := logLineMax - len(s.partial)
			if len(part) > room {
				part = part[:room]
				s.cut = true
			}
			s.partial = append(s.partial, part...)
		}
		if i < 0 {
			return
		}
		s.endLine()
		b = b[i+1:]
	}
}

// endLine makes a line of what was gathered.
func (s *logSource) endLine() {
	raw, cut := s.partial, s.cut
	s.partial, s.cut = s.partial[:0], false
	if len(raw) == 0 && !cut {
		return // empty lines say nothing
	}
	p := parseLine(raw)
	if p.at != nil {
		s.clock = *p.at
	}
	if !s.keep(s.clock, p) {
		return
	}
	if cut {
		p.text += " … (the line is longer)"
	}
	s.ready = append(s.ready, timedLine{at: s.clock, line: engine.LogLine{
		At: p.at, Source: s.name, Level: p.level, Text: p.text, Fields: p.fields, Dropped: s.dropped,
	}})
	s.dropped = 0
}
