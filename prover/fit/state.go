package fit

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// StateSchema is the version of plan.yaml.
//
//	1  2026-11: name, profile, control, machines, runs, parked, files
const StateSchema = "provost.workers-plan/1"

// PlanFile is the name of the plan in its directory.
const PlanFile = "plan.yaml"

// maxState bounds plan.yaml: 4,096 machines in the worst order of numbers need less.
const maxState = 32 << 20

// State is the plan that is in force: what later changes start from.
type State struct {
	Schema   string `yaml:"schema"`
	Revision int    `yaml:"revision"`
	Name     string `yaml:"name"`
	Profile  string `yaml:"profile"`
	Control  string `yaml:"control"`
	// KeepFree, MaxWorkers: as given; they hold for later changes too until given anew.
	KeepFree   *int      `yaml:"keep_free,omitempty"`
	MaxWorkers int       `yaml:"max_workers,omitempty"`
	Machines   []Machine `yaml:"machines"`
	Runs       []Run     `yaml:"runs"`
	Parked     []Parked  `yaml:"parked,omitempty"`
	// Adapter holds what the profile's adapter was told, by name: paths on the machines and the like.
	Adapter map[string]string `yaml:"adapter,omitempty"`
	// Files are the SHA-256 sums of all other files as they were written, so that a change by hand is seen.
	Files map[string]string `yaml:"files"`
}

// State is what a layout leaves for later. files are those that were rendered from it.
func (l *Layout) State(files []File, adapter map[string]string) State {
	s := State{Schema: StateSchema, Revision: l.Revision, Name: l.Name, Profile: l.Profile.ID, Control: l.Control,
		KeepFree: l.params.KeepFree, MaxWorkers: l.params.MaxWorkers, Parked: l.Parked, Adapter: adapter, Files: map[string]string{}}
	for _, r := range l.Rows {
		s.Machines = append(s.Machines, r.Machine)
		s.Runs = append(s.Runs, r.Runs...)
	}
	for _, f := range files {
		s.Files[f.Path] = f.Sum()
	}
	return s
}

// Marshal writes plan.yaml.
func (s State) Marshal() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# The plan of a worker cluster. provost create workers --dir DIR starts from it when machines come or go;\n" +
		"# runs say who has which numbers. Change it with that command, not by hand.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(s); err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	return b.Bytes(), nil
}

// ErrNewer says that plan.yaml was written by a newer version.
var ErrNewer = errors.New("it was written by a newer version")

// ReadState reads plan.yaml strictly: what it says must be a plan that could have been made.
func ReadState(data []byte) (State, error) {
	if len(data) > maxState {
		return State{}, fmt.Errorf("read plan: larger than %d MiB", maxState>>20)
	}
	root, err := oneDocument(data)
	if err != nil {
		return State{}, fmt.Errorf("read plan: %w", err)
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return State{}, errors.New("read plan: it is empty")
	}
	schema := ""
	fields(root, func(k, v *yaml.Node, _ bool) {
		if k.Value == "schema" {
			schema = v.Value
		}
	})
	if schema != StateSchema {
		if strings.HasPrefix(schema, "provost.workers-plan/") {
			return State{}, fmt.Errorf("read plan: schema %q: %w", clip(schema), ErrNewer)
		}
		return State{}, fmt.Errorf("read plan: schema %q, want %q", clip(schema), StateSchema)
	}
	var s State
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return State{}, fmt.Errorf("read plan: %s", clip(strings.ReplaceAll(err.Error(), "\n", " ")))
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("read plan: %w", err)
	}
	return s, nil
}

func (s State) check() error {
	if s.Revision < 1 || s.Revision > 1<<30 {
		return fmt.Errorf("revision %d", s.Revision)
	}
	if !nameOK(s.Name) || s.Profile == "" || !printable(s.Profile) {
		return errors.New("it has no name or no profile")
	}
	if len(s.Machines) == 0 || len(s.Machines) > MaxMachines {
		return fmt.Errorf("%d machines", len(s.Machines))
	}
	var bad faults
	checkMachines(&bad, "", s.Machines)
	for _, m := range s.Machines {
		for _, why := range m.check(true) {
			bad.add("", "", "machine %s: %s", clip(m.Name), why)
		}
		if m.Cores < 0 || m.Cores > 4096 || m.Threads < 0 || m.Threads > 8192 || m.RAM > maxBytes || m.Disk > maxBytes || m.OS != "" && !slices.Contains(allOS, m.OS) || m.Workers != nil && (*m.Workers < 0 || *m.Workers > MaxWorkers) {
			bad.add("", "", "machine %s has impossible numbers", clip(m.Name))
		}
	}
	if err := bad.err(); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range s.Machines {
		known[m.Name] = true
	}
	if !known[s.Control] {
		return fmt.Errorf("control %q is none of its machines", clip(s.Control))
	}
	// Numbers and ports are counted one by one: there are few enough, and nothing can be twice then.
	total := 0
	scope := func(machine string) string { return "" }
	if s.Profile == "native" {
		scope = func(machine string) string { return machine }
	}
	type id struct {
		scope string
		n     int
	}
	numbers, offsets := map[id]bool{}, map[id]bool{}
	take := func(set map[id]bool, scope string, first, count int) bool {
		for i := range count {
			k := id{scope, first + i}
			if set[k] {
				return false
			}
			set[k] = true
		}
		return true
	}
	for _, r := range s.Runs {
		if total += max(r.Count, 0); r.Count < 1 || r.First < 1 || r.First > 1<<20 || r.Offset < 0 || r.Offset > MaxWorkers || total > MaxWorkers || !known[r.Machine] {
			return fmt.Errorf("impossible run %+v", r)
		}
		if !take(numbers, scope(r.Machine), int(r.First), r.Count) {
			return fmt.Errorf("a number of %s is given twice (%s)", r.Machine, span(int(r.First), int(r.Last())))
		}
		if !take(offsets, r.Machine, r.Offset, r.Count) {
			return fmt.Errorf("a port of %s is given twice", r.Machine)
		}
	}
	for _, p := range s.Parked {
		if total += max(p.Count, 0); p.Count < 1 || p.First < 1 || p.First > 1<<20 || total > MaxWorkers || !nameOK(p.Was) {
			return fmt.Errorf("impossible parked numbers %+v", p)
		}
		if !take(numbers, "", int(p.First), p.Count) {
			return fmt.Errorf("parked number %s is given twice", span(int(p.First), int(p.Last())))
		}
	}
	// Numbers begin at 1 and have no gap: each belongs to a worker or is parked.
	highest, taken := map[string]int{}, map[string]int{}
	for k := range numbers {
		highest[k.scope] = max(highest[k.scope], k.n)
		taken[k.scope]++
	}
	for sc, top := range highest {
		if taken[sc] != top {
			return fmt.Errorf("%d numbers of 1 to %d belong to nobody", top-taken[sc], top)
		}
	}
	for name, sum := range s.Files {
		if name != path.Clean(name) || path.IsAbs(name) || strings.HasPrefix(name, "..") || !printable(name) || len(sum) != 64 {
			return fmt.Errorf("impossible file %q", clip(name))
		}
	}
	return nil
}
