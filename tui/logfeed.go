package tui

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"app.provost/engine"
)

// logFeed follows the log lines that a view wants. It collects them off the
// screen's goroutine, bounded (the oldest go first and are counted), and wakes
// the screen at most every 100 ms.
type logFeed struct {
	engine engine.Engine
	wake   chan struct{} // one place
	change chan struct{} // one place: another query, or none

	mu      sync.Mutex
	query   *engine.LogQuery
	version int
	lines   []engine.LogLine
	of      int // version that the lines belong to
	ended   bool
	problem string
}

const (
	maxPending = 5000
	logPause   = 100 * time.Millisecond
)

func newLogFeed(e engine.Engine) *logFeed {
	return &logFeed{engine: e, wake: make(chan struct{}, 1), change: make(chan struct{}, 1), version: -1}
}

// want follows a query; nil follows nothing.
func (f *logFeed) want(q *engine.LogQuery, version int) {
	f.mu.Lock()
	same := (q == nil) == (f.query == nil) && version == f.version
	f.query, f.version = q, version
	f.mu.Unlock()
	if !same {
		poke(f.change)
	}
}

// take gives the lines since the last take and the version of the query they belong to.
func (f *logFeed) take() (lines []engine.LogLine, version int, ended bool, problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, f.lines = f.lines, nil
	return lines, f.of, f.ended, f.problem
}

func (f *logFeed) add(l engine.LogLine, version int) {
	f.mu.Lock()
	if f.of != version {
		f.lines, f.of = nil, version
	}
	f.ended, f.problem = false, ""
	if len(f.lines) >= maxPending {
		n := maxPending / 4
		f.lines = append(f.lines[:0], f.lines[n:]...)
		f.lines[0].Dropped += n
	}
	f.lines = append(f.lines, l)
	f.mu.Unlock()
}

func (f *logFeed) end(version int, err error) {
	f.mu.Lock()
	if f.of != version {
		f.lines, f.of = nil, version
	}
	f.ended = true
	if err != nil && !errors.Is(err, io.EOF) {
		f.problem = engine.AsProblem("read logs", err).Error()
	}
	f.mu.Unlock()
	poke(f.wake)
}

// run serves queries until ctx ends.
func (f *logFeed) run(ctx context.Context) {
	for {
		f.mu.Lock()
		q, version := f.query, f.version
		f.mu.Unlock()
		if q != nil {
			f.follow(ctx, *q, version)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.change:
		}
	}
}

// follow reads one stream until another query is wanted.
func (f *logFeed) follow(ctx context.Context, q engine.LogQuery, version int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	wg.Add(1)
	go func() { // ends with the stream or when another query is wanted
		defer wg.Done()
		t := time.NewTicker(logPause)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-f.change:
				poke(f.change) // run looks again
				cancel()
				return
			case <-t.C:
				f.mu.Lock()
				some := len(f.lines) > 0
				f.mu.Unlock()
				if some {
					poke(f.wake)
				}
			}
		}
	}()
	s, err := f.engine.Logs(ctx, q)
	if err != nil {
		if ctx.Err() == nil {
			f.end(version, err)
		}
		return
	}
	defer s.Close()
	for {
		l, err := s.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				f.end(version, err)
			}
			return
		}
		f.add(l, version)
	}
}
