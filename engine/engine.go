// Package engine is the waist between what runs and what shows.
//
// Everything a face (screen, command line, HTTP, scrape) can know or ask passes
// through the four verbs of Engine: Watch, Preview, Do, Logs. Faces import this
// package and the nouns, and nothing that runs. The same Engine is served in
// process and over a socket; engine/enginetest holds both to one suite.
//
// Promises: a Snapshot and everything it points to never changes after it was
// handed out, so it is read without a lock. A feed gives the newest state, never
// a backlog; the journal loses nothing while it is kept, and says so when a
// reader comes too late. Nothing on a signing or proving path waits for a face.
// The values here are also the wire: fields are only ever added, unknown is null.
package engine

import (
	"context"
	"time"
)

// Engine is what runs, seen from a face. All methods may be called from any
// goroutine. Errors that an operator can meet are of type *Problem.
type Engine interface {
	// Watch opens a feed. The first Next answers at once with the newest snapshot.
	Watch(ctx context.Context, o WatchOptions) (Feed, error)
	// Preview says what an action would do, and changes nothing.
	Preview(ctx context.Context, r Request) (Plan, error)
	// Do carries the action out if its plan, made again now, still has this digest;
	// otherwise it is refused with CodePlanChanged and the new plan. A repeated
	// Request.Key gives the first receipt and does nothing else. Do returns when
	// the act is recorded (or done, where it is short): long acts go on in the
	// engine and are watched in the Acts section by the receipt's Act.
	Do(ctx context.Context, r Request, digest Digest) (Receipt, error)
	// Logs opens a stream of log lines, oldest first.
	Logs(ctx context.Context, q LogQuery) (LogStream, error)
}

// WatchOptions says what a viewer wants to be told.
type WatchOptions struct {
	// Every is the least time between two updates; 0 means as fast as the engine
	// publishes (at most four a second). The first update is not delayed.
	Every time.Duration
	// Sections limits what makes the feed wake; empty means all. The snapshot is whole in any case.
	Sections []SectionName
	// After asks for journal entries numbered above it; nil asks for none. A number
	// below the oldest kept entry is answered with a Gap.
	After *uint64
	// Viewer is shown to other viewers, as in "ana@bastion"; empty counts nobody.
	Viewer string
}

// Feed delivers updates. One goroutine at a time may call Next.
type Feed interface {
	// Next waits until something newer than the last update is there. It returns
	// ctx's error when that ends first, and io.EOF after the engine has stopped.
	Next(ctx context.Context) (Update, error)
	// Close ends the feed and frees what it holds. Next then returns io.EOF.
	Close() error
}

// Update is one wake of a feed.
type Update struct {
	Snapshot *Snapshot     `json:"snapshot"`
	Changed  []SectionName `json:"changed"`
	Entries  []Entry       `json:"entries,omitempty"`
	// Gap is set when entries that were asked for are no longer kept.
	Gap *Gap `json:"gap,omitempty"`
}

// Gap names journal entries that are gone: From up to and with To.
type Gap struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Request asks for an action. Key is chosen by the caller (NewKey) and makes a
// retry after a dropped line the same act. Actor is filled in by the server from
// the connection's credentials when the request came over a socket.
type Request struct {
	Key    string
	Action Action
	Actor  Actor
}

// LogQuery chooses log lines. Empty Sources means all. Sources are names as in
// LogLine.Source: "engine", "w1", "verifier".
type LogQuery struct {
	Sources []string   `json:"sources,omitempty"`
	Follow  bool       `json:"follow,omitempty"`
	Tail    int        `json:"tail,omitempty"` // the last so many lines before following; 0: none kept back, all
	Since   *time.Time `json:"since,omitempty"`
	Grep    string     `json:"grep,omitempty"`  // RE2 over text and fields; empty: all
	Level   Level      `json:"level,omitempty"` // this level and above; empty: all
}

// LogStream delivers lines; one goroutine at a time may call Next. Without
// Follow it ends with io.EOF.
type LogStream interface {
	Next(ctx context.Context) (LogLine, error)
	Close() error
}

// LogLine is one line of a source. At is null when the line carries no time.
type LogLine struct {
	At     *time.Time `json:"at"`
	Source string     `json:"source"`
	Level  Level      `json:"level,omitempty"`
	Text   string     `json:"text"`
	Fields string     `json:"fields,omitempty"` // "key=value key=value"
	// Dropped counts lines lost before this one because the reader was slow.
	Dropped int `json:"dropped,omitempty"`
}

// Spawner starts named goroutines and waits for them when the engine stops.
// Rooms take one in their constructor so that no goroutine is without an owner.
// fn must return soon after ctx is done; an error or a panic of fn is logged and
// counted under its name, and does not end the others.
type Spawner interface {
	Go(name string, fn func(ctx context.Context) error)
}
