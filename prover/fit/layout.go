package fit

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Run is a stretch of workers on one machine with consecutive numbers and consecutive ports.
type Run struct {
	Machine string `yaml:"machine"`
	First   Core   `yaml:"first"`
	Count   int    `yaml:"count"`
	// Offset of the first one's ports from the bases of the profile.
	Offset int `yaml:"offset"`
}

// Last is the number of its last worker.
func (r Run) Last() Core { return r.First + Core(r.Count) - 1 }

// Parked is a stretch of numbers whose machine was taken away. They stay in the address list, where
// nobody answers, so that the numbers after them stay what they are.
type Parked struct {
	Was   string `yaml:"was"`
	First Core   `yaml:"first"`
	Count int    `yaml:"count"`
}

// Last is its last number.
func (p Parked) Last() Core { return p.First + Core(p.Count) - 1 }

// Params say what is wanted.
type Params struct {
	Name     string // of the cluster
	Profile  Profile
	Machines []Machine
	// Control is the machine of the control process; "" for the one of the plan before, else the first.
	Control string
	// KeepFree processors instead of the profile's number.
	KeepFree *int
	// MaxWorkers caps the plan; giving it also says that a number above the profile's limit is meant.
	MaxWorkers int
	// FillHoles gives parked numbers to workers that come new; Renumber closes holes by moving the last workers into them.
	FillHoles, Renumber bool
	// Blame is the flag that problems of single machines are put to; "" for "inventory".
	Blame string
}

// Row is one machine of a plan.
type Row struct {
	Machine Machine
	Control bool
	// Units counts what workers are given: threads or cores. Kept are those kept free.
	Units, Kept int
	Workers     int
	// Runs are its workers, in the order of their numbers.
	Runs []Run
	// Bound says what keeps it from more: "cores", "memory", "disk", "set", "limit".
	Bound string
	// OK is false when Check warns.
	OK    bool
	Check string
	// Need and Have are the memory of workers, control process and system, and that of the machine (0: not told).
	Need, Have Bytes
}

// PortSpan is a stretch of ports of one machine.
type PortSpan struct {
	Use, Proto  string
	First, Last int
}

// String is "40000-40061" or "40000".
func (s PortSpan) String() string {
	if s.First == s.Last {
		return fmt.Sprint(s.First)
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

// Layout is a plan: who runs which workers.
type Layout struct {
	Name     string
	Profile  Profile
	Control  string
	Revision int // from 1
	Rows     []Row
	Parked   []Parked
	Workers  int
	// Listed counts entries of the address list: workers and parked numbers.
	Listed   int
	Warnings []string
	Notes    []string
	// Advice is about the number of workers, "" when there is nothing to say.
	Advice string
	Moved  []Move // by Renumber
	params Params
}

// Move is a worker that got another number.
type Move struct {
	Machine  string
	From, To Core
}

// movesText says moves in stretches: "1993-2048 of m33 become 72-127".
func movesText(moves []Move) []string {
	var out []string
	for i := 0; i < len(moves); {
		j := i
		for j+1 < len(moves) && moves[j+1].Machine == moves[i].Machine && moves[j+1].From == moves[j].From+1 && moves[j+1].To == moves[j].To+1 {
			j++
		}
		verb := "become"
		if i == j {
			verb = "becomes"
		}
		out = append(out, fmt.Sprintf("%s of %s %s %s", span(int(moves[i].From), int(moves[j].From)), moves[i].Machine, verb, span(int(moves[i].To), int(moves[j].To))))
		i = j + 1
	}
	return out
}

// Row gives a machine's row.
func (l *Layout) Row(name string) *Row {
	for i := range l.Rows {
		if l.Rows[i].Machine.Name == name {
			return &l.Rows[i]
		}
	}
	return nil
}

// Spans are the ports that a machine's workers listen on, merged, in the order of the profile's rules.
func (l *Layout) Spans(r *Row) []PortSpan { return spans(l.Profile.Ports, r.Runs) }

func spans(rules []PortRule, runs []Run) []PortSpan {
	byOffset := slices.Clone(runs)
	slices.SortFunc(byOffset, func(a, b Run) int { return cmp.Compare(a.Offset, b.Offset) })
	var out []PortSpan
	for _, rule := range rules {
		n := len(out)
		for _, run := range byOffset {
			first, last := rule.At(run.Offset), rule.At(run.Offset+run.Count-1)
			if len(out) > n && out[len(out)-1].Last+1 == first {
				out[len(out)-1].Last = last
			} else {
				out = append(out, PortSpan{rule.Use, rule.Proto, first, last})
			}
		}
	}
	return out
}

// Numbers is the machine's numbers as "1-62,129".
func (r *Row) Numbers() string { return Numbers(r.Runs) }

// Numbers of runs as "1-62,129", merged.
func Numbers(runs []Run) string {
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b Run) int { return cmp.Compare(a.First, b.First) })
	var parts []string
	for i := 0; i < len(sorted); {
		first, last := sorted[i].First, sorted[i].Last()
		for i++; i < len(sorted) && sorted[i].First == last+1; i++ {
			last = sorted[i].Last()
		}
		parts = append(parts, span(int(first), int(last)))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ",")
}

func span(first, last int) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// slot is one worker.
type slot struct {
	core    Core
	machine string
	offset  int
}

// Plan lays workers out over machines. before is the plan that is in force, or nil: workers of machines
// that are still there keep their numbers and ports. Errors are *ProblemsError.
func Plan(before *State, p Params) (Layout, error) {
	var bad faults
	l := Layout{Name: p.Name, Profile: p.Profile, Revision: 1, params: p}
	if before != nil {
		l.Revision = before.Revision + 1
		if p.Control == "" && slices.ContainsFunc(p.Machines, func(m Machine) bool { return m.Name == before.Control }) {
			p.Control = before.Control
		}
	}
	if p.Blame == "" {
		p.Blame = "inventory"
	}
	if p.Control == "" && len(p.Machines) > 0 {
		p.Control = p.Machines[0].Name
	}
	l.Control = p.Control
	p.check(&bad)
	if err := bad.err(); err != nil {
		return Layout{}, err
	}
	l.rows(&bad, p)
	if err := bad.err(); err != nil {
		return Layout{}, err
	}
	l.cap(&bad, before)
	if err := bad.err(); err != nil {
		return Layout{}, err
	}
	l.number(before, p)
	l.checkHoles(&bad, before)
	l.checkPorts(&bad)
	if err := bad.err(); err != nil {
		return Layout{}, err
	}
	l.judge(before)
	return l, nil
}

func (p *Params) check(bad *faults) {
	if !nameOK(p.Name) || len(p.Name) > 32 {
		bad.add("cluster-name", "it names units and firewall tables", "cluster name %q: want a-z, 0-9 and - within, at most 32 characters", clip(p.Name))
	}
	if len(p.Machines) == 0 {
		bad.add(p.Blame, "list machines in a file for --inventory, give --machine name=…,address=…,cores=…,ram=…, or --local", "there is no machine")
	}
	if len(p.Machines) > MaxMachines {
		bad.add(p.Blame, "plan several clusters", "%s machines; at most %s are planned", thousands(len(p.Machines)), thousands(MaxMachines))
		return
	}
	for _, m := range p.Machines {
		for _, why := range m.check(true) {
			bad.add(p.Blame, "", "machine %s: %s", clip(m.Name), why)
		}
	}
	checkMachines(bad, p.Blame, p.Machines)
	if p.Control != "" && !slices.ContainsFunc(p.Machines, func(m Machine) bool { return m.Name == p.Control }) {
		bad.add("control", "name a machine of the inventory", "there is no machine %q for the control process", clip(p.Control))
	}
	if p.KeepFree != nil && (*p.KeepFree < 0 || *p.KeepFree > 8192) {
		bad.add("keep-free", "", "--keep-free=%d: want a number from 0", *p.KeepFree)
	}
	if p.MaxWorkers < 0 || p.MaxWorkers > MaxWorkers {
		bad.add("max-workers", "", "--max-workers=%d: want 1 to %s", p.MaxWorkers, thousands(MaxWorkers))
	}
	if p.Profile.NeedsIP {
		for _, m := range p.Machines {
			switch a := m.ip(); {
			case m.Address == "":
			case !a.IsValid():
				bad.add(p.Blame, "write its IP address as ip beside the name", "%s: %s lists workers by IP address, and %q is a name", m.Name, p.Profile.ID, m.Address)
			case p.Profile.OnlyIPv4 && !a.Is4():
				bad.add(p.Blame, "write an IPv4 address", "%s: %s is known to work with IPv4 addresses only, and %s is none", m.Name, p.Profile.ID, a)
			}
		}
	}
}

// rows works out how many workers each machine can have.
func (l *Layout) rows(bad *faults, p Params) {
	pr := p.Profile
	for _, m := range p.Machines {
		r := Row{Machine: m, Control: m.Name == l.Control && pr.Remote, Have: m.RAM, OK: true}
		r.Units = m.Cores
		if pr.ByThreads && m.Threads > 0 || r.Units == 0 {
			r.Units = m.Threads
		}
		if r.Units == 0 {
			bad.add(p.Blame, "write cores or threads", "%s: neither cores nor threads are told", m.Name)
			continue
		}
		if m.RAM == 0 {
			bad.add(p.Blame, "write ram, as in ram: 128GiB", "%s: its memory is not told, and workers that do not fit are killed", m.Name)
			continue
		}
		if r.Control || pr.KeepEverywhere {
			r.Kept = pr.keep(r.Units)
			if p.KeepFree != nil {
				r.Kept = *p.KeepFree
			}
		}
		byCores := max(r.Units-r.Kept, 0)
		fixed := pr.RAMSystem
		if r.Control {
			fixed += pr.RAMControl
		}
		n, bound := byCores, "cores"
		byRAM := math.MaxInt
		if pr.RAMPerWorker > 0 {
			byRAM = 0
			if m.RAM > fixed {
				byRAM = int((m.RAM - fixed) / pr.RAMPerWorker)
			}
		}
		byDisk := math.MaxInt
		if pr.DiskPerWorker > 0 && m.Disk > 0 {
			byDisk = int(m.Disk / pr.DiskPerWorker)
		}
		if byRAM < n {
			n, bound = byRAM, "memory"
		}
		if byDisk < n {
			n, bound = byDisk, "disk"
		}
		if pr.MaxPerMachine > 0 && n > pr.MaxPerMachine {
			n, bound = pr.MaxPerMachine, "limit"
		}
		need := func(k int) Bytes { return fixed + Bytes(k)*pr.RAMPerWorker }
		switch {
		case m.Workers != nil && *m.Workers > n:
			why := map[string]string{
				"cores":  fmt.Sprintf("%s are left for workers", plural(byCores, "processor")),
				"memory": fmt.Sprintf("they need %s of %s", need(*m.Workers), m.RAM),
				"disk":   fmt.Sprintf("they need %s of disk, and there are %s", Bytes(*m.Workers)*pr.DiskPerWorker, m.Disk),
				"limit":  fmt.Sprintf("at most %s are possible on one machine", thousands(pr.MaxPerMachine)),
			}[bound]
			bad.add(p.Blame, fmt.Sprintf("write workers: %d, or leave it out", n), "%s: %s do not fit: %s", m.Name, plural(*m.Workers, "worker"), why)
			continue
		case m.Workers != nil:
			n, bound = *m.Workers, "set"
		}
		r.Workers, r.Bound, r.Need = n, bound, need(n)
		switch {
		case bound == "memory":
			r.OK, r.Check = false, fmt.Sprintf("%d need %s of %s", byCores, need(byCores), m.RAM)
		case bound == "disk":
			r.OK, r.Check = false, fmt.Sprintf("%d need %s of %s disk", byCores, Bytes(byCores)*pr.DiskPerWorker, m.Disk)
		case bound == "limit":
			r.OK, r.Check = false, fmt.Sprintf("at most %s on one machine", thousands(pr.MaxPerMachine))
		case n == 0 && bound == "cores":
			r.OK, r.Check = false, "no processor left"
		case r.Kept > 0:
			r.Check = fmt.Sprintf("ok, %d kept free", min(r.Kept, r.Units))
		default:
			r.Check = "ok"
		}
		if pr.MinThreads > 0 && r.Units < pr.MinThreads {
			r.OK, r.Check = false, fmt.Sprintf("fewer than %d processors", pr.MinThreads)
		}
		if m.WSL || m.OS == Windows {
			r.OK, r.Check = false, "WSL"
			if m.OS == Windows && !m.WSL {
				r.Check = "Windows"
			}
		}
		l.Rows = append(l.Rows, r)
	}
}

// cap keeps the plan below the limits, from the last machine on.
func (l *Layout) cap(bad *faults, before *State) {
	total := 0
	for _, r := range l.Rows {
		total += r.Workers
	}
	limit, field := MaxWorkers, "inventory"
	if l.Profile.MaxWorkers > 0 {
		limit = l.Profile.MaxWorkers
	}
	given := l.params.MaxWorkers
	if given == 0 && before != nil {
		given = before.MaxWorkers
	}
	if given > 0 {
		limit = given
	} else if total > limit {
		if l.Profile.MaxWorkers > 0 {
			bad.add("max-workers", fmt.Sprintf("plan fewer with --max-workers=%d, or take them all with --max-workers=%d", limit, total),
				"%s are %s more than %s, the last size that %s works well with", plural(total, "worker"), thousands(total-limit), thousands(limit), l.Profile.ID)
		} else {
			bad.add(field, "plan several clusters", "%s are more than the %s that are planned", plural(total, "worker"), thousands(limit))
		}
		return
	}
	l.params.MaxWorkers = given
	for i := len(l.Rows) - 1; i >= 0 && total > limit; i-- {
		r := &l.Rows[i]
		cut := min(r.Workers, total-limit)
		if cut == 0 {
			continue
		}
		r.Workers -= cut
		total -= cut
		r.Bound, r.Need = "limit", r.Need-Bytes(cut)*l.Profile.RAMPerWorker
		r.OK, r.Check = false, fmt.Sprintf("%d left out by --max-workers", cut)
	}
	if total == 0 && !slices.ContainsFunc(l.Rows, func(r Row) bool { return r.Bound != "set" }) {
		bad.add(l.params.blame(), "give one of them workers, or leave workers out for as many as fit", "every machine is told to run 0 workers")
	} else if total == 0 && len(l.Rows) > 0 {
		bad.add(l.params.blame(), "give machines more memory or processors, or keep fewer free", "no machine has room for a worker: %s", l.Rows[0].why(l.Profile))
	}
	l.Workers = total
}

func (p Params) blame() string {
	if p.Blame == "" {
		return "inventory"
	}
	return p.Blame
}

func (r Row) why(p Profile) string {
	return fmt.Sprintf("%s has %s, keeps %d free, and %s of memory where a worker needs %s beside %s", r.Machine.Name, plural(r.Units, "processor"), r.Kept, r.Machine.RAM, p.RAMPerWorker, r.Need)
}

// number gives every worker its number and its port.
func (l *Layout) number(before *State, p Params) {
	var live []slot
	var holes []slot // machine is the one that it was
	if before != nil {
		for _, run := range before.Runs {
			for i := range run.Count {
				live = append(live, slot{run.First + Core(i), run.Machine, run.Offset + i})
			}
		}
		for _, h := range before.Parked {
			for i := range h.Count {
				holes = append(holes, slot{core: h.First + Core(i), machine: h.Was})
			}
		}
	}
	byMachine := map[string][]slot{}
	for _, s := range live {
		byMachine[s.machine] = append(byMachine[s.machine], s)
	}
	// Who is gone, or has fewer, gives up its highest numbers.
	var kept []slot
	want := map[string]int{}
	for _, r := range l.Rows {
		want[r.Machine.Name] = r.Workers
	}
	for name, slots := range byMachine {
		slices.SortFunc(slots, byCore)
		n := min(want[name], len(slots))
		kept = append(kept, slots[:n]...)
		for _, s := range slots[n:] {
			holes = append(holes, slot{core: s.core, machine: s.machine})
		}
		byMachine[name] = slots[:n]
	}
	if l.Profile.Numbers == ByMachine {
		holes = nil // a machine of its own just runs fewer, its highest ones
	}
	slices.SortFunc(holes, byCore)
	// Who has more, or is new, gets numbers behind all others, or those of holes if asked.
	next := Core(1)
	for _, s := range slices.Concat(kept, holes) {
		next = max(next, s.core+1)
	}
	for i := range l.Rows {
		name := l.Rows[i].Machine.Name
		have := byMachine[name]
		if l.Profile.Numbers == ByMachine {
			next = Core(len(have) + 1)
		}
		used := make(map[int]bool, len(have))
		for _, s := range have {
			used[s.offset] = true
		}
		free := 0
		for range l.Rows[i].Workers - len(have) {
			for used[free] {
				free++
			}
			s := slot{next, name, free}
			used[free] = true
			if (p.FillHoles || p.Renumber) && len(holes) > 0 {
				s.core, holes = holes[0].core, holes[1:]
			} else {
				next++
			}
			have = append(have, s)
			kept = append(kept, s)
		}
		byMachine[name] = have
	}
	if p.Renumber && len(holes) > 0 {
		// The numbers are 1 to n then: who has a higher one takes a hole, both in order.
		slices.SortFunc(kept, byCore)
		n := Core(len(kept))
		for i := range kept {
			if kept[i].core > n {
				l.Moved = append(l.Moved, Move{kept[i].machine, kept[i].core, holes[0].core})
				kept[i].core, holes = holes[0].core, holes[1:]
			}
		}
	}
	// Holes at the end are no holes: the list just ends before them.
	last := Core(0)
	for _, s := range kept {
		last = max(last, s.core)
	}
	holes = slices.DeleteFunc(holes, func(s slot) bool { return s.core > last })

	slices.SortFunc(kept, byCore)
	runs := map[string][]Run{}
	for _, s := range kept {
		rs := runs[s.machine]
		if n := len(rs); n > 0 && rs[n-1].Last()+1 == s.core && rs[n-1].Offset+rs[n-1].Count == s.offset {
			rs[n-1].Count++
		} else {
			rs = append(rs, Run{s.machine, s.core, 1, s.offset})
		}
		runs[s.machine] = rs
	}
	for i := range l.Rows {
		l.Rows[i].Runs = runs[l.Rows[i].Machine.Name]
	}
	l.Parked = nil
	for _, s := range holes {
		if n := len(l.Parked); n > 0 && l.Parked[n-1].Last()+1 == s.core && l.Parked[n-1].Was == s.machine {
			l.Parked[n-1].Count++
		} else {
			l.Parked = append(l.Parked, Parked{s.machine, s.core, 1})
		}
	}
	l.Listed = l.Workers + len(holes)
}

func byCore(a, b slot) int {
	if c := cmp.Compare(a.core, b.core); c != 0 {
		return c
	}
	return cmp.Compare(a.machine, b.machine)
}

func (l *Layout) parkedCount() int {
	n := 0
	for _, p := range l.Parked {
		n += p.Count
	}
	return n
}

func (l *Layout) checkHoles(bad *faults, before *State) {
	if l.Listed > MaxWorkers {
		bad.add(l.params.blame(), "close the holes with --renumber", "%s with those of removed machines are more than the %s that are planned", plural(l.Listed, "number"), thousands(MaxWorkers))
	}
	if n := l.Profile.MaxEntries; n > 0 && l.Listed*len(l.Rows) > n {
		bad.add(l.params.blame(), "plan several clusters", "every machine gets the whole list, and %s on %s make %s entries; at most %s are written",
			plural(l.Listed, "number"), plural(len(l.Rows), "machine"), thousands(l.Listed*len(l.Rows)), thousands(n))
	}
	if len(l.Parked) == 0 || l.Profile.Holes != HolesFatal {
		return
	}
	field := "remove-machine"
	if before == nil {
		field = l.params.blame()
	}
	bad.add(field, "give their numbers to a machine that comes new in the same change (--add-machine … --fill-holes), or let the last workers take them (--renumber: those workers get another number)",
		"without %s the numbers %s are nobody's, and with %s a listed worker that does not answer ends the control process", parkedNames(l.Parked), parkedNumbers(l.Parked), l.Profile.ID)
}

func parkedNames(ps []Parked) string {
	var names []string
	for _, p := range ps {
		if !slices.Contains(names, p.Was) {
			names = append(names, p.Was)
		}
	}
	if len(names) > 4 {
		names = append(names[:4], fmt.Sprintf("%d more", len(names)-4))
	}
	return strings.Join(names, ", ")
}

func parkedNumbers(ps []Parked) string {
	var out []string
	for i, p := range ps {
		if i == 6 {
			out = append(out, "…")
			break
		}
		out = append(out, span(int(p.First), int(p.Last())))
	}
	return strings.Join(out, ",")
}

// checkPorts: ports stay below 65536, and no two rules of a machine meet, nor one of the control process.
func (l *Layout) checkPorts(bad *faults) {
	for i := range l.Rows {
		r := &l.Rows[i]
		all := l.Spans(r)
		if r.Control {
			for _, c := range l.Profile.ControlPorts {
				all = append(all, PortSpan{c.Name, c.Proto, c.Port, c.Port})
			}
		}
		for j, s := range all {
			if s.Last > 65535 {
				bad.add(l.params.blame(), "plan fewer workers on it with workers: N", "%s: %s reach port %d, and ports end at 65535", r.Machine.Name, plural(r.Workers, "worker"), s.Last)
			}
			for _, t := range all[:j] {
				if s.Proto == t.Proto && s.First <= t.Last && t.First <= s.Last {
					bad.add(l.params.blame(), "plan fewer workers on it with workers: N", "%s: the %s ports %s and the %s ports %s overlap", r.Machine.Name, t.Use, t, s.Use, s)
				}
			}
		}
	}
}

// ephemeral is the range from which Linux takes ports for outgoing connections, by default.
var ephemeral = PortSpan{First: 32768, Last: 60999}

// Reserved are the ports of a machine that the kernel must be kept from giving away: they lie in the
// range from which it serves outgoing connections.
func (l *Layout) Reserved(r *Row) []PortSpan {
	var out []PortSpan
	for _, s := range l.Spans(r) {
		if s.Last >= ephemeral.First && s.First <= ephemeral.Last {
			out = append(out, s)
		}
	}
	return out
}

// judge says what an operator should know.
func (l *Layout) judge(before *State) {
	pr := l.Profile
	warn := func(format string, args ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...)) }
	note := func(format string, args ...any) { l.Notes = append(l.Notes, fmt.Sprintf(format, args...)) }
	l.Warnings = append(l.Warnings, pr.Warnings...)
	l.Notes = append(l.Notes, pr.Notes...)

	// many tells of machines by name, the first few of them.
	many := func(what string, is func(Row) bool) string {
		var names []string
		n := 0
		for _, r := range l.Rows {
			if is(r) {
				if n++; n <= 4 {
					names = append(names, r.Machine.Name)
				}
			}
		}
		if n == 0 {
			return ""
		}
		if n > 4 {
			names = append(names, fmt.Sprintf("%d more", n-4))
		}
		return fmt.Sprintf("%s: %s", strings.Join(names, ", "), what)
	}
	say := func(tell func(string, ...any), s string) {
		if s != "" {
			tell("%s", s)
		}
	}
	for _, r := range l.Rows {
		if r.Bound == "memory" && r.Workers > 0 && len(l.Rows) <= 8 {
			warn("%s: %d workers would need %s of its %s of memory: %d are planned", r.Machine.Name, max(r.Units-r.Kept, 0), l.needAll(r), r.Machine.RAM, r.Workers)
		}
	}
	if len(l.Rows) > 8 {
		say(warn, many("memory for fewer workers than processors: planned are those that fit", func(r Row) bool { return r.Bound == "memory" && r.Workers > 0 }))
	}
	say(warn, many("disk for fewer workers than processors: planned are those that fit", func(r Row) bool { return r.Bound == "disk" && r.Workers > 0 }))
	say(warn, many("no room for a worker", func(r Row) bool { return r.Workers == 0 && r.Bound != "set" && r.Bound != "limit" }))
	say(warn, many("runs under WSL: its network address changes at restarts, other machines reach it only through forwarded ports, and memory is shared with Windows; use a Linux machine", func(r Row) bool { return r.Machine.WSL }))
	say(warn, many("runs Windows: what is written here is for systemd and a POSIX shell", func(r Row) bool { return r.Machine.OS == Windows && !r.Machine.WSL }))
	say(note, many("does not run Linux: its units and firewall rules do not apply; start.sh does", func(r Row) bool { return r.Machine.OS == Darwin || r.Machine.OS == FreeBSD }))
	if pr.DiskPerWorker > 0 {
		say(warn, many(fmt.Sprintf("disk is not told; each worker needs %s", pr.DiskPerWorker), func(r Row) bool { return r.Machine.Disk == 0 && r.Workers > 0 }))
	}
	if pr.MinThreads > 0 {
		say(warn, many(fmt.Sprintf("fewer than the %d processors that %s wants", pr.MinThreads, pr.ID), func(r Row) bool { return r.Units < pr.MinThreads }))
	}
	if pr.ByThreads {
		say(note, many("threads are not told: planned by cores", func(r Row) bool { return r.Machine.Threads == 0 }))
	} else {
		say(note, many("cores are not told: planned by threads", func(r Row) bool { return r.Machine.Cores == 0 }))
	}
	l.judgeEqual(warn, note)
	l.judgeAddresses(warn)
	for i := range l.Rows {
		r := &l.Rows[i]
		if res := l.Reserved(r); len(res) > 0 {
			note("worker ports lie among those that Linux gives to outgoing connections (%d-%d): each machine has a sysctl.conf that keeps them free", ephemeral.First, ephemeral.Last)
			break
		}
	}
	if pr.MinWorkers > 0 && l.Workers < pr.MinWorkers {
		warn("%s: %s proves nothing with fewer than %d", plural(l.Workers, "worker"), pr.ID, pr.MinWorkers)
	}
	if n := l.parkedCount(); n > 0 {
		tell := note
		cost := "the others keep theirs; the numbers stay listed at an address where nobody answers"
		if pr.Holes == HolesCostly {
			tell, cost = warn, "while a listed worker is missing all lose work: give the numbers to another machine (--add-machine … --fill-holes) or close the holes (--renumber)"
		}
		tell("%s of %s parked (%s): %s", plural(n, "number"), parkedNames(l.Parked), parkedNumbers(l.Parked), cost)
	}
	if n := len(l.Moved); n > 0 {
		warn("%s another number: its state under the old number stays behind", plural(n, "worker")+map[bool]string{true: " gets", false: " get"}[n == 1])
	}
	if l.params.KeepFree != nil && *l.params.KeepFree == 0 && pr.Remote {
		warn("no processor is kept free for the control process: it competes with the workers of %s", l.Control)
	}
	if pr.Remote && pr.Exposure == FromControl && pr.Unsafe != "" && len(l.Rows) > 1 {
		warn("%s", pr.Unsafe)
	}
	l.Advice = l.advise()
	if l.params.MaxWorkers > 0 && pr.MaxWorkers > 0 && l.Workers > pr.MaxWorkers {
		warn("%s: above %s %s", plural(l.Workers, "worker"), thousands(pr.MaxWorkers), l.costAt(l.Workers))
	}
}

func (l *Layout) needAll(r Row) Bytes {
	return r.Need + Bytes(max(r.Units-r.Kept, 0)-r.Workers)*l.Profile.RAMPerWorker
}

// costAt says in words what a number of workers costs.
func (l *Layout) costAt(n int) string {
	for _, s := range l.Profile.Sizes {
		if n <= s.Workers {
			return s.Cost
		}
	}
	return "each round costs much more"
}

// advise is about efficient sizes: fill towards a step from below.
func (l *Layout) advise() string {
	var below, at int
	for _, s := range l.Profile.Sizes {
		if s.Workers >= l.Listed {
			at = s.Workers
			break
		}
		below = s.Workers
	}
	if at == 0 {
		return ""
	}
	if at == l.Listed {
		return fmt.Sprintf("%s: exactly an efficient size", plural(l.Listed, "worker"))
	}
	s := fmt.Sprintf("%s: %s short of %s", plural(l.Listed, "worker"), thousands(at-l.Listed), thousands(at))
	if below > 0 {
		s += fmt.Sprintf("; next lower %s", thousands(below))
		if over := l.Listed - below; over*4 <= at-below { // just above a step: the price of the next one for little
			s += fmt.Sprintf(" (%s fewer: --max-workers=%d costs each round less)", thousands(over), below)
		}
	}
	return s
}

func (l *Layout) judgeEqual(warn, note func(string, ...any)) {
	lo, hi := l.Rows[0], l.Rows[0]
	for _, r := range l.Rows {
		if r.Units < lo.Units {
			lo = r
		}
		if r.Units > hi.Units {
			hi = r
		}
	}
	if hi.Units == lo.Units {
		return
	}
	switch {
	case l.Profile.Equal:
		warn("machines are not alike (%s has %s, %s %d): every round waits for the slowest worker, so one slow machine slows all", lo.Machine.Name, plural(lo.Units, "processor"), hi.Machine.Name, hi.Units)
	case len(l.Rows) > 1 && l.Profile.Remote:
		note("machines are not alike (%s has %s, %s %d)", lo.Machine.Name, plural(lo.Units, "processor"), hi.Machine.Name, hi.Units)
	}
}

func (l *Layout) judgeAddresses(warn func(string, ...any)) {
	if !l.Profile.Remote {
		return
	}
	private, public, names := []string{}, []string{}, []string{}
	for _, r := range l.Rows {
		a := r.Machine.ip()
		switch {
		case !a.IsValid():
			names = append(names, r.Machine.Name)
		case a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedNAT(a):
			private = append(private, r.Machine.Name)
		default:
			public = append(public, r.Machine.Name)
		}
	}
	few := func(s []string) string {
		if len(s) > 4 {
			return strings.Join(s[:4], ", ") + fmt.Sprintf(", %d more", len(s)-4)
		}
		return strings.Join(s, ", ")
	}
	if len(private) > 0 && len(public) > 0 {
		warn("private addresses (%s) and public ones (%s) in one plan: across address translation a machine is not reached under the address it has", few(private), few(public))
	}
	if l.Profile.Exposure == FromAny {
		var hidden []string
		for _, r := range l.Rows {
			if slices.Contains(private, r.Machine.Name) && r.Machine.Announce == "" {
				hidden = append(hidden, r.Machine.Name)
			}
		}
		if len(hidden) > 0 {
			warn("workers must be reachable from the internet; with private addresses and no announce: %s. Forward their ports; where a node does not find out by itself which address the internet sees, write that as announce", few(hidden))
		}
	}
	if l.Profile.Exposure == FromControl && len(public) > 0 && len(l.Rows) > 1 {
		warn("%s: workers take work over the open internet; put the machines into a private network, or apply the firewall rules before the first start", few(public))
	}
	if len(names) > 0 {
		warn("%s: addresses are names; what they stand for may change under a running cluster", few(names))
	}
}

// sharedNAT is 100.64.0.0/10, the addresses behind a provider's translation.
func sharedNAT(a netip.Addr) bool {
	return a.Is4() && netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10).Contains(a)
}
