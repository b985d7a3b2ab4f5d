package engine

import (
	"time"

	"app.provost/prover"
)

// SnapshotSchema is the version of Snapshot's JSON.
const SnapshotSchema = "provost.snapshot/1"

// SectionName names a part of the snapshot that changes as a whole.
type SectionName string

const (
	SecEngine   SectionName = "engine"
	SecVerdict  SectionName = "verdict"
	SecMachines SectionName = "machines"
	SecWorkers  SectionName = "workers"
	SecGPUs     SectionName = "gpus"
	SecJobs     SectionName = "jobs"
	SecNodes    SectionName = "nodes"
	SecActs     SectionName = "acts"
	SecAlerts   SectionName = "alerts"
	SecSources  SectionName = "sources"
	SecTrends   SectionName = "trends"
)

// SectionNames lists all sections in the order of Snapshot.
var SectionNames = []SectionName{SecEngine, SecVerdict, SecMachines, SecWorkers, SecGPUs, SecJobs, SecNodes, SecClusters, SecDuties, SecValidators, SecPeers, SecBeacons, SecActs, SecAlerts, SecSources, SecTrends}

// Section is one part of the snapshot. It never changes after publication.
// Version grows by at least one with every change and is never reused, also not
// after a restart of the engine within the same second (it starts from the clock).
type Section[T any] struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"` // when it was folded
	Rows    []T       `json:"rows"`
}

// List gives the rows; a nil section (its part is not configured) has none.
func (s *Section[T]) List() []T {
	if s == nil {
		return nil
	}
	return s.Rows
}

// One is a section of a single value.
type One[T any] struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	Value   T         `json:"value"`
}

// Snapshot is everything a face can show, at one moment. A nil section means
// that its part is not configured in this engine; an empty one that there are none.
type Snapshot struct {
	Schema     string                 `json:"schema"`
	Gen        uint64                 `json:"gen"` // grows with every publication of this engine run
	At         time.Time              `json:"at"`
	Engine     *One[Info]             `json:"engine"`
	Verdict    *One[Verdict]          `json:"verdict"`
	Machines   *Section[MachineRow]   `json:"machines"`
	Workers    *Section[WorkerRow]    `json:"workers"`
	GPUs       *Section[GPURow]       `json:"gpus"`
	Jobs       *Jobs                  `json:"jobs"`
	Nodes      *Section[NodeRow]      `json:"nodes"`
	Clusters   *Section[ClusterRow]   `json:"clusters"`
	Duties     *Section[DutyRow]      `json:"duties"`
	Validators *Section[ValidatorRow] `json:"validators"`
	Peers      *Section[PeerRow]      `json:"peers"`
	Beacons    *Section[BeaconRow]    `json:"beacons"`
	Acts       *Section[ActRow]       `json:"acts"`
	Alerts     *Section[Finding]      `json:"alerts"`
	Sources    *Section[SourceRow]    `json:"sources"`
	Trends     *Section[Trend]        `json:"trends"`
}

// Version is the version of one section, 0 when it is nil.
func (s *Snapshot) Version(n SectionName) uint64 {
	if s == nil {
		return 0
	}
	switch n {
	case SecEngine:
		return oneVersion(s.Engine)
	case SecVerdict:
		return oneVersion(s.Verdict)
	case SecMachines:
		return sectionVersion(s.Machines)
	case SecWorkers:
		return sectionVersion(s.Workers)
	case SecGPUs:
		return sectionVersion(s.GPUs)
	case SecJobs:
		if s.Jobs == nil {
			return 0
		}
		return s.Jobs.Version
	case SecNodes:
		return sectionVersion(s.Nodes)
	case SecClusters:
		return sectionVersion(s.Clusters)
	case SecDuties:
		return sectionVersion(s.Duties)
	case SecValidators:
		return sectionVersion(s.Validators)
	case SecPeers:
		return sectionVersion(s.Peers)
	case SecBeacons:
		return sectionVersion(s.Beacons)
	case SecActs:
		return sectionVersion(s.Acts)
	case SecAlerts:
		return sectionVersion(s.Alerts)
	case SecSources:
		return sectionVersion(s.Sources)
	case SecTrends:
		return sectionVersion(s.Trends)
	}
	return 0
}

func oneVersion[T any](o *One[T]) uint64 {
	if o == nil {
		return 0
	}
	return o.Version
}

func sectionVersion[T any](s *Section[T]) uint64 {
	if s == nil {
		return 0
	}
	return s.Version
}

// Changed lists the sections whose versions differ between two snapshots.
func Changed(old, now *Snapshot) []SectionName {
	var out []SectionName
	for _, n := range SectionNames {
		if old.Version(n) != now.Version(n) {
			out = append(out, n)
		}
	}
	return out
}

// Reading is a measured value that knows when it was true.
type Reading[T any] struct {
	Value   *T         `json:"value"` // null: not known
	At      *time.Time `json:"at"`    // when it was read; null: never
	PeriodS float64    `json:"period_s"`
	Problem string     `json:"problem,omitempty"` // why it is not known, or why it is not read any more
}

// Freshness grades the age of a value against its period.
type Freshness int

const (
	NeverRead Freshness = iota // counts as unknown
	Fresh                      // up to 2 periods
	Aging                      // up to 5: shown dim with ~
	Old                        // over 5: not ok
	Lost                       // over 20: a failure
)

// FreshnessOf grades a value read at "at" with this period. A reading from the
// future (the clock was set back) counts as aging, not as fresh.
func FreshnessOf(now time.Time, at *time.Time, period time.Duration) Freshness {
	if at == nil || at.IsZero() {
		return NeverRead
	}
	age := now.Sub(*at)
	switch {
	case age < -period || period <= 0:
		return Aging
	case age <= 2*period:
		return Fresh
	case age <= 5*period:
		return Aging
	case age <= 20*period:
		return Old
	}
	return Lost
}

// Freshness grades a reading at a moment.
func (r Reading[T]) Freshness(now time.Time) Freshness {
	return FreshnessOf(now, r.At, time.Duration(r.PeriodS*float64(time.Second)))
}

// Role is a part that an engine carries.
type Role string

const (
	RoleMachine Role = "machine" // readings of this machine; always on
	RoleControl Role = "control" // job queue: hands out work
	RoleWorkers Role = "workers" // data workers of this machine
	RoleDV      Role = "dv"      // distributed-validator nodes
	RoleProver  Role = "prover"  // GPU prover nodes
)

// Info describes the engine itself.
type Info struct {
	ID        string    `json:"id"` // stable: from the state directory
	Name      string    `json:"name"`
	Machine   string    `json:"machine"`
	StateDir  string    `json:"state_dir"`
	Socket    string    `json:"socket"`
	PID       int       `json:"pid"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Roles     []Role    `json:"roles"`
	Viewers   []string  `json:"viewers"`
	Unlocked  *Unlocked `json:"unlocked"` // null: locked, screens may only look
	// Practice is set when something on this engine is simulated; every frame says it.
	Practice string `json:"practice,omitempty"`
	// Stopping is set while the engine stops: which step it is in.
	Stopping string `json:"stopping,omitempty"`
	// RSSBytes is the engine's own resident memory.
	RSSBytes *uint64 `json:"rss_bytes"`
}

// Unlocked says until when screens may act, who opened the lock and why.
type Unlocked struct {
	Until  time.Time `json:"until"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// VerdictWord is the one word on the first line.
type VerdictWord string

const (
	VerdictUnknown  VerdictWord = "unknown"  // readings are missing
	VerdictOK       VerdictWord = "ok"       // all that is configured works
	VerdictDegraded VerdictWord = "degraded" // something needs a look; work goes on
	VerdictCritical VerdictWord = "critical" // work or duties are being lost
)

// Verdict is the one sentence first.
type Verdict struct {
	Word    VerdictWord     `json:"verdict"`
	Reasons []VerdictReason `json:"reasons"`
	Since   time.Time       `json:"since"`
	// Restart tells whether the engine may be restarted now.
	Restart Restart `json:"restart"`
}

// VerdictReason is one open finding that made the verdict.
type VerdictReason struct {
	Level  Level     `json:"level"`
	Rule   Code      `json:"rule"`
	Target string    `json:"target"`
	Since  time.Time `json:"since"`
	Text   string    `json:"text"`
	Effect string    `json:"effect,omitempty"`
}

// Restart answers "is it safe to restart now?". ForS is null when there is no end in sight.
type Restart struct {
	Safe *bool    `json:"safe"` // null: not known
	ForS *float64 `json:"for_s"`
	Why  string   `json:"why"`
	// Until is what ends the time that is safe: "proposal slot 13802158".
	Until string `json:"until,omitempty"`
	// QuorumWithoutMe counts the nodes that are there without the one that would restart; Need is
	// how many a duty takes. Null where no validators run, or it is not known.
	QuorumWithoutMe *int `json:"quorum_without_me,omitempty"`
	Need            *int `json:"need,omitempty"`
}

// MachineRow is one machine.
type MachineRow struct {
	Key       Key                        `json:"key"`
	Hostname  string                     `json:"hostname"`
	Roles     []Role                     `json:"roles"`
	CPU       Reading[CPUStat]           `json:"cpu"`
	Memory    Reading[MemoryStat]        `json:"memory"`
	Disks     Reading[[]DiskStat]        `json:"disks"`
	Clock     Reading[ClockStat]         `json:"clock"`
	Hugepages Reading[[]prover.HugePool] `json:"hugepages"`
	GPUDriver Reading[GPUDriver]         `json:"gpu_driver"`
	System    Reading[SystemStat]        `json:"system"`
}

// CPUStat: cores, load and use of a machine.
type CPUStat struct {
	Model        string    `json:"model"`
	LogicalCPUs  int       `json:"logical_cpus"`
	Cores        *int      `json:"cores"` // physical
	Load1        float64   `json:"load1"`
	Load5        float64   `json:"load5"`
	Load15       float64   `json:"load15"`
	UsePercent   *float64  `json:"use_percent"` // of all CPUs together, 0 to 100
	PerCPU       []float64 `json:"per_cpu_percent"`
	StealPercent *float64  `json:"steal_percent"`
}

// MemoryStat in bytes. Available is the kernel's estimate for new processes.
type MemoryStat struct {
	TotalBytes     uint64 `json:"total_bytes"`
	AvailableBytes uint64 `json:"available_bytes"`
	SwapTotalBytes uint64 `json:"swap_total_bytes"`
	SwapUsedBytes  uint64 `json:"swap_used_bytes"`
	THP            string `json:"thp,omitempty"` // always, madvise, never
	// LimitBytes is the memory limit of this engine's control group, null for none.
	LimitBytes *uint64 `json:"limit_bytes"`
}

// DiskStat is one filesystem that Provost writes to.
type DiskStat struct {
	Path        string  `json:"path"`
	What        string  `json:"what"` // "state", "runtime", …
	FSType      string  `json:"fs_type"`
	TotalBytes  uint64  `json:"total_bytes"`
	FreeBytes   uint64  `json:"free_bytes"` // for this user
	InodesTotal *uint64 `json:"inodes_total"`
	InodesFree  *uint64 `json:"inodes_free"`
}

// ClockStat: how far this machine's clock is from a reference. OffsetMS is
// positive when our clock is ahead. Null when only the kernel's word is there.
type ClockStat struct {
	OffsetMS *float64 `json:"offset_ms"`
	ErrorMS  *float64 `json:"error_ms"` // bound of the offset, as the source states it
	Synced   *bool    `json:"synced"`
	Source   string   `json:"source"` // "kernel (adjtimex)", "ntp <server>"
}

// GPUDriver: whether the machine has a usable NVIDIA driver.
type GPUDriver struct {
	Version string  `json:"version"` // "" for none
	CUDA    string  `json:"cuda,omitempty"`
	Why     string  `json:"why,omitempty"` // in words, when there is none
	Count   int     `json:"count"`
	TookMS  float64 `json:"took_ms"`
}

// SystemStat: what rarely changes.
type SystemStat struct {
	OS        string    `json:"os"`
	Kernel    string    `json:"kernel"`
	Arch      string    `json:"arch"`
	BootedAt  time.Time `json:"booted_at"`
	Virtual   string    `json:"virtual,omitempty"`
	NUMANodes int       `json:"numa_nodes"`
	Processes *uint64   `json:"processes"`
}

// WorkerState is what a worker is seen to do.
type WorkerState string

const (
	WorkerRun     WorkerState = "run"     // proves
	WorkerIdle    WorkerState = "idle"    // ready, no job
	WorkerStart   WorkerState = "start"   // process is there, has not reported yet
	WorkerPausing WorkerState = "pausing" // finishes its job, takes no other
	WorkerPaused  WorkerState = "paused"
	WorkerStale   WorkerState = "stale" // heartbeat late
	WorkerDown    WorkerState = "down"  // process gone, will be restarted
	WorkerGone    WorkerState = "gone"  // the network or the machine dropped it
	WorkerHeld    WorkerState = "held"  // stopped on purpose, or given up after too many deaths
	WorkerUnknown WorkerState = "unknown"
)

// WorkerWish is what the operator wants of a worker. It has one writer: the desk of acts.
type WorkerWish string

const (
	WishRun    WorkerWish = "run"
	WishPaused WorkerWish = "paused"
	WishHeld   WorkerWish = "held"
)

// WorkerRow is one data worker. Desired and observed are two things; their
// difference is what the screen shows as "pausing".
type WorkerRow struct {
	Key        Key             `json:"key"`
	ID         prover.WorkerID `json:"id"`
	Core       prover.Core     `json:"core"`
	CPU        *prover.CPU     `json:"cpu"` // pinned to; null: not pinned
	NUMA       *int            `json:"numa"`
	State      WorkerState     `json:"state"`
	Since      time.Time       `json:"since"` // of State
	Desired    WorkerWish      `json:"desired"`
	PauseUntil *time.Time      `json:"pause_until"` // null: not paused, or paused without an end
	PauseWhy   string          `json:"pause_why,omitempty"`
	PID        *int            `json:"pid"`
	StartedAt  *time.Time      `json:"started_at"`
	Nice       *int            `json:"nice"`
	Version    string          `json:"version,omitempty"`
	Job        *prover.JobID   `json:"job"`
	Phase      prover.Phase    `json:"phase,omitempty"`
	Progress   *float64        `json:"progress"`    // 0 to 1 of the job in hand
	CPUPercent *float64        `json:"cpu_percent"` // of one core
	RSSBytes   *uint64         `json:"rss_bytes"`
	HeardAt    *time.Time      `json:"heard_at"` // last heartbeat
	LatencyMS  *float64        `json:"latency_ms"`
	JobsDone   uint64          `json:"jobs_done"`  // verified, since the worker first started
	Restarts   int             `json:"restarts"`   // by the policy, not on request
	RestartAt  *time.Time      `json:"restart_at"` // when the policy starts it again
	LastExit   *ExitRecord     `json:"last_exit"`
	Note       string          `json:"note,omitempty"`
}

// ExitRecord is how a process ended.
type ExitRecord struct {
	At     time.Time `json:"at"`
	Code   *int      `json:"code"`             // null when a signal ended it
	Signal string    `json:"signal,omitempty"` // "SIGKILL"
	Cause  string    `json:"cause,omitempty"`  // in words: "killed by the kernel: out of memory"
}

// GPURow is one GPU of a machine.
type GPURow struct {
	Key     Key           `json:"key"`
	GPU     prover.GPU    `json:"gpu"`
	State   string        `json:"state"` // run, idle, hot, lost
	At      time.Time     `json:"at"`
	PeriodS float64       `json:"period_s"`
	Job     *prover.JobID `json:"job"`
}

// JobRow is one job, without its proof (see FetchJob).
type JobRow struct {
	Key         Key             `json:"key"`
	ID          prover.JobID    `json:"id"`
	Kind        prover.JobKind  `json:"kind"`
	Name        string          `json:"name,omitempty"`
	Constraints uint64          `json:"constraints,omitempty"`
	State       prover.JobState `json:"state"`
	Attempts    int             `json:"attempts"`
	Worker      prover.WorkerID `json:"worker,omitempty"` // that holds or held the last lease
	Phase       prover.Phase    `json:"phase,omitempty"`
	Progress    *float64        `json:"progress"`
	SubmittedAt time.Time       `json:"submitted_at"`
	SubmittedBy string          `json:"submitted_by,omitempty"`
	StartedAt   *time.Time      `json:"started_at"`
	FinishedAt  *time.Time      `json:"finished_at"`
	ProveMS     *float64        `json:"prove_ms"`
	Failure     *prover.Failure `json:"failure"`
}

// Jobs is the section of jobs: all open ones, the newest finished ones (bounded), and totals over everything.
type Jobs struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	Rows    []JobRow  `json:"rows"`
	Totals  JobTotals `json:"totals"`
	// Hidden counts finished jobs that are kept in the store and not listed here.
	Hidden int `json:"hidden"`
}

// List gives the rows; a nil section has none.
func (j *Jobs) List() []JobRow {
	if j == nil {
		return nil
	}
	return j.Rows
}

// JobTotals counts all jobs that the store knows.
type JobTotals struct {
	Submitted uint64 `json:"submitted"`
	Queued    uint64 `json:"queued"`
	Leased    uint64 `json:"leased"`
	Proved    uint64 `json:"proved"`
	Verified  uint64 `json:"verified"`
	Failed    uint64 `json:"failed"`
	Cancelled uint64 `json:"cancelled"`
	// PerMinute is the number verified in the last minute; null before a minute has passed.
	PerMinute *float64 `json:"per_minute"`
}

// NodeRow is one distributed-validator node directory that this engine was given.
type NodeRow struct {
	Key        Key    `json:"key"`
	Dir        string `json:"dir"`
	Name       string `json:"name"` // cluster name
	Network    string `json:"network"`
	LockHash   string `json:"lock_hash"`
	ShareIndex *int   `json:"share_index"` // from 1; null: the node's key is in no lock
	Operators  int    `json:"operators"`
	Threshold  int    `json:"threshold"`
	Validators int    `json:"validators"`
	// State in words: "read" (shown, not run) and "running" are as it should be; "broken", "down",
	// "held" and "stopped" are not; everything else ("reading", "opening 3 of 8 keys", "starting",
	// "waiting for …") is on the way.
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
}

// OK tells whether the node is as it should be.
func (n NodeRow) OK() bool { return n.State == "read" || n.State == "running" }

// Bad tells whether somebody has to do something about it.
func (n NodeRow) Bad() bool {
	switch n.State {
	case "broken", "down", "held", "stopped":
		return true
	}
	return false
}

// SourceRow is one thing that readings come from.
type SourceRow struct {
	Key     Key        `json:"key"`
	Name    string     `json:"name"`
	At      *time.Time `json:"at"`
	PeriodS float64    `json:"period_s"`
	Problem string     `json:"problem,omitempty"`
	Detail  string     `json:"detail,omitempty"` // "2 of 2 heard"
}

// Trend is a short history for a sparkline: one value every StepS seconds,
// the newest last, null where nothing was known. Minutes, not days.
type Trend struct {
	Key    Key        `json:"key"`
	Name   string     `json:"name"` // "cpu", "jobs_verified", "worker_cpu", …
	Unit   string     `json:"unit"`
	StepS  float64    `json:"step_s"`
	Last   time.Time  `json:"last"` // time of the newest value
	Values []*float64 `json:"values"`
}
