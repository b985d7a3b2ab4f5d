package super

import (
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// State is where a process stands.
type State string

const (
	StateStarting State = "starting" // the stub is there, the child not yet
	StateRunning  State = "running"
	StateStopping State = "stopping"
	StateBackoff  State = "backoff"  // died; starts again at Status.RestartAt
	StateHeld     State = "held"     // no process, as wished
	StateGivenUp  State = "given-up" // keeps dying; starts only on request
)

// Event is what made a Status be told, for the journal.
type Event string

const (
	EventNone    Event = ""         // only fields changed
	EventStarted Event = "started"  // the child runs
	EventAdopted Event = "adopted"  // a running child was taken up by this engine
	EventExited  Event = "exited"   // see Status.LastExit and Status.Asked
	EventGivenUp Event = "given-up" // see Status.Problem
)

// Status is a process at one moment. It never changes after it was handed out.
type Status struct {
	ID    string
	State State
	Since time.Time // of State
	Wish  engine.WorkerWish
	Event Event
	// PID of the child and of its stub; 0: none.
	PID     int
	StubPID int
	// StartedAt is when the child started; zero: there is none.
	StartedAt time.Time
	// Restarts counts starts by the policy, not on request, over engine restarts too.
	Restarts int
	LastExit *engine.ExitRecord
	// Asked tells whether LastExit was asked for.
	Asked bool
	Usage *Usage // of the run that LastExit ended
	// RestartAt is when the policy starts it again; zero: it does not.
	RestartAt time.Time
	// Problem says in words why it is not running as wished; "" when it is.
	Problem string
	// Outdated: it runs with an older spec than the one it was given last. Restart applies it.
	Outdated bool
	// Shared lists CPUs that another process had reserved when this one started.
	Shared []prover.CPU
	// CapBy is how the memory cap is kept: "cgroup", "polling", "" for no cap.
	CapBy string
	// Notes say in words what could not be set although it was asked for, and what the
	// child runs without: pinning, niceness, a control group.
	Notes []string
	// Missed counts changes dropped before this one because OnChange was too slow.
	Missed int
}

// Usage is what a run used up, by the kernel's count, children that it waited for
// included. MaxRSSBytes is never below the stub's own size (about 12 MiB, most of it
// the shared binary): the kernel counts from before the exec.
type Usage struct {
	MaxRSSBytes uint64  `json:"max_rss_bytes"`
	UserS       float64 `json:"user_s"`
	SystemS     float64 `json:"system_s"`
}
