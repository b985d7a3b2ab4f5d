package fit

import (
	"fmt"
	"slices"
	"strings"
)

// Change is what a new plan changes for one machine, or for several in the same way; Machine "" is the
// cluster as a whole.
type Change struct {
	Machine string
	// Also are further machines for which the same is true.
	Also []string
	Kind string // "new", "removed", "changed", "files"
	// What has changed, in words, one thing each: numbers, ports, files.
	What []string
	// Do is what has to be done there; "" for nothing.
	Do string
}

// Who names the machines, at most that many of them; 0: all.
func (c Change) Who(most int) string {
	if c.Machine == "" {
		return "all"
	}
	names := append([]string{c.Machine}, c.Also...)
	if most > 0 && len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Text is the change on one line.
func (c Change) Text() string {
	s := strings.Join(c.What, "; ")
	if c.Do != "" {
		s += ". To do: " + c.Do
	}
	return s
}

// Changes compares a plan with the one before. old and files are what both rendered to; a path that is
// missing in old is new. Nothing is given for machines to which nothing happens.
func Changes(before State, l *Layout, files []File) []Change {
	var out []Change
	oldRuns := map[string][]Run{}
	for _, r := range before.Runs {
		oldRuns[r.Machine] = append(oldRuns[r.Machine], r)
	}
	oldMachine := map[string]Machine{}
	for _, m := range before.Machines {
		oldMachine[m.Name] = m
	}
	oldControl, newControl := oldMachine[before.Control], l.Row(l.Control).Machine
	newRows := map[string]*Row{}
	for i := range l.Rows {
		newRows[l.Rows[i].Machine.Name] = &l.Rows[i]
	}
	rules := l.Profile.Ports
	changed := fileChanges(before, files)

	// The cluster as a whole.
	var whole Change
	whole.Kind = "changed"
	listChanged := l.Profile.Remote && addressList(rules, before.Machines, before.Runs, before.Parked) != addressList(rules, l.machines(), l.runs(), l.Parked)
	if n, m := countRuns(before.Runs), l.Workers; n != m {
		whole.What = append(whole.What, fmt.Sprintf("workers %s -> %s", thousands(n), thousands(m)))
	}
	if before.Control != l.Control && l.Profile.Remote {
		whole.What = append(whole.What, fmt.Sprintf("control process moves from %s to %s", before.Control, l.Control))
		whole.Do = "stop it on " + before.Control + " for good before it starts on " + l.Control + ", and bring its keys and store"
	}
	if listChanged {
		whole.What = append(whole.What, "the address list changes")
		if whole.Do != "" {
			whole.Do += "; give all machines the new list before it does"
		} else {
			whole.Do = "give all machines the new list, then start the control process on " + l.Control + " anew; no worker whose number stays needs a restart"
		}
	}
	for i, m := range movesText(l.Moved) {
		if i == 12 {
			whole.What = append(whole.What, "and others")
			break
		}
		whole.What = append(whole.What, m)
	}
	if len(whole.What) > 0 {
		out = append(out, whole)
	}

	for _, m := range before.Machines {
		if newRows[m.Name] != nil {
			continue
		}
		c := Change{Machine: m.Name, Kind: "removed"}
		if runs := oldRuns[m.Name]; len(runs) > 0 {
			c.What = append(c.What, "leaves with the numbers "+Numbers(runs))
			c.Do = "stop its workers and take its units away"
			if l.Profile.Remote {
				c.Do += "; take its firewall rules back (" + oldRules(before, m.Name) + ")"
			}
		} else {
			c.What = append(c.What, "leaves; it ran no worker")
		}
		out = append(out, c)
	}
	for i := range l.Rows {
		r := &l.Rows[i]
		name := r.Machine.Name
		was, known := oldMachine[name]
		if !known {
			c := Change{Machine: name, Kind: "new"}
			if r.Workers == 0 {
				c.What = append(c.What, "joins without a worker")
			} else {
				c.What = append(c.What, "joins with the numbers "+r.Numbers()+portWords(l.Spans(r)))
				c.Do = "give it what it needs, then start its workers (machines/" + name + "/README.txt)"
			}
			out = append(out, c)
			continue
		}
		c := Change{Machine: name, Kind: "changed"}
		// In this order they are safe to do: what is new listens when its rules are there.
		var stop, walls, start []string
		oldR, newR := oldRuns[name], r.Runs
		gone, come := minus(oldR, newR), minus(newR, oldR)
		if len(gone) > 0 {
			c.What = append(c.What, "gives up the numbers "+Numbers(gone))
			stop = append(stop, "stop workers "+Numbers(gone))
		}
		if len(come) > 0 {
			c.What = append(c.What, "gets the numbers "+Numbers(come))
			start = append(start, "start workers "+Numbers(come))
		}
		if was.Address != r.Machine.Address || was.IP != r.Machine.IP || was.Announce != r.Machine.Announce {
			c.What = append(c.What, fmt.Sprintf("address %s -> %s", where(was), where(r.Machine)))
			if l.Profile.Remote {
				start = []string{"restart all its workers"}
			}
		}
		oldSpans, newSpans := fmt.Sprint(spans(rules, oldR)), fmt.Sprint(spans(rules, newR))
		source := l.Profile.Remote && l.Profile.Exposure == FromControl && oldControl.ip() != newControl.ip()
		if oldSpans != newSpans || source {
			if oldSpans != newSpans && len(rules) > 0 {
				c.What = append(c.What, "ports "+list(spans(rules, oldR))+" -> "+list(spans(rules, newR)))
			}
			if source {
				c.What = append(c.What, fmt.Sprintf("its ports open to %s instead of %s", newControl.ip(), oldControl.ip()))
			}
			if l.Profile.Remote {
				walls = append(walls, "take the old firewall rules back ("+oldRules(before, name)+") and apply the new ones")
			}
		}
		do := slices.Concat(stop, walls, start)
		if names := changed[name]; len(names) > 0 {
			c.What = append(c.What, "files: "+strings.Join(names, ", "))
			bring := "bring the files over and apply them as its README.txt says"
			if len(do) == 0 {
				c.Kind = "files"
				if listChanged && !slices.ContainsFunc(names, applied) {
					bring = "bring the files over; nothing restarts"
				}
			} else if !slices.ContainsFunc(names, applied) {
				bring = "bring the files over"
			}
			do = slices.Concat(stop, []string{bring}, walls, start)
		}
		c.Do = strings.Join(do, "; ")
		if len(c.What) == 0 {
			continue
		}
		// Of machines to which the same happens one line tells.
		if i := slices.IndexFunc(out, func(o Change) bool { return o.Kind == "files" && c.Kind == "files" && o.Text() == c.Text() }); i >= 0 {
			out[i].Also = append(out[i].Also, name)
			continue
		}
		out = append(out, c)
	}
	return out
}

// oldRules is where the rules of before are told.
func oldRules(before State, machine string) string {
	return fmt.Sprintf("old/%04d/%s/firewall/README.txt", before.Revision, MachineDir(machine))
}

// where is a machine's address in words.
func where(m Machine) string {
	s := m.Address
	if m.IP != "" && m.IP != m.Address {
		s += " (" + m.IP + ")"
	}
	if m.Announce != "" {
		s += ", announced as " + m.Announce
	}
	return s
}

func countRuns(runs []Run) int {
	n := 0
	for _, r := range runs {
		n += r.Count
	}
	return n
}

func (l *Layout) machines() []Machine {
	var out []Machine
	for _, r := range l.Rows {
		out = append(out, r.Machine)
	}
	return out
}

func (l *Layout) runs() []Run {
	var out []Run
	for _, r := range l.Rows {
		out = append(out, r.Runs...)
	}
	return out
}

// addressList is a form of the whole list that changes when an entry of it does.
func addressList(rules []PortRule, machines []Machine, runs []Run, parked []Parked) string {
	addr := map[string]string{}
	for _, m := range machines {
		addr[m.Name] = m.Address + " " + m.IP + " " + m.Announce
	}
	var lines []string
	for _, r := range runs {
		for i := range r.Count {
			lines = append(lines, fmt.Sprintf("%08d %s %d", int(r.First)+i, addr[r.Machine], r.Offset+i))
		}
	}
	for _, p := range parked {
		for i := range p.Count {
			lines = append(lines, fmt.Sprintf("%08d -", int(p.First)+i))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// minus gives the numbers of a that b has not.
func minus(a, b []Run) []Run {
	in := map[Core]bool{}
	for _, r := range b {
		for i := range r.Count {
			in[r.First+Core(i)] = true
		}
	}
	var out []Run
	for _, r := range a {
		for i := range r.Count {
			if c := r.First + Core(i); !in[c] {
				out = append(out, Run{Machine: r.Machine, First: c, Count: 1, Offset: r.Offset + i})
			}
		}
	}
	return out
}

func list(s []PortSpan) string {
	if len(s) == 0 {
		return "none"
	}
	var out []string
	for _, p := range s {
		out = append(out, p.String())
	}
	return strings.Join(out, " ")
}

func portWords(s []PortSpan) string {
	if len(s) == 0 {
		return ""
	}
	return ", ports " + list(s)
}

// applied tells whether a file of a machine has to be put somewhere before it counts: all but the node's
// settings, which are read where the files are brought, and the script that is run there.
func applied(name string) bool { return !strings.HasPrefix(name, "config/") && name != "start.sh" }

// fileChanges names, for each machine, the files of its directory that differ from those of the plan before.
func fileChanges(before State, files []File) map[string][]string {
	out := map[string][]string{}
	split := func(p string) (machine, name string, ok bool) {
		rest, ok := strings.CutPrefix(p, MachineDir(""))
		machine, name, below := strings.Cut(rest, "/")
		return machine, name, ok && below
	}
	seen := map[string]bool{}
	for _, f := range files {
		machine, name, ok := split(f.Path)
		if !ok {
			continue
		}
		seen[f.Path] = true
		if name != "README.txt" && before.Files[f.Path] != f.Sum() {
			out[machine] = append(out[machine], name)
		}
	}
	for p := range before.Files {
		if machine, name, ok := split(p); ok && !seen[p] {
			out[machine] = append(out[machine], name+" (goes)")
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// ChangesText is the file of a revision's changes.
func ChangesText(l *Layout, changes []Change) string {
	var b strings.Builder
	b.WriteString(wrap("", fmt.Sprintf("What revision %d of %s changed. The files as they were before are in old/%04d.", l.Revision, l.Name, l.Revision-1)))
	for _, c := range changes {
		b.WriteString("\n" + item(c.Who(0)+" ("+c.Kind+"): "+c.Text()))
	}
	return b.String()
}
