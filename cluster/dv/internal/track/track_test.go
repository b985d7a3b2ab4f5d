package track

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
)

var (
	one = cluster.PubKey{1}
	two = cluster.PubKey{2}
	t0  = time.Unix(1700000000, 0)
)

func newTracker(t testing.TB) *Tracker {
	t.Helper()
	tr, err := New(Options{Nodes: 4, Threshold: 3,
		Agree:  func(d cluster.DutyType) bool { return d == cluster.DutyAttester || d == cluster.DutyProposer },
		Inside: func(d cluster.DutyType) bool { return d == cluster.DutyRandao }})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// ev reads "step[share][!error]": "received2!inconsistent".
func ev(t testing.TB, duty cluster.Duty, key cluster.PubKey, text string) Event {
	t.Helper()
	e := Event{Duty: duty, Keys: []cluster.PubKey{key}, At: t0}
	name, why, failed := strings.Cut(text, "!")
	if failed {
		e.Err = map[string]error{"bn": errors.New("beacon node: timeout"), "other": ErrOther, "randao": ErrRandao, "inconsistent": ErrInconsistent, "wait": &WaitError{12}}[why]
		if e.Err == nil {
			e.Err = errors.New(why)
		}
	}
	if n := name[len(name)-1]; n >= '1' && n <= '9' {
		e.Share, name = cluster.ShareIndex(n-'0'), name[:len(name)-1]
	}
	for s, label := range stepNames {
		if label == name {
			e.Step = s
		}
	}
	if e.Step == 0 {
		t.Fatalf("no step %q", name)
	}
	return e
}

func TestReasons(t *testing.T) {
	att, prop, rand, sync := cluster.DutyAttester, cluster.DutyProposer, cluster.DutyRandao, cluster.DutySyncMessage
	agreed := "scheduled fetched agreed settled "
	for name, x := range map[string]struct {
		kind   cluster.DutyType
		events string
		randao string // events of the randao duty of the slot
		reason Reason // "" is success
		step   Step
	}{
		"done":                      {att, agreed + "signed1 exchanged received2 received3 complete combined sent", "", "", Sent},
		"done without own part":     {att, "scheduled fetched!bn agreed settled signed1!no received2 received3 received4 complete combined sent", "", "", Sent},
		"on chain":                  {att, agreed + "signed1 received2 received3 complete combined sent included", "", "", Included},
		"not on chain":              {prop, agreed + "signed1 received2 received3 complete combined sent included!gone", "", NotIncluded, Sent},
		"taken by another's node":   {prop, agreed + "signed1 received2 received3 complete combined sent!bn included", "", "", Included},
		"beacon node down":          {att, "scheduled fetched!bn", "", FetchBNError, Scheduled},
		"fetch is a bug":            {att, "scheduled fetched!other", "", BugFetch, Scheduled},
		"no leader":                 {att, "scheduled fetched agreed!timeout", "", NoConsensus, Fetched},
		"nothing at all":            {att, "scheduled", "", NoConsensus, Scheduled},
		"contradiction":             {att, "scheduled fetched agreed settled!different", "", BugDutyDB, Agreed},
		"protection refused":        {att, agreed + "signed!slashing", "", NoLocalSignature, Settled},
		"all wait":                  {att, "scheduled fetched agreed!wait agreed!timeout", "", NotYet, Fetched},
		"waits, its beacon is down": {att, "scheduled agreed!timeout agreed!wait fetched!bn", "", NotYet, Scheduled},
		"this one waits":            {att, agreed + "signed!wait received2", "", NotYet, Received},
		"the others don't need it":  {att, "scheduled fetched agreed!wait agreed settled signed!wait received2 received3 received4 complete combined sent", "", "", Sent},
		"only own":                  {att, agreed + "signed1 exchanged", "", NoPeerSignatures, Exchanged},
		"one peer":                  {att, agreed + "signed1 exchanged received3", "", InsufficientPeerSignatures, Received},
		"peers differ":              {att, agreed + "signed1 exchanged received3 received4!inconsistent", "", BugInconsistent, Received},
		"heads differ":              {sync, "scheduled signed1 received2!inconsistent", "", InconsistentSync, Signed},
		"enough but not complete":   {att, agreed + "signed1 received2 received3", "", BugExternal, Received},
		"combination is wrong":      {att, agreed + "signed1 received2 received3 complete combined!wrong", "", BugSigAgg, Complete},
		"beacon node refuses":       {att, agreed + "signed1 received2 received3 complete combined sent!bn", "", BroadcastBNError, Combined},
		"combined, nothing tried":   {att, agreed + "signed1 received2 received3 complete combined", "", Unknown, Combined},
		"randao ends inside":        {rand, "scheduled signed1 received2 received3 complete combined", "", "", Combined},
		"randao needs no agreement": {rand, "scheduled signed!doubt", "", NoLocalSignature, Scheduled},
		"no randao":                 {prop, "scheduled fetched!randao", "", ZeroRandaos, Scheduled},
		"own randao only":           {prop, "scheduled fetched!randao", "scheduled signed1", NoExternalRandaos, Scheduled},
		"few randaos":               {prop, "scheduled fetched!randao", "scheduled signed1 received4", InsufficientRandaos, Scheduled},
		"foreign randao only":       {prop, "scheduled fetched!randao", "scheduled received4", InsufficientRandaos, Scheduled},
		"randao did not combine":    {prop, "scheduled fetched!randao", "scheduled signed1 received2 received4 complete combined!wrong", FailedRandao, Scheduled},
		"randao, but others agreed": {prop, "scheduled fetched!randao agreed settled signed1 exchanged", "", NoPeerSignatures, Exchanged},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracker(t)
			duty := cluster.Duty{Slot: 8, Type: x.kind}
			for _, e := range strings.Fields(x.events) {
				tr.Observe(ev(t, duty, one, e))
			}
			for _, e := range strings.Fields(x.randao) {
				tr.Observe(ev(t, cluster.Duty{Slot: 8, Type: rand}, one, e))
			}
			r := tr.Judge(duty)
			f, failed := r.Worst()
			if failed != (x.reason != "") || f.Reason != x.reason {
				t.Fatalf("reason %q, want %q", f.Reason, x.reason)
			}
			if failed && f.Step != x.step {
				t.Errorf("furthest step %s, want %s", f.Step, x.step)
			}
			if failed && f.Text() == "" {
				t.Error("the reason has no text")
			}
			if (f.Reason == NotYet) != strings.HasSuffix(f.Text(), ": it waits until epoch 12") {
				t.Errorf("it says %q", f.Text())
			}
			if again := tr.Judge(duty); again.Scheduled || len(again.Keys) != 0 {
				t.Error("the duty was not forgotten")
			}
		})
	}
}

// Dashboards and searches know the reasons by these words.
func TestReasonsKeepTheirNames(t *testing.T) {
	names := strings.Fields(`fetch_bn_error missing_aggregator_attestation
		insufficient_aggregator_selections zero_aggregator_prepares failed_aggregator_selection no_aggregator_selections
		proposer_insufficient_randaos proposer_zero_randaos failed_proposer_randao proposer_no_external_randaos
		sync_contribution_no_sync_msg sync_contribution_few_prepares sync_contribution_zero_prepares sync_contribution_failed_prepare
		sync_contribution_no_external_prepares no_consensus no_local_vc_signature no_peer_signatures insufficient_peer_signatures
		par_sig_db_inconsistent_sync broadcast_bn_error not_included_onchain bug_fetch_error bug_par_sig_db_inconsistent
		bug_par_sig_db_external bug_par_sig_db_internal bug_sig_agg bug_aggregation_error bug_duty_db_error unknown
		waiting_after_start`)
	for _, name := range names {
		if text := Reason(name).Text(); text == "" || strings.HasSuffix(text, ".") {
			t.Errorf("%q: %q", name, text)
		}
	}
	if len(names) != len(reasonText) {
		t.Errorf("%d reasons have text, %d are known", len(reasonText), len(names))
	}
}

func TestReport(t *testing.T) {
	tr := newTracker(t)
	duty := cluster.Duty{Slot: 8, Type: cluster.DutyAttester}
	tr.Observe(Event{Duty: duty, Step: Agreed, At: t0}) // of the duty as a whole
	for _, e := range []string{"scheduled", "settled", "signed1", "exchanged", "received2", "received3", "complete", "combined", "sent"} {
		tr.Observe(ev(t, duty, one, e))
	}
	for _, e := range []string{"scheduled", "settled", "signed1!double vote", "received3"} {
		tr.Observe(ev(t, duty, two, e))
	}
	tr.Observe(ev(t, duty, cluster.PubKey{9}, "received2")) // a validator that wasn't scheduled
	for _, r := range []Report{tr.Look(duty), tr.Judge(duty)} {
		if len(r.Keys) != 2 || len(r.Failed) != 1 || r.Partials[1] != 1 || r.Partials[2] != 2 || r.Partials[3] != 2 {
			t.Fatalf("report %+v", r)
		}
		if f := r.Failed[two]; f.Reason != NoLocalSignature || f.Detail != "double vote" || fmt.Sprint(f.Missing) != "[1 2 4]" {
			t.Errorf("failure %+v", f)
		}
		if want := "attester/8: missed for 1 of 2 validators: this node did not sign what was agreed on (no_local_vc_signature): double vote"; r.Sentence() != want {
			t.Errorf("%s", r.Sentence())
		}
	}
	if r := tr.Judge(duty); r.Sentence() != "attester/8: not this node's" {
		t.Errorf("%s", r.Sentence())
	}
	tr.Observe(Event{Duty: duty, Step: Received, Keys: []cluster.PubKey{one}, Share: 2})
	if r := tr.Judge(duty); r.Scheduled || len(r.Failed) != 0 {
		t.Error("a duty that was not scheduled here was judged")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
