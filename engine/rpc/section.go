package rpc

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"app.provost/engine"
)

// section reaches one section of a snapshot by its name.
type section struct {
	name engine.SectionName
	get  func(*engine.Snapshot) any // nil when the section is nil
	move func(to, from *engine.Snapshot)
}

func field[T any](name engine.SectionName, at func(*engine.Snapshot) **T) section {
	return section{
		name: name,
		get: func(s *engine.Snapshot) any {
			if p := *at(s); p != nil {
				return p
			}
			return nil
		},
		move: func(to, from *engine.Snapshot) { *at(to) = *at(from) },
	}
}

// sections is engine.SectionNames with a way to each (held to it by a test).
var sections = []section{
	field(engine.SecEngine, func(s *engine.Snapshot) **engine.One[engine.Info] { return &s.Engine }),
	field(engine.SecVerdict, func(s *engine.Snapshot) **engine.One[engine.Verdict] { return &s.Verdict }),
	field(engine.SecMachines, func(s *engine.Snapshot) **engine.Section[engine.MachineRow] { return &s.Machines }),
	field(engine.SecWorkers, func(s *engine.Snapshot) **engine.Section[engine.WorkerRow] { return &s.Workers }),
	field(engine.SecGPUs, func(s *engine.Snapshot) **engine.Section[engine.GPURow] { return &s.GPUs }),
	field(engine.SecJobs, func(s *engine.Snapshot) **engine.Jobs { return &s.Jobs }),
	field(engine.SecNodes, func(s *engine.Snapshot) **engine.Section[engine.NodeRow] { return &s.Nodes }),
	field(engine.SecClusters, func(s *engine.Snapshot) **engine.Section[engine.ClusterRow] { return &s.Clusters }),
	field(engine.SecDuties, func(s *engine.Snapshot) **engine.Section[engine.DutyRow] { return &s.Duties }),
	field(engine.SecValidators, func(s *engine.Snapshot) **engine.Section[engine.ValidatorRow] { return &s.Validators }),
	field(engine.SecPeers, func(s *engine.Snapshot) **engine.Section[engine.PeerRow] { return &s.Peers }),
	field(engine.SecBeacons, func(s *engine.Snapshot) **engine.Section[engine.BeaconRow] { return &s.Beacons }),
	field(engine.SecActs, func(s *engine.Snapshot) **engine.Section[engine.ActRow] { return &s.Acts }),
	field(engine.SecAlerts, func(s *engine.Snapshot) **engine.Section[engine.Finding] { return &s.Alerts }),
	field(engine.SecSources, func(s *engine.Snapshot) **engine.Section[engine.SourceRow] { return &s.Sources }),
	field(engine.SecTrends, func(s *engine.Snapshot) **engine.Section[engine.Trend] { return &s.Trends }),
}

// encoder turns snapshots into frames. Sections are immutable, so the newest
// bytes of each are kept and serve every viewer. Safe for concurrent use: viewers
// that want the same section at once wait for one encoding.
type encoder struct {
	slots [32]struct {
		sync.Mutex
		of   any // the section that data is the JSON of
		data []byte
	}
}

// section gives the JSON of one section. The bytes must not be written to.
func (e *encoder) section(i int, v any) ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	slot := &e.slots[i]
	slot.Lock()
	defer slot.Unlock()
	if slot.of == v {
		return slot.data, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode section %s: %w", sections[i].name, err)
	}
	slot.of, slot.data = v, data
	return data, nil
}

// forget frees the kept bytes; called when the last viewer has gone.
func (e *encoder) forget() {
	for i := range e.slots {
		slot := &e.slots[i]
		slot.Lock()
		slot.of, slot.data = nil, nil
		slot.Unlock()
	}
}

// frame gives the parts of a frame's JSON, to be written one after the other:
// what of u differs from the snapshot that this stream carried last (nil: none).
func (e *encoder) frame(last *engine.Snapshot, u engine.Update) ([][]byte, error) {
	s := u.Snapshot
	head, err := json.Marshal(struct {
		Schema  string               `json:"schema"`
		Gen     uint64               `json:"gen"`
		At      any                  `json:"at"`
		Changed []engine.SectionName `json:"changed"`
		Carries []engine.SectionName `json:"carries"`
	}{s.Schema, s.Gen, s.At, u.Changed, carries(last, s)})
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	out := [][]byte{head[:len(head)-1]}
	for i, sec := range sections {
		if !differs(last, s, sec) {
			continue
		}
		data, err := e.section(i, sec.get(s))
		if err != nil {
			return nil, err
		}
		out = append(out, []byte(`,"`+string(sec.name)+`":`), data)
	}
	return append(out, []byte("}")), nil
}

// whole gives the parts of a full snapshot's JSON.
func (e *encoder) whole(s *engine.Snapshot) ([][]byte, error) {
	head, err := json.Marshal(struct {
		Schema string `json:"schema"`
		Gen    uint64 `json:"gen"`
		At     any    `json:"at"`
	}{s.Schema, s.Gen, s.At})
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	out := [][]byte{head[:len(head)-1]}
	for i, sec := range sections {
		data, err := e.section(i, sec.get(s))
		if err != nil {
			return nil, err
		}
		out = append(out, []byte(`,"`+string(sec.name)+`":`), data)
	}
	return append(out, []byte("}")), nil
}

func carries(last, now *engine.Snapshot) []engine.SectionName {
	out := []engine.SectionName{}
	for _, sec := range sections {
		if differs(last, now, sec) {
			out = append(out, sec.name)
		}
	}
	return out
}

// differs tells whether a section must travel. Equal versions are equal content;
// a section that came or went has no version to go by.
func differs(last, now *engine.Snapshot, sec section) bool {
	if last == nil {
		return true
	}
	a, b := sec.get(last), sec.get(now)
	if a == nil || b == nil {
		return (a == nil) != (b == nil)
	}
	return a != b && last.Version(sec.name) != now.Version(sec.name)
}

// mirror is the dialling side's copy of the newest snapshot.
type mirror struct {
	last *engine.Snapshot
}

// apply reads a frame's JSON into a new snapshot. What the frame does not carry
// stays the very same section as before.
func (m *mirror) apply(data []byte) (*engine.Snapshot, []engine.SectionName, error) {
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, nil, fmt.Errorf("read snapshot event: %w", err)
	}
	if f.Schema != engine.SnapshotSchema {
		return nil, nil, fmt.Errorf("read snapshot event: schema is %q, this side reads %s", f.Schema, engine.SnapshotSchema)
	}
	now := f.Snapshot
	for _, sec := range sections {
		if slices.Contains(f.Carries, sec.name) {
			continue
		}
		if m.last != nil {
			sec.move(&now, m.last)
		} else {
			sec.move(&now, &engine.Snapshot{})
		}
	}
	m.last = &now
	return m.last, f.Changed, nil
}
