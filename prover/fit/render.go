package fit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// File is one file of the tree. Path is relative, with slashes.
type File struct {
	Path string
	Mode fs.FileMode
	Body []byte
}

// Sum is the file's SHA-256 sum in hex.
func (f File) Sum() string {
	h := sha256.Sum256(f.Body)
	return hex.EncodeToString(h[:])
}

const (
	modePlain  fs.FileMode = 0o600
	modeScript fs.FileMode = 0o700
	modeDir    fs.FileMode = 0o700
)

// Program is one kind of process as a service manager or a shell starts it.
type Program struct {
	// Args: the binary's absolute path and its arguments. CoreWord in one stands for the worker's number.
	Args []string
	Dir  string // working directory, absolute; "" for none
	User string
	// Notify: it reports to systemd that it is ready.
	Notify     bool
	StopSignal string        // "SIGINT"; "" for SIGTERM
	StopTime   time.Duration // 0: systemd's own
	OpenFiles  int           // 0: not set
	Memory     Bytes         // what the plan counted for it; 0: no bound
	Service    []string      // further lines of [Service]
}

// CoreWord in Program.Args is replaced by a worker's number.
const CoreWord = "{core}"

// Adapter says what runs and what else a machine is given. Either Machine is set (one process runs
// everything of a machine) or Worker is, with Control for a cluster with a control process.
type Adapter struct {
	Machine func(r *Row, unit bool) Program // for its unit, or for start.sh
	Control *Program
	Worker  *Program
	// WorkersFirst: all workers listen before the control process starts.
	WorkersFirst bool
	// Files are further files of a machine, with paths below its directory. It may be nil.
	Files func(l *Layout, r *Row) ([]File, error)
	// Steps are further lines for the steps of a machine, after its firewall and before its units.
	Steps []string
	// Readme are further lines for the README of all.
	Readme []string
	// Kept goes into plan.yaml for later changes.
	Kept map[string]string
}

// PlainWord tells whether a text can stand unquoted in a unit file and in a shell.
func PlainWord(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:,@+", r))
	}) < 0
}

// UserName tells whether a text is a name that systemd takes for a user. A number is none: whom it means
// differs between machines.
func UserName(s string) bool {
	return s != "" && len(s) <= 32 && !strings.Contains("-0123456789", s[:1]) && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

func (p Program) check() error {
	if len(p.Args) == 0 || !filepath.IsAbs(p.Args[0]) {
		return errors.New("the program needs an absolute path")
	}
	for _, a := range p.Args {
		if a != CoreWord && !PlainWord(a) {
			return fmt.Errorf("%q cannot stand in a unit file", clip(a))
		}
	}
	if p.Dir != "" && (!filepath.IsAbs(p.Dir) || !PlainWord(p.Dir)) {
		return fmt.Errorf("working directory %q: want an absolute path without spaces, quotes, %% or $", clip(p.Dir))
	}
	if !UserName(p.User) {
		return fmt.Errorf("user %q: want a user's name", clip(p.User))
	}
	return nil
}

// Render writes all files of a plan but plan.yaml, sorted by path.
func Render(l *Layout, a Adapter) ([]File, error) {
	var out []File
	put := func(name string, mode fs.FileMode, body string) { out = append(out, File{name, mode, []byte(body)}) }
	for _, p := range []*Program{a.Control, a.Worker} {
		if p != nil {
			if err := p.check(); err != nil {
				return nil, err
			}
		}
	}
	put("README.txt", modePlain, readme(l, a))
	for i := range l.Rows {
		r := &l.Rows[i]
		dir, begin := MachineDir(r.Machine.Name), len(out)
		units, err := units(l, a, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Machine.Name, err)
		}
		for _, u := range units {
			put(path.Join(dir, "units", u.Path), modePlain, string(u.Body))
		}
		put(path.Join(dir, "start.sh"), modeScript, startScript(l, a, r))
		if fw, ok := l.firewall(r); ok {
			put(path.Join(dir, "firewall/ufw.sh"), modeScript, fw.ufw())
			put(path.Join(dir, "firewall/rules.nft"), modePlain, fw.nft())
			put(path.Join(dir, "firewall/README.txt"), modePlain, fw.words())
		}
		if res := l.Reserved(r); len(res) > 0 {
			put(path.Join(dir, "sysctl.conf"), modePlain, sysctl(l, res))
		}
		if a.Files != nil {
			more, err := a.Files(l, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Machine.Name, err)
			}
			for _, f := range more {
				if !filepath.IsLocal(f.Path) {
					return nil, fmt.Errorf("%s: the adapter gives a file %q", r.Machine.Name, clip(f.Path))
				}
				out = append(out, File{path.Join(dir, f.Path), f.Mode, f.Body})
			}
		}
		put(path.Join(dir, "README.txt"), modePlain, machineReadme(l, a, r, out[begin:]))
	}
	slices.SortFunc(out, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	for i := 1; i < len(out); i++ {
		if out[i].Path == out[i-1].Path {
			return nil, fmt.Errorf("%s would be written twice", out[i].Path)
		}
	}
	return out, nil
}

// MachineDir is the directory of a machine in the tree.
func MachineDir(name string) string { return "machines/" + name }

// unitName begins the names of all units: a cluster called ssh must not bring a unit of that name.
func (l *Layout) unitName() string { return "provost-" + l.Name }

// wrap breaks words into lines of at most 100 columns, each with a prefix.
func wrap(prefix, text string) string {
	var b strings.Builder
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(prefix)+len(line)+1+len(w) > 100 {
			b.WriteString(strings.TrimRight(prefix+line, " ") + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	b.WriteString(strings.TrimRight(prefix+line, " ") + "\n")
	return b.String()
}

// item is a line of a list, hanging under its dash.
func item(text string) string {
	s := wrap("  ", text)
	return "- " + s[2:]
}

func readme(l *Layout, a Adapter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s on %s, profile %s (%s)\n\n", l.Name, plural(l.Workers, "worker"), plural(len(l.Rows), "machine"), l.Profile.ID, l.Profile.Title)
	b.WriteString(wrap("", "Nothing here has been installed or sent anywhere. Each directory below machines/ belongs to the machine of its name: copy it there and read its README.txt. plan.yaml is the plan itself; when machines come or go, change it with provost create workers --dir and this directory: workers that stay keep their numbers."))
	b.WriteString("\n")
	b.WriteString(Table(l))
	if l.Advice != "" {
		b.WriteString("\n" + wrap("", "Size: "+l.Advice+"."))
	}
	for _, w := range l.Warnings {
		b.WriteString("\n" + wrap("", "Warning: "+w+"."))
	}
	for _, n := range l.Notes {
		b.WriteString("\n" + wrap("", "Note: "+n+"."))
	}
	if l.Profile.Remote {
		b.WriteString("\nORDER\n\n")
		b.WriteString(item("Keys first: give each machine what it needs (below). Provost copies no key."))
		if _, ok := l.firewall(&l.Rows[0]); ok {
			b.WriteString(item("Firewall next, before anything listens: machines/NAME/firewall."))
		}
		if a.WorkersFirst {
			b.WriteString(item("Start all workers, see that each listens, then start the control process on " + l.Control + "."))
			b.WriteString(item("Stop the control process first and give it its time, then the workers."))
		}
		b.WriteString(item("A change of the address list is seen by the control process when it is started again."))
		b.WriteString(item("All machines run the same version of the node."))
	}
	b.WriteString("\nKEYS AND FILES\n\n")
	b.WriteString(keyTable(l))
	if len(a.Readme) > 0 {
		b.WriteString("\nMORE\n\n")
		for _, s := range a.Readme {
			b.WriteString(item(s))
		}
	}
	return b.String()
}

func keyTable(l *Layout) string {
	if len(l.Profile.Keys) == 0 {
		return "None: nothing here needs a key.\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	if l.Profile.Remote {
		fmt.Fprintln(w, "FILE\tCONTROL\tWORKERS ONLY\tSECRET")
	} else {
		fmt.Fprintln(w, "FILE\tEACH MACHINE\tSECRET")
	}
	for _, k := range l.Profile.Keys {
		secret := "no"
		if k.Secret {
			secret = "yes"
		}
		if l.Profile.Remote {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.Control, k.Workers, secret)
		} else {
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.Control, secret)
		}
	}
	_ = w.Flush() // a strings.Builder does not fail
	for _, k := range l.Profile.Keys {
		b.WriteString(item(k.Name + ": " + k.Why))
	}
	return b.String()
}

// Columns are the heads of the table of a plan.
var Columns = []string{"HOST", "ADDRESS", "CPUS", "MEM", "WORKERS", "INDEX", "PORTS", "CHECK"}

// Cells are the row of one machine under Columns.
func (l *Layout) Cells(r *Row) []string {
	name := r.Machine.Name
	if r.Control {
		name += " (control)"
	}
	var ports []string
	for _, s := range l.Spans(r) {
		ports = append(ports, s.String())
	}
	p := strings.Join(ports, " ")
	if p == "" {
		p = "-"
	}
	return []string{name, r.Machine.Address, fmt.Sprint(r.Units), r.Machine.RAM.String(), fmt.Sprint(r.Workers), r.Numbers(), p, r.Check}
}

// Table is the plan in lines.
func Table(l *Layout) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(Columns, "\t"))
	for i := range l.Rows {
		fmt.Fprintln(w, strings.Join(l.Cells(&l.Rows[i]), "\t"))
	}
	for _, p := range l.Parked {
		fmt.Fprintf(w, "(parked)\twas %s\t-\t-\t%d\t%s\t-\tnobody answers\n", p.Was, p.Count, span(int(p.First), int(p.Last())))
	}
	_ = w.Flush() // a strings.Builder does not fail
	return b.String()
}

// machineReadme tells what a machine needs and the steps on it; own are its files so far.
func machineReadme(l *Layout, a Adapter, r *Row, own []File) string {
	var b strings.Builder
	what := plural(r.Workers, "worker")
	if r.Workers > 0 {
		what += " with the numbers " + r.Numbers()
	}
	if r.Control {
		what = "the control process and " + what
	}
	b.WriteString(wrap("", fmt.Sprintf("%s (%s) runs %s of %s.", r.Machine.Name, r.Machine.Address, what, l.Name)))
	if r.Machine.Notes != "" {
		b.WriteString(wrap("", "Notes: "+r.Machine.Notes))
	}
	mem := r.Need.String()
	if r.Have > 0 {
		mem += " of " + r.Have.String()
	}
	b.WriteString(wrap("", fmt.Sprintf("Memory counted: %s. Check: %s.", mem, r.Check)))
	b.WriteString("\nWHAT IT NEEDS\n\n")
	if a.Machine != nil {
		b.WriteString(item("The binary at " + a.Machine(r, true).Args[0] + ", and the user " + a.Machine(r, true).User + "."))
	} else if a.Worker != nil {
		b.WriteString(item("The node's binary at " + a.Worker.Args[0] + ", the same version on all machines, and the user " + a.Worker.User + "."))
	}
	if len(l.Profile.Keys) == 0 {
		b.WriteString(item("No key."))
	}
	for _, k := range l.Profile.Keys {
		need := k.Workers
		if r.Control || !l.Profile.Remote {
			need = k.Control
		}
		b.WriteString(item(k.Name + ": " + need + ". " + upperFirst(k.Why)))
	}
	b.WriteString("\nSTEPS, AS ROOT, IN THIS DIRECTORY\n\n")
	dir := MachineDir(r.Machine.Name) + "/"
	has := func(name string) bool {
		return slices.ContainsFunc(own, func(f File) bool { return f.Path == dir+name })
	}
	if r.Workers == 0 && !r.Control {
		b.WriteString("  nothing: this machine has no room for a worker\n")
		return b.String()
	}
	if has("sysctl.conf") {
		fmt.Fprintf(&b, "  cp sysctl.conf /etc/sysctl.d/60-%s.conf && sysctl -p /etc/sysctl.d/60-%s.conf\n", l.unitName(), l.unitName())
	}
	if has("firewall/ufw.sh") {
		b.WriteString("  sh firewall/ufw.sh          with ufw; or: nft -f firewall/rules.nft\n")
	}
	for _, s := range a.Steps {
		b.WriteString("  " + s + "\n")
	}
	fmt.Fprintf(&b, "  cp units/* /etc/systemd/system/ && systemctl daemon-reload\n")
	switch {
	case a.Machine != nil:
		fmt.Fprintf(&b, "  systemctl enable --now %s.service\n", l.unitName())
	default:
		if r.Workers > 0 {
			fmt.Fprintf(&b, "  systemctl enable --now %s-workers.target\n", l.unitName())
		}
		if r.Control {
			fmt.Fprintf(&b, "  systemctl enable --now %s-control.service    when all workers listen\n", l.unitName())
		}
	}
	b.WriteString("\nWithout systemd: ./start.sh, as the user that runs it.\n")
	return b.String()
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func argv(p Program, core string) string {
	var out []string
	for _, a := range p.Args {
		if a == CoreWord {
			a = core
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// units are the systemd units of a machine, with bare names.
func units(l *Layout, a Adapter, r *Row) ([]File, error) {
	var out []File
	put := func(name, body string) { out = append(out, File{Path: name, Body: []byte(body)}) }
	if a.Machine != nil {
		if r.Workers == 0 {
			return nil, nil
		}
		p := a.Machine(r, true)
		if err := p.check(); err != nil {
			return nil, err
		}
		put(l.unitName()+".service", unit(l.Name+": "+plural(r.Workers, "worker"), "", p, "", "multi-user.target", false))
		return out, nil
	}
	target := l.unitName() + "-workers.target"
	if r.Workers > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "[Unit]\nDescription=%s: workers %s\n", l.Name, r.Numbers())
		for _, run := range r.Runs {
			for i := range run.Count {
				fmt.Fprintf(&b, "Wants=%s-worker@%d.service\n", l.unitName(), int(run.First)+i)
			}
		}
		b.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
		put(target, b.String())
		put(l.unitName()+"-worker@.service", unit(l.Name+": worker %i", "PartOf="+target+"\n", *a.Worker, "%i", "", true))
	}
	if r.Control && a.Control != nil {
		after := ""
		if r.Workers > 0 && a.WorkersFirst {
			after = "After=" + target + "\n"
		}
		put(l.unitName()+"-control.service", unit(l.Name+": control process", after, *a.Control, "", "multi-user.target", false))
	}
	return out, nil
}

func unit(what, more string, p Program, core, wantedBy string, worker bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=%s\nWants=network-online.target\nAfter=network-online.target time-sync.target\n%s", what, more)
	b.WriteString("# Ten deaths in ten minutes, and it stays down: somebody has to look.\nStartLimitIntervalSec=600\nStartLimitBurst=10\n\n[Service]\n")
	if p.Notify {
		b.WriteString("Type=notify\nNotifyAccess=main\n")
	} else {
		b.WriteString("Type=exec\n")
	}
	fmt.Fprintf(&b, "User=%s\n", p.User)
	if p.Dir != "" {
		fmt.Fprintf(&b, "WorkingDirectory=%s\n", p.Dir)
	}
	fmt.Fprintf(&b, "ExecStart=%s\n", argv(p, core))
	if p.StopSignal != "" {
		fmt.Fprintf(&b, "KillSignal=%s\n", p.StopSignal)
	}
	if p.StopTime > 0 {
		fmt.Fprintf(&b, "TimeoutStopSec=%d\n", int(p.StopTime.Seconds()))
	}
	b.WriteString("Restart=always\nRestartSec=5\n")
	if p.OpenFiles > 0 {
		fmt.Fprintf(&b, "LimitNOFILE=%d\n", p.OpenFiles)
	}
	if worker {
		b.WriteString("# The control process and the system come first.\nNice=5\n")
	}
	if p.Memory > 0 {
		fmt.Fprintf(&b, "# What the plan counted for one; above it it is slowed, and a quarter above that it ends alone.\nMemoryHigh=%d\nMemoryMax=%d\n", p.Memory, p.Memory+p.Memory/4)
	}
	for _, s := range p.Service {
		b.WriteString(s + "\n")
	}
	if wantedBy != "" {
		fmt.Fprintf(&b, "\n[Install]\nWantedBy=%s\n", wantedBy)
	}
	return b.String()
}

// startScript starts a machine's part in the foreground, without a service manager.
func startScript(l *Layout, a Adapter, r *Row) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	b.WriteString(wrap("# ", fmt.Sprintf("%s of %s: starts what this machine runs, in the foreground. With systemd use the units beside this file instead: they start again what dies.", r.Machine.Name, l.Name)))
	b.WriteString("set -eu\n")
	if r.Workers == 0 && !r.Control {
		b.WriteString("echo 'this machine has no worker in the plan' >&2\nexit 1\n")
		return b.String()
	}
	if a.Machine != nil {
		p := a.Machine(r, false)
		if p.Dir != "" {
			fmt.Fprintf(&b, "cd %s\n", p.Dir)
		}
		fmt.Fprintf(&b, "exec %s\n", argv(p, ""))
		return b.String()
	}
	dir, sig := "", "TERM"
	for _, p := range []*Program{a.Worker, a.Control} {
		if p != nil && p.Dir != "" {
			dir = p.Dir
		}
		if p != nil && p.StopSignal != "" {
			sig = strings.TrimPrefix(p.StopSignal, "SIG")
		}
	}
	if dir != "" {
		fmt.Fprintf(&b, "cd %s\n", dir)
	}
	if p := a.Worker; p != nil && p.OpenFiles > 0 {
		fmt.Fprintf(&b, "# shellcheck disable=SC3045 # every sh that is met has it\nulimit -n %d || echo 'fewer open files than wanted: %d' >&2\n", p.OpenFiles, p.OpenFiles)
	}
	b.WriteString("pids=\ncontrol=\n")
	// A stop goes to the control process first: it tells its peers before its workers go. A shell starts
	// what runs in the background with SIGINT ignored; a program that does not ask for it all the same
	// gets SIGTERM when its time is over.
	limit := 30
	if p := a.Control; p != nil && p.StopTime > 0 {
		limit = int(p.StopTime.Seconds())
	}
	fmt.Fprintf(&b, `stop() {
	trap - INT TERM
	if [ -n "$control" ]; then
		kill -s %s "$control" 2>/dev/null || :
		(sleep %d; kill -s TERM "$control" 2>/dev/null) &
		timer=$!
		wait "$control" || :
		kill "$timer" 2>/dev/null || :
	fi
	for pid in $pids; do kill -s TERM "$pid" 2>/dev/null || :; done
	for pid in $pids; do wait "$pid" || :; done
	exit 0
}
trap stop INT TERM
`, sig, limit)
	workers := func() {
		for _, run := range r.Runs {
			fmt.Fprintf(&b, "core=%d\nwhile [ \"$core\" -le %d ]; do\n\t%s &\n\tpids=\"$pids $!\"\n\tcore=$((core + 1))\ndone\n", run.First, run.Last(), argv(*a.Worker, `"$core"`))
		}
	}
	control := func() {
		if r.Control && a.Control != nil {
			if len(l.Rows) > 1 && a.WorkersFirst {
				b.WriteString("# The workers of the other machines listen before this starts.\n")
			}
			fmt.Fprintf(&b, "%s &\ncontrol=$!\n", argv(*a.Control, ""))
		}
	}
	if a.WorkersFirst {
		workers()
		control()
	} else {
		control()
		workers()
	}
	b.WriteString("wait\n")
	return b.String()
}

func sysctl(l *Layout, res []PortSpan) string {
	var parts []string
	for _, s := range res {
		if p := s.String(); !slices.Contains(parts, p) {
			parts = append(parts, p)
		}
	}
	return wrap("# ", fmt.Sprintf("%s: Linux must not give the ports of workers to outgoing connections, or a worker that starts again finds its port taken. This replaces what the setting held before: see sysctl net.ipv4.ip_local_reserved_ports.", l.Name)) +
		"net.ipv4.ip_local_reserved_ports = " + strings.Join(parts, ",") + "\n"
}

// wall is what a machine's firewall has to know.
type wall struct {
	name, machine string
	source        netip.Addr // who alone may reach the spans; not valid: everybody
	spans         []PortSpan
	open          []PortSpan // to everybody besides: ports of the control process
	own           bool       // the machine is the control process's own
}

// firewall gives a machine's rules; false where nothing is to be ruled.
func (l *Layout) firewall(r *Row) (wall, bool) {
	w := wall{name: l.Name, machine: r.Machine.Name, own: r.Control}
	if !l.Profile.Remote {
		return w, false
	}
	w.spans = l.Spans(r)
	if l.Profile.Exposure == FromControl {
		w.source = l.Row(l.Control).Machine.ip()
		if !w.source.IsValid() {
			return w, false
		}
	}
	if r.Control {
		for _, p := range l.Profile.ControlPorts {
			if p.Public {
				w.open = append(w.open, PortSpan{p.Name, p.Proto, p.Port, p.Port})
			}
		}
	}
	return w, len(w.spans)+len(w.open) > 0
}

// ufw is a script that adds the rules.
func (w wall) ufw() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	b.WriteString(wrap("# ", fmt.Sprintf("ufw rules of %s on %s, to be run as root. Each is put before the rules that are there; what is there already is not added twice. See README.txt.", w.name, w.machine)))
	b.WriteString("set -eu\n")
	for _, line := range w.ufwRules() {
		fmt.Fprintf(&b, "ufw prepend %s comment '%s'\n", line, w.name)
	}
	return b.String()
}

// ufwRules are the rules without comments; the last one ends up first.
func (w wall) ufwRules() []string {
	var out []string
	port := func(s PortSpan) string { return strings.ReplaceAll(s.String(), "-", ":") }
	for _, s := range w.spans {
		if w.source.IsValid() {
			out = append(out, fmt.Sprintf("deny proto %s to any port %s", s.Proto, port(s)),
				fmt.Sprintf("allow proto %s from %s to any port %s", s.Proto, w.source, port(s)))
		} else {
			out = append(out, fmt.Sprintf("allow proto %s to any port %s", s.Proto, port(s)))
		}
	}
	for _, s := range w.open {
		out = append(out, fmt.Sprintf("allow proto %s to any port %s", s.Proto, port(s)))
	}
	return out
}

func (w wall) table() string { return "provost_" + strings.ReplaceAll(w.name, "-", "_") }

func (w wall) nft() string {
	var b strings.Builder
	b.WriteString("#!/usr/sbin/nft -f\n")
	b.WriteString(wrap("# ", fmt.Sprintf("nftables rules of %s on %s, in a table of their own: loading the file again replaces them, and nft delete table inet %s takes them away.", w.name, w.machine, w.table())))
	if !w.source.IsValid() || len(w.open) > 0 {
		b.WriteString(wrap("# ", "An accept here does not overrule a drop in a table of yours: where your own rules drop by default, they have to accept these ports too."))
	}
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n\tchain workers {\n\t\ttype filter hook input priority filter - 5; policy accept;\n", w.table(), w.table(), w.table())
	b.WriteString("\t\tiifname \"lo\" accept\n\t\tct state established,related accept\n")
	for _, s := range w.spans {
		if w.source.IsValid() {
			family := "ip"
			if w.source.Is6() {
				family = "ip6"
			}
			fmt.Fprintf(&b, "\t\t%s saddr %s %s dport %s accept\n\t\t%s dport %s drop\n", family, w.source, s.Proto, s, s.Proto, s)
		} else {
			fmt.Fprintf(&b, "\t\t%s dport %s accept\n", s.Proto, s)
		}
	}
	for _, s := range w.open {
		fmt.Fprintf(&b, "\t\t%s dport %s accept\n", s.Proto, s)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

func (w wall) words() string {
	var b strings.Builder
	b.WriteString(wrap("", fmt.Sprintf("What the rules of %s on %s say.", w.name, w.machine)) + "\n")
	var ports []string
	for _, s := range w.spans {
		ports = append(ports, fmt.Sprintf("%s %s (%s)", s.Proto, s, s.Use))
	}
	switch {
	case len(w.spans) == 0:
	case w.source.IsValid():
		b.WriteString(wrap("", fmt.Sprintf("The workers of this machine listen on %s, and on nothing else. Only %s, the machine of the control process, may reach these ports. The source of each rule is that address: not the worker's own, and no network.", strings.Join(ports, ", "), w.source)))
		if w.own {
			b.WriteString(wrap("", "This is that machine itself: its connections to its own workers do not leave it, and are let through on the loopback interface."))
		}
		b.WriteString("\n" + wrap("", "Nobody else may: who reaches a worker's port could give it work. Connections from other workers are not needed."))
	default:
		b.WriteString(wrap("", fmt.Sprintf("The workers of this machine listen on %s, and these ports must be reachable from the internet. A node whose workers are not reached does not work.", strings.Join(ports, ", "))))
	}
	for _, s := range w.open {
		b.WriteString(wrap("", fmt.Sprintf("The control process listens on %s %s (%s), open to the internet too.", s.Proto, s, s.Use)))
	}
	b.WriteString("\n" + wrap("", "Use one of the two: ufw.sh where ufw rules the machine, rules.nft where nftables is written by hand. Neither opens ssh; be sure that your own rules do before a firewall is switched on."))
	b.WriteString("\n" + wrap("", "To take the ufw rules back:"))
	for _, line := range w.ufwRules() {
		b.WriteString("  ufw delete " + line + "\n")
	}
	return b.String()
}
