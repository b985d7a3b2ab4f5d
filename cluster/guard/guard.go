// Package guard keeps a node from signing anything that gets a validator slashed.
//
// Promises. Every answer is no until it was made yes: the zero Answer refuses, and so does every
// answer beside an error. What CheckAndRecord allowed is on disk (fsync) before it returns, so a
// signature that waits for it cannot be forgotten, whatever dies. The rules are the minimal ones of
// EIP-3076: an attestation needs a newer target and no older source than all before, a block a newer
// slot; only the very same message (same signing root) may be signed again. What lies too far in the
// future is refused too, since recording it would silence the key.
//
// Nothing is ever lowered, forgotten or overwritten: importing raises marks, and a file that is
// damaged, of another chain or of a newer format is left as it is and refused. One process at a time
// holds the file.
//
// Methods may be called from any goroutine. They block on the disk and on each other, but stop
// waiting when their context ends. Records are kept per group public key, not per share, so they
// outlive a change of operators and can be exported for the validator itself.
//
// One file, guard.db (bbolt). All numbers in keys are big endian; behind each value's key stands
// value and CRC-32C of key and value, in front of it.
//
//	guard.db
//	├── meta   (values are sealed as all others)
//	│   ├── format                   version of this tree, decimal text
//	│   ├── genesis_validators_root  32 bytes: the chain
//	│   ├── instance                 16 random bytes, made with the file
//	│   ├── created                  RFC 3339, UTC
//	│   └── keys                     uvarint: how many entries "keys" has
//	├── keys   number (4 bytes) → group public key (48 bytes)
//	├── marks  number (4 bytes) → flags, slot, source, target: see encodeMarks
//	└── log    number (8 bytes, no gaps) → one batch of votes and blocks: see encodeBatch
//
// The marks of a key are the highest of its entry in marks and its votes in the log. The log keeps
// 512 epochs; a batch that leaves it raises marks in the same transaction.
//
// Format 1, 2026-11-20: the first.
package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"app.provost/cluster"

	bolt "go.etcd.io/bbolt"
)

// Keep is how many epochs of votes are kept with their signing roots.
const Keep = 512

// Verdict says whether a message may be signed. The zero value is no.
type Verdict string

// Verdicts.
const (
	Refused Verdict = ""
	Allowed Verdict = "allowed" // new, and now recorded if it was asked to be
	Repeat  Verdict = "repeat"  // the very same message was recorded before
)

// String names the zero value "refused".
func (v Verdict) String() string { return cmp.Or(string(v), "refused") }

// Reason says why a message was refused. The zero value is no reason: nobody was asked.
type Reason string

// Reasons.
const (
	ReasonUnknownKey     Reason = "unknown_key"
	ReasonDoubleVote     Reason = "double_vote"
	ReasonOldTarget      Reason = "old_target"
	ReasonOldSource      Reason = "old_source"
	ReasonInvalidVote    Reason = "invalid_vote"
	ReasonDoubleProposal Reason = "double_proposal"
	ReasonOldSlot        Reason = "old_slot"
	ReasonFarFuture      Reason = "far_future"
	ReasonStore          Reason = "store"
)

// Answer is the answer for one message.
type Answer struct {
	Verdict Verdict
	Reason  Reason // of a refusal
	Detail  string // of a refusal, for people
	// From is the first epoch in which the key may sign such a message, when nothing that was signed
	// here refuses it but only what is assumed; nil otherwise.
	From *cluster.Epoch
}

// OK tells whether the message may be signed.
func (a Answer) OK() bool { return a.Verdict == Allowed || a.Verdict == Repeat }

// Err is nil when the message may be signed.
func (a Answer) Err() error {
	if a.OK() {
		return nil
	}
	return fmt.Errorf("not signed (%s): %s", cmp.Or(a.Reason, "not_asked"), cmp.Or(a.Detail, "slashing protection was not asked"))
}

// Attestation is a vote that a validator is about to sign. Root is the signing root, with the domain
// in it; a zero one is never a repeat.
type Attestation struct {
	Key            cluster.PubKey
	Source, Target cluster.Epoch
	Root           cluster.Root
}

// Block is a proposal that a validator is about to sign.
type Block struct {
	Key  cluster.PubKey
	Slot cluster.Slot
	Root cluster.Root
}

// Batch is all that is to be signed together, usually everything of one slot.
type Batch struct {
	Attestations []Attestation
	Blocks       []Block
}

// Answers has one answer for each message, in the batch's order.
type Answers struct {
	Attestations []Answer
	Blocks       []Answer
}

// Marks are the highest numbers that a key has signed or must not sign below.
type Marks struct {
	HasAttestation bool
	Source, Target cluster.Epoch // an attestation needs source >= Source and target > Target
	HasBlock       bool
	Slot           cluster.Slot // a block needs a slot > Slot
}

// raise returns the higher of both, part by part.
func (m Marks) raise(o Marks) Marks {
	if o.HasAttestation {
		m.HasAttestation = true
		m.Source, m.Target = max(m.Source, o.Source), max(m.Target, o.Target)
	}
	if o.HasBlock {
		m.HasBlock = true
		m.Slot = max(m.Slot, o.Slot)
	}
	return m
}

// Beginning says what is assumed of a key that the guard has never seen.
type Beginning string

// Beginnings; the zero value is the careful one.
const (
	// Fenced keys may have signed elsewhere until now: they sign from the second epoch after this one.
	Fenced Beginning = ""
	// Unused keys have certainly never signed: they were made for this cluster.
	Unused Beginning = "unused"
)

type vote struct {
	source, target cluster.Epoch
	root           cluster.Root
}

type proposal struct {
	slot cluster.Slot
	root cluster.Root
}

// record is what is known of one key. Votes and blocks are in ascending order, at most Keep epochs.
type record struct {
	pub    cluster.PubKey
	marks  Marks
	votes  []*vote // shared by all keys that voted the same
	blocks []proposal
}

// Guard is an open file. Close it.
type Guard struct {
	o        Options
	db       *bolt.DB
	instance [16]byte

	turn chan struct{} // held by whoever uses what is below

	records []*record // by number
	byKey   map[cluster.PubKey]uint32
	next    uint64 // number of the next batch in the log
	first   uint64 // number of the oldest batch in the log
	oldest  cluster.Epoch
	newest  cluster.Epoch // of all recorded
	failed  error         // a write failed in a way after which nothing may be believed
	closed  bool
	stats   Stats
}

// Stats says what the guard has done since it was opened.
type Stats struct {
	Keys      int
	Commits   uint64
	Slowest   time.Duration // of a commit with its fsync
	Allowed   uint64
	Repeated  uint64
	Refused   uint64
	FileBytes int64
}

func (g *Guard) lock(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return &Error{Code: CodeBusy, File: g.path(), Err: ctx.Err()}
	}
	switch {
	case g.closed:
		g.unlock()
		return &Error{Code: CodeClosed, File: g.path(), Err: errors.New("the guard is closed")}
	case g.failed != nil:
		g.unlock()
		return g.failed
	}
	return nil
}

func (g *Guard) unlock() { <-g.turn }

// Instance is a random name of the file: a copy of it has the same, a new one never.
func (g *Guard) Instance() [16]byte { return g.instance }

// Check says what CheckAndRecord would say now, and records nothing. It is for a node that is about
// to vote for a value that it would have to sign; the answer is no promise. With an error all
// answers are no.
func (g *Guard) Check(ctx context.Context, b Batch) (Answers, error) {
	if err := g.lock(ctx); err != nil {
		return refuseAll(b, err), err
	}
	defer g.unlock()
	out, undo := g.judge(b, nil)
	undo()
	return out, nil
}

// CheckAndRecord says which messages may be signed, after it has made durable that they are. All of
// a batch is one transaction and one fsync. Messages that were refused don't touch the others. With
// an error all answers are no and nothing was recorded, or nothing more can be.
func (g *Guard) CheckAndRecord(ctx context.Context, b Batch) (Answers, error) {
	if err := g.lock(ctx); err != nil {
		return refuseAll(b, err), err
	}
	defer g.unlock()
	rec := &batch{at: time.Now()}
	out, undo := g.judge(b, rec)
	if !rec.empty() {
		if err := g.commit(rec); err != nil {
			undo()
			return refuseAll(b, err), err
		}
	}
	for _, list := range [][]Answer{out.Attestations, out.Blocks} {
		for _, a := range list {
			switch a.Verdict {
			case Allowed:
				g.stats.Allowed++
			case Repeat:
				g.stats.Repeated++
			default:
				g.stats.Refused++
			}
		}
	}
	return out, nil
}

func refuseAll(b Batch, err error) Answers {
	no := Answer{Reason: ReasonStore, Detail: err.Error()}
	return Answers{Attestations: slices.Repeat([]Answer{no}, len(b.Attestations)), Blocks: slices.Repeat([]Answer{no}, len(b.Blocks))}
}

// judge answers a batch in order, each message knowing those before it. What it allows is noted in
// rec, if there is one, and in memory; undo takes that back.
func (g *Guard) judge(b Batch, rec *batch) (out Answers, undo func()) {
	type step struct {
		r      *record
		marks  Marks
		votes  []*vote
		blocks []proposal
	}
	newest := g.newest
	steps := make([]step, 0, len(b.Attestations)+len(b.Blocks))
	undo = func() {
		for _, s := range slices.Backward(steps) {
			s.r.marks, s.r.votes, s.r.blocks = s.marks, s.votes, s.blocks
		}
		g.newest = newest
	}
	now := g.now()
	groups := map[vote]*vote{}
	var shared *vote
	out.Attestations = make([]Answer, len(b.Attestations))
	for i, a := range b.Attestations {
		n, known := g.byKey[a.Key]
		if !known {
			out.Attestations[i] = unknown(a.Key)
			continue
		}
		r := g.records[n]
		out.Attestations[i] = r.judgeVote(a, now)
		if out.Attestations[i].Verdict != Allowed {
			continue
		}
		steps = append(steps, step{r: r, marks: r.marks, votes: r.votes, blocks: r.blocks})
		v := vote{a.Source, a.Target, a.Root}
		if shared == nil || *shared != v { // nearly all of a slot are the same
			if shared = groups[v]; shared == nil {
				shared = &vote{a.Source, a.Target, a.Root}
				groups[v] = shared
			}
		}
		g.note(r, shared, nil)
		if rec != nil {
			rec.vote(v, n)
		}
	}
	out.Blocks = make([]Answer, len(b.Blocks))
	for i, p := range b.Blocks {
		n, known := g.byKey[p.Key]
		if !known {
			out.Blocks[i] = unknown(p.Key)
			continue
		}
		r := g.records[n]
		out.Blocks[i] = r.judgeBlock(p, now)
		if out.Blocks[i].Verdict != Allowed {
			continue
		}
		steps = append(steps, step{r: r, marks: r.marks, votes: r.votes, blocks: r.blocks})
		q := proposal{p.Slot, p.Root}
		g.note(r, nil, &q)
		if rec != nil {
			rec.block(q, n)
		}
	}
	return out, undo
}

// note adds an allowed message to what is in memory. Slices only grow at their end or lose their
// head, so that what undo kept stays whole.
func (g *Guard) note(r *record, v *vote, p *proposal) {
	if v != nil {
		r.marks = r.marks.raise(Marks{HasAttestation: true, Source: v.source, Target: v.target})
		r.votes = append(r.votes, v)
		if old := r.votes[0].target + Keep; old < v.target {
			r.votes = trim(r.votes, func(o *vote) bool { return o.target+Keep < v.target })
		}
		g.newest = max(g.newest, v.target)
	}
	if p != nil {
		r.marks = r.marks.raise(Marks{HasBlock: true, Slot: p.slot})
		r.blocks = append(r.blocks, *p)
		epoch := g.o.Clock.Epoch(p.slot)
		if old := g.o.Clock.Epoch(r.blocks[0].slot) + Keep; old < epoch {
			r.blocks = trim(r.blocks, func(o proposal) bool { return g.o.Clock.Epoch(o.slot)+Keep < epoch })
		}
		g.newest = max(g.newest, epoch)
	}
}

// trim drops the old ones in front. What append does when the array is full gives the dead part back.
func trim[T any](list []T, old func(T) bool) []T {
	n := 0
	for n < len(list) && old(list[n]) {
		n++
	}
	return list[n:len(list):cap(list)]
}

func unknown(k cluster.PubKey) Answer {
	return Answer{Reason: ReasonUnknownKey, Detail: fmt.Sprintf("validator %s has no slashing protection here: register it, with its history if it has signed elsewhere", k)}
}

type present struct {
	epoch cluster.Epoch
	slot  cluster.Slot
	clock cluster.SlotClock
}

// now is the present by the clock; before genesis it is slot 0.
func (g *Guard) now() present {
	slot, _ := g.o.Clock.At(time.Now())
	return present{epoch: g.o.Clock.Epoch(slot), slot: slot, clock: g.o.Clock}
}

// waits is a refusal that passes by itself.
func waits(a Answer, from cluster.Epoch) Answer {
	a.From = &from
	return a
}

func (r *record) judgeVote(a Attestation, now present) Answer {
	no := func(reason Reason, format string, args ...any) Answer {
		return Answer{Reason: reason, Detail: fmt.Sprintf("attestation of source %d and target %d by %s: ", a.Source, a.Target, r.pub) + fmt.Sprintf(format, args...)}
	}
	if a.Source > a.Target {
		return no(ReasonInvalidVote, "its source is after its target")
	}
	i, found := len(r.votes), false
	if i > 0 && r.votes[i-1].target >= a.Target { // else it is newer than all, as it should be
		i, found = slices.BinarySearchFunc(r.votes, a.Target, func(v *vote, t cluster.Epoch) int { return cmp.Compare(v.target, t) })
	}
	if found {
		if old := r.votes[i]; old.root == a.Root && old.source == a.Source && a.Root != (cluster.Root{}) {
			return Answer{Verdict: Repeat}
		}
		return no(ReasonDoubleVote, "another one for the same target was signed")
	}
	if r.marks.HasAttestation && a.Target <= r.marks.Target {
		if i == len(r.votes) && a.Target+1 >= now.epoch { // no newer vote is known
			return waits(no(ReasonOldTarget, "it is not known what was signed up to epoch %d: nothing is signed before epoch %d", r.marks.Target, r.marks.Target+1), r.marks.Target+1)
		}
		return no(ReasonOldTarget, "a target of %d was signed or is assumed", r.marks.Target)
	}
	if r.marks.HasAttestation && a.Source < r.marks.Source {
		return no(ReasonOldSource, "a source of %d was signed or is assumed, so it might surround that vote", r.marks.Source)
	}
	if a.Target > now.epoch+1 {
		return no(ReasonFarFuture, "by the clock of this machine it is epoch %d: check the clock, and whether the beacon node follows the right chain", now.epoch)
	}
	return Answer{Verdict: Allowed}
}

func (r *record) judgeBlock(p Block, now present) Answer {
	no := func(reason Reason, format string, args ...any) Answer {
		return Answer{Reason: reason, Detail: fmt.Sprintf("block of slot %d by %s: ", p.Slot, r.pub) + fmt.Sprintf(format, args...)}
	}
	i, found := slices.BinarySearchFunc(r.blocks, p.Slot, func(b proposal, s cluster.Slot) int { return cmp.Compare(b.slot, s) })
	if found {
		if r.blocks[i].root == p.Root && p.Root != (cluster.Root{}) {
			return Answer{Verdict: Repeat}
		}
		return no(ReasonDoubleProposal, "another one for the same slot was signed")
	}
	if r.marks.HasBlock && p.Slot <= r.marks.Slot {
		if from := now.clock.Epoch(r.marks.Slot + 1); i == len(r.blocks) && p.Slot+cluster.Slot(now.clock.SlotsPerEpoch) >= now.slot {
			return waits(no(ReasonOldSlot, "it is not known what was signed up to slot %d: nothing is signed before epoch %d", r.marks.Slot, from), from)
		}
		return no(ReasonOldSlot, "one of slot %d was signed or is assumed", r.marks.Slot)
	}
	if p.Slot > now.slot+1 {
		return no(ReasonFarFuture, "by the clock of this machine it is slot %d: check the clock, and whether the beacon node follows the right chain", now.slot)
	}
	return Answer{Verdict: Allowed}
}

// Marks returns the marks of a key; false when the key is not registered.
func (g *Guard) Marks(ctx context.Context, key cluster.PubKey) (Marks, bool, error) {
	if err := g.lock(ctx); err != nil {
		return Marks{}, false, err
	}
	defer g.unlock()
	n, ok := g.byKey[key]
	if !ok {
		return Marks{}, false, nil
	}
	return g.records[n].marks, true, nil
}

// Register makes keys known. A key that is known already keeps what is recorded of it. Fenced keys
// may sign attestations with a target of two epochs from now, and blocks of its first slot, at the
// earliest.
func (g *Guard) Register(ctx context.Context, keys []cluster.PubKey, as Beginning) error {
	if as != Fenced && as != Unused {
		return fmt.Errorf("register validators: beginning %q is not known", as)
	}
	if err := g.lock(ctx); err != nil {
		return err
	}
	defer g.unlock()
	var marks Marks
	if as == Fenced {
		e := g.now().epoch + 1
		marks = Marks{HasAttestation: true, Target: e, HasBlock: true, Slot: g.o.Clock.First(e+1) - 1}
	}
	raised := map[cluster.PubKey]Marks{}
	for _, k := range keys {
		if _, known := g.byKey[k]; !known {
			raised[k] = marks
		}
	}
	return g.raise(raised)
}

// Fence raises the marks of keys as if they had been signing elsewhere until now, with their newest
// votes unknown here: it is for a file that is older than what was signed. The first epoch for which
// they may sign again is returned. No vote from then on can contradict one that was made before: its
// target and slot are newer, and its source is no older than now. So while the chain justifies
// nothing the keys stay silent.
func (g *Guard) Fence(ctx context.Context, keys []cluster.PubKey) (first cluster.Epoch, err error) {
	if err := g.lock(ctx); err != nil {
		return 0, err
	}
	defer g.unlock()
	e := g.now().epoch
	first = e + 2
	raised := map[cluster.PubKey]Marks{}
	for _, k := range keys {
		raised[k] = Marks{HasAttestation: true, Source: e, Target: first - 1, HasBlock: true, Slot: g.o.Clock.First(first) - 1}
	}
	return first, g.raise(raised)
}

// Raise lifts the marks of keys, never lowers them, and registers keys that are not known. It is for
// what other nodes or other programs know of a key. Marks in the far future are refused as a whole.
func (g *Guard) Raise(ctx context.Context, marks map[cluster.PubKey]Marks) error {
	if err := g.lock(ctx); err != nil {
		return err
	}
	defer g.unlock()
	if err := g.believable(marks); err != nil {
		return err
	}
	return g.raise(marks)
}

// believable refuses marks that would silence a key for good.
func (g *Guard) believable(marks map[cluster.PubKey]Marks) error {
	now := g.now()
	for k, m := range marks {
		if m.HasAttestation && max(m.Source, m.Target) > now.epoch+1 || m.HasBlock && m.Slot > now.slot+1 {
			return &Error{Code: CodeFarFuture, File: g.path(), Err: fmt.Errorf("validator %s is said to have signed source %d, target %d, block %d, and by the clock it is epoch %d, slot %d",
				k, m.Source, m.Target, m.Slot, now.epoch, now.slot)}
		}
	}
	return nil
}

// Stats returns a copy of the counters.
func (g *Guard) Stats(ctx context.Context) (Stats, error) {
	if err := g.lock(ctx); err != nil {
		return Stats{}, err
	}
	defer g.unlock()
	s := g.stats
	s.Keys = len(g.records)
	s.FileBytes = g.fileBytes()
	return s, nil
}

// Close waits for a commit under way and lets go of the file.
func (g *Guard) Close() error {
	g.turn <- struct{}{}
	defer g.unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	if err := g.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", g.path(), err)
	}
	return nil
}
