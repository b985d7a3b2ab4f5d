package page

import "app.provost/engine"

// Entry is a view's place in the bar. Page is nil for a number that is kept for
// a part that this version or this engine does not carry.
type Entry struct {
	Key   string // "1"
	ID    ID
	Short string // in a narrow bar
	Long  string
	Page  Page
	// There tells whether the part is configured; nil: always.
	There func(s *engine.Snapshot) bool
	// Why is said when the number is pressed although the part is not there.
	Why string
}

// New makes the views of one screen, in the order of the bar.
func New() []Entry {
	through := &lens{}
	return []Entry{
		{Key: "1", ID: Overview, Short: "Over", Long: "Overview", Page: newOverview()},
		{Key: "2", ID: Workers, Short: "Work", Long: "Workers", Page: newWorkers(),
			There: func(s *engine.Snapshot) bool { return s.Workers != nil }, Why: "this engine carries no workers"},
		{Key: "3", ID: GPUs, Short: "GPU", Long: "GPUs", Page: newGPUs()},
		{Key: "4", ID: Hosts, Short: "Host", Long: "Hosts", Page: newHosts()},
		{Key: "5", ID: Duties, Short: "Duty", Long: "Duties", Page: newDuties(through),
			There: func(s *engine.Snapshot) bool { return s.Duties != nil }, Why: "this engine does not run validators, so there are no duties"},
		{Key: "6", ID: Validators, Short: "Val", Long: "Validators", Page: newValidators(through),
			There: func(s *engine.Snapshot) bool { return s.Validators != nil }, Why: "this engine does not run validators; nodes are on the overview"},
		{Key: "7", ID: Peers, Short: "Peer", Long: "Peers", Page: newPeers(through),
			There: func(s *engine.Snapshot) bool { return s.Peers != nil }, Why: "this engine does not run validators, so there are no peers"},
		{Key: "8", ID: Alerts, Short: "Alert", Long: "Alerts", Page: newAlerts()},
		{Key: "9", ID: Logs, Short: "Log", Long: "Logs", Page: newLogs()},
		{Key: "0", ID: Acts, Short: "Acts", Long: "Acts", Page: newActs()},
		{Key: "J", ID: Jobs, Short: "Jobs", Long: "Jobs", Page: newJobs(),
			There: func(s *engine.Snapshot) bool { return s.Jobs != nil }, Why: "this engine hands out no work"},
	}
}
