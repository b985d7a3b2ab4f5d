// Package track follows duties from step to step and says, when one is over, what came of it and
// why: the furthest step, and for each validator that missed out a reason in the words that
// operators of distributed validators already search for.
//
// A Tracker may be used from any goroutine; no call blocks. It doesn't know time: its owner calls
// Judge at the duty's deadline, which also forgets the duty. Only duties that were scheduled here
// are judged. It is bounded by duties alive x validators.
package track

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"app.provost/cluster"
)

// Step is a stage of a duty. The zero value is none; the numbers rise with the way of a duty.
type Step int

// The steps.
const (
	Scheduled Step = 1  // it is due
	Fetched   Step = 2  // the own beacon node gave a value to propose
	Agreed    Step = 3  // the nodes agreed
	Settled   Step = 4  // and on nothing else before
	Signed    Step = 5  // the own share signed
	Exchanged Step = 6  // the own partial signature went out
	Received  Step = 7  // a peer's partial signature came
	Complete  Step = 8  // a threshold signed the same root
	Combined  Step = 9  // the group's signature is there and right
	Sent      Step = 10 // the beacon node took it
	Included  Step = 11 // it is on chain
)

var stepNames = map[Step]string{Scheduled: "scheduled", Fetched: "fetched", Agreed: "agreed", Settled: "settled", Signed: "signed",
	Exchanged: "exchanged", Received: "received", Complete: "complete", Combined: "combined", Sent: "sent", Included: "included"}

// String is "signed"; "" for no step.
func (s Step) String() string { return stepNames[s] }

// Reason is why a duty failed. The zero value is none. They are those of Charon's tracker.
type Reason string

// The reasons.
const (
	FetchBNError               Reason = "fetch_bn_error"
	MissingAggregatorAttest    Reason = "missing_aggregator_attestation"
	InsufficientSelections     Reason = "insufficient_aggregator_selections"
	ZeroPrepares               Reason = "zero_aggregator_prepares"
	FailedSelection            Reason = "failed_aggregator_selection"
	NoSelections               Reason = "no_aggregator_selections"
	InsufficientRandaos        Reason = "proposer_insufficient_randaos"
	ZeroRandaos                Reason = "proposer_zero_randaos"
	FailedRandao               Reason = "failed_proposer_randao"
	NoExternalRandaos          Reason = "proposer_no_external_randaos"
	SyncNoMessage              Reason = "sync_contribution_no_sync_msg"
	SyncFewPrepares            Reason = "sync_contribution_few_prepares"
	SyncZeroPrepares           Reason = "sync_contribution_zero_prepares"
	SyncFailedPrepare          Reason = "sync_contribution_failed_prepare"
	SyncNoExternalPrepares     Reason = "sync_contribution_no_external_prepares"
	NoConsensus                Reason = "no_consensus"
	NoLocalSignature           Reason = "no_local_vc_signature"
	NoPeerSignatures           Reason = "no_peer_signatures"
	InsufficientPeerSignatures Reason = "insufficient_peer_signatures"
	InconsistentSync           Reason = "par_sig_db_inconsistent_sync"
	BroadcastBNError           Reason = "broadcast_bn_error"
	NotIncluded                Reason = "not_included_onchain"
	BugFetch                   Reason = "bug_fetch_error"
	BugInconsistent            Reason = "bug_par_sig_db_inconsistent"
	BugExternal                Reason = "bug_par_sig_db_external"
	BugInternal                Reason = "bug_par_sig_db_internal"
	BugSigAgg                  Reason = "bug_sig_agg"
	BugAggregation             Reason = "bug_aggregation_error"
	BugDutyDB                  Reason = "bug_duty_db_error"
	Unknown                    Reason = "unknown"
	// NotYet is no reason of Charon's.
	NotYet Reason = "waiting_after_start"
)

var reasonText = map[Reason]string{
	FetchBNError:               "the own beacon node gave nothing to propose, and no other node's value was agreed on",
	MissingAggregatorAttest:    "there is no agreed attestation to aggregate",
	InsufficientSelections:     "too few nodes signed the selection proof",
	ZeroPrepares:               "no node signed the selection proof",
	FailedSelection:            "the selection proof failed",
	NoSelections:               "no peer signed the selection proof",
	InsufficientRandaos:        "too few nodes signed the RANDAO reveal that a block needs",
	ZeroRandaos:                "no node signed the RANDAO reveal that a block needs, not even this one",
	FailedRandao:               "the RANDAO reveal that a block needs could not be completed",
	NoExternalRandaos:          "no peer signed the RANDAO reveal that a block needs",
	SyncNoMessage:              "there is no sync message to contribute",
	SyncFewPrepares:            "too few nodes signed the sync selection proof",
	SyncZeroPrepares:           "no node signed the sync selection proof",
	SyncFailedPrepare:          "the sync selection proof failed",
	SyncNoExternalPrepares:     "no peer signed the sync selection proof",
	NoConsensus:                "the nodes did not agree in time: too many were absent, or the leaders' values came late",
	NoLocalSignature:           "this node did not sign what was agreed on",
	NoPeerSignatures:           "no peer's partial signature came",
	InsufficientPeerSignatures: "fewer partial signatures than the threshold came",
	InconsistentSync:           "the nodes signed different heads",
	BroadcastBNError:           "no beacon node took the signed duty",
	NotIncluded:                "it was sent in time, but the chain does not have it",
	BugFetch:                   "fetching failed in a way that should not be",
	BugInconsistent:            "nodes signed different data for a duty they had agreed on",
	BugExternal:                "peers' partial signatures could not be kept",
	BugInternal:                "the own partial signature could not be kept",
	BugSigAgg:                  "the partial signatures did not combine to the validator's signature",
	BugAggregation:             "aggregation failed in a way that should not be",
	BugDutyDB:                  "the data that the nodes agreed on contradicts what they agreed on before",
	Unknown:                    "nothing went wrong that this node could see",
	NotYet:                     "this node does not sign yet, since it does not know what was signed before it came",
}

// Text says the reason for people; "" for none.
func (r Reason) Text() string { return reasonText[r] }

// ErrOther marks an error of Fetched that is not the beacon node's.
var ErrOther = errors.New("not the beacon node's error")

// ErrRandao marks an error of Fetched: the RANDAO reveal wasn't there.
var ErrRandao = errors.New("the RANDAO reveal is missing")

// ErrInconsistent marks an error of Received: the share signs another root than the others.
var ErrInconsistent = errors.New("signed another root")

// WaitError marks an error of Agreed or Signed: this node may not sign before an epoch.
type WaitError struct{ From cluster.Epoch }

// Error names the epoch.
func (e *WaitError) Error() string { return fmt.Sprintf("nothing is signed before epoch %d", e.From) }

// Event says that a duty reached a step, or failed to with Err.
type Event struct {
	Duty  cluster.Duty
	Step  Step
	Keys  []cluster.PubKey   // nil: all that are scheduled
	Share cluster.ShareIndex // whose partial signature, for Signed and Received
	Err   error
	At    time.Time
}

// Failure is why one validator missed out.
type Failure struct {
	Reason  Reason
	Step    Step   // the furthest that was reached
	Detail  string // the last error of the step that wasn't, "" when there was none
	Missing []cluster.ShareIndex
	From    *cluster.Epoch // of NotYet
}

// Text says the reason for people.
func (f Failure) Text() string {
	if f.From != nil {
		return fmt.Sprintf("%s: it waits until epoch %d", f.Reason.Text(), *f.From)
	}
	return f.Reason.Text()
}

// Report is what came of a duty.
type Report struct {
	Duty      cluster.Duty
	Scheduled bool // false: this node had no part in it, nothing was judged
	Keys      []cluster.PubKey
	Failed    map[cluster.PubKey]Failure
	Partials  map[cluster.ShareIndex]int // validators that the share signed for
	Last      time.Time                  // when the furthest step was reached, for the last validator
}

// Options say whom to expect. Both are required.
type Options struct {
	Nodes     int
	Threshold cluster.Threshold
	// Agree tells which duties need agreement, Inside which ones end when they are combined.
	Agree  func(cluster.DutyType) bool
	Inside func(cluster.DutyType) bool
}

// Tracker follows duties.
type Tracker struct {
	o Options

	mu     sync.Mutex
	duties map[cluster.Duty]*record
}

type record struct {
	scheduled bool
	keys      map[cluster.PubKey]*progress
	all       progress // steps of the duty as a whole
	step      Step     // the furthest of any validator
	last      time.Time
}

type progress struct {
	steps  uint32 // a bit per step
	errs   map[Step]error
	shares map[cluster.ShareIndex]bool
	other  bool // a share signed another root
}

func (p *progress) has(s Step) bool { return p.steps&(1<<s) != 0 }

func (p *progress) note(s Step, err error) {
	if err == nil {
		p.steps |= 1 << s
		return
	}
	if p.errs == nil {
		p.errs = map[Step]error{}
	}
	var wait *WaitError
	if errors.As(p.errs[s], &wait) {
		return // rounds that end without a decision follow from it
	}
	p.errs[s] = err
}

// New returns a tracker that follows nothing yet.
func New(o Options) (*Tracker, error) {
	if o.Nodes < 1 || o.Threshold < 1 || o.Agree == nil || o.Inside == nil {
		return nil, errors.New("make a tracker: Nodes, Threshold, Agree and Inside are required")
	}
	return &Tracker{o: o, duties: map[cluster.Duty]*record{}}, nil
}

// Observe notes an event.
func (t *Tracker) Observe(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.duties[e.Duty]
	if r == nil {
		r = &record{keys: map[cluster.PubKey]*progress{}}
		t.duties[e.Duty] = r
	}
	if e.Err == nil && e.Step >= r.step { // a late partial signature is no progress
		r.step, r.last = e.Step, e.At
	}
	if e.Step == Scheduled && e.Err == nil {
		r.scheduled = true
	}
	if e.Keys == nil {
		r.all.note(e.Step, e.Err)
		return
	}
	for _, key := range e.Keys {
		p := r.keys[key]
		if p == nil {
			p = &progress{}
			r.keys[key] = p
		}
		p.note(e.Step, e.Err)
		if e.Share > 0 && (e.Step == Signed || e.Step == Received) {
			if e.Err == nil {
				if p.shares == nil {
					p.shares = map[cluster.ShareIndex]bool{}
				}
				p.shares[e.Share] = true
			} else if errors.Is(e.Err, ErrInconsistent) {
				p.other = true
			}
		}
	}
}

// Look says what would be judged now, and forgets nothing.
func (t *Tracker) Look(duty cluster.Duty) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judgeLocked(duty)
}

// Judge says what came of a duty and forgets it. A proposal is judged before its RANDAO reveal is.
func (t *Tracker) Judge(duty cluster.Duty) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.judgeLocked(duty)
	delete(t.duties, duty)
	return out
}

func (t *Tracker) judgeLocked(duty cluster.Duty) Report {
	out := Report{Duty: duty, Failed: map[cluster.PubKey]Failure{}, Partials: map[cluster.ShareIndex]int{}}
	r := t.duties[duty]
	if r == nil {
		return out
	}
	out.Scheduled, out.Last = r.scheduled, r.last
	for key, p := range r.keys {
		for share := range p.shares {
			out.Partials[share]++
		}
		if !p.has(Scheduled) {
			continue
		}
		out.Keys = append(out.Keys, key)
		if f, failed := t.judge(duty, key, p, &r.all); failed {
			out.Failed[key] = f
		}
	}
	slices.SortFunc(out.Keys, func(a, b cluster.PubKey) int { return slices.Compare(a[:], b[:]) })
	return out
}

// judge is the table of reasons: the first step that is missing, read from the end.
func (t *Tracker) judge(duty cluster.Duty, key cluster.PubKey, p, all *progress) (Failure, bool) {
	has := func(s Step) bool { return p.has(s) || all.has(s) }
	problem := func(s Step) error {
		if err := p.errs[s]; err != nil {
			return err
		}
		return all.errs[s]
	}
	f := Failure{}
	for s := range stepNames {
		if has(s) && s > f.Step {
			f.Step = s
		}
	}
	fail := func(r Reason, s Step) (Failure, bool) {
		f.Reason = r
		if err := problem(s); err != nil {
			f.Detail = err.Error()
		}
		for i := range t.o.Nodes {
			if share := cluster.PeerIndex(i).Share(); !p.shares[share] {
				f.Missing = append(f.Missing, share)
			}
		}
		return f, true
	}
	notYet := func(s Step) (Failure, bool) {
		var wait *WaitError
		if !errors.As(problem(s), &wait) {
			return f, false
		}
		f.From = &wait.From
		return fail(NotYet, s)
	}
	end := Sent
	if t.o.Inside(duty.Type) {
		end = Combined
	}
	switch {
	case has(Included):
		return f, false
	case has(end):
		if problem(Included) != nil {
			return fail(NotIncluded, Included)
		}
		return f, false
	case has(Combined):
		if problem(Sent) == nil {
			return fail(Unknown, Sent)
		}
		return fail(BroadcastBNError, Sent)
	case has(Complete):
		return fail(BugSigAgg, Combined)
	case has(Signed):
		peers := len(p.shares) - 1 // the own one is among them
		switch {
		case p.other && duty.Type == cluster.DutySyncMessage:
			return fail(InconsistentSync, Received)
		case p.other:
			return fail(BugInconsistent, Received)
		case len(p.shares) >= int(t.o.Threshold):
			return fail(BugExternal, Received)
		case peers <= 0:
			return fail(NoPeerSignatures, Exchanged)
		default:
			return fail(InsufficientPeerSignatures, Received)
		}
	case t.o.Agree(duty.Type) && !has(Agreed):
		if f, yes := notYet(Agreed); yes {
			return f, true
		}
		return t.unagreed(duty, key, problem, fail)
	case t.o.Agree(duty.Type) && !has(Settled):
		return fail(BugDutyDB, Settled)
	default:
		if f, yes := notYet(Signed); yes {
			return f, true
		}
		return fail(NoLocalSignature, Signed)
	}
}

// unagreed says why nothing was agreed on.
func (t *Tracker) unagreed(duty cluster.Duty, key cluster.PubKey, problem func(Step) error, fail func(Reason, Step) (Failure, bool)) (Failure, bool) {
	err := problem(Fetched)
	switch {
	case err == nil:
		return fail(NoConsensus, Agreed)
	case duty.Type == cluster.DutyProposer && errors.Is(err, ErrRandao):
		return fail(t.randao(cluster.Duty{Slot: duty.Slot, Type: cluster.DutyRandao}, key), Fetched)
	case errors.Is(err, ErrOther):
		return fail(BugFetch, Fetched)
	default:
		return fail(FetchBNError, Fetched)
	}
}

func (t *Tracker) randao(duty cluster.Duty, key cluster.PubKey) Reason {
	p := &progress{}
	if r := t.duties[duty]; r != nil && r.keys[key] != nil {
		p = r.keys[key]
	}
	switch n := len(p.shares); {
	case n == 0:
		return ZeroRandaos
	case n >= int(t.o.Threshold):
		return FailedRandao
	case n == 1 && p.has(Signed):
		return NoExternalRandaos
	default:
		return InsufficientRandaos
	}
}

// Worst is the failure that says most about a report: the one of the earliest step that most
// validators share; false when nothing failed.
func (r Report) Worst() (Failure, bool) {
	type kind struct {
		step   Step
		reason Reason
	}
	count := map[kind]int{}
	first := map[kind]Failure{}
	for _, key := range slices.SortedFunc(maps.Keys(r.Failed), func(a, b cluster.PubKey) int { return slices.Compare(a[:], b[:]) }) {
		f := r.Failed[key]
		k := kind{f.Step, f.Reason}
		if count[k]++; count[k] == 1 {
			first[k] = f
		}
	}
	var best kind
	for k, n := range count {
		if m := count[best]; n > m || n == m && (k.step < best.step || k.step == best.step && k.reason < best.reason) {
			best = k
		}
	}
	f, ok := first[best]
	return f, ok
}

// Sentence says in one line what came of the duty.
func (r Report) Sentence() string {
	f, failed := r.Worst()
	switch {
	case !r.Scheduled:
		return fmt.Sprintf("%s: not this node's", r.Duty)
	case !failed:
		return fmt.Sprintf("%s: done for %d of %d validators", r.Duty, len(r.Keys), len(r.Keys))
	}
	s := fmt.Sprintf("%s: missed for %d of %d validators: %s (%s)", r.Duty, len(r.Failed), len(r.Keys), f.Text(), f.Reason)
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}
