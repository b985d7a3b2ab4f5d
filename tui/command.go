package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
	"app.provost/tui/theme"
)

// command is one word of the command line. Its words are those of the shell's
// commands; rest is what follows, split as a shell splits.
type command struct {
	name  string
	usage string
	help  string
	act   bool
	args  func(m *model) []string // what may follow, for completion
	run   func(m *model, rest []string) error
}

// commands is filled in by init: some of them look at the list itself.
var commands []command

func init() {
	commands = []command{
		{name: "workers", usage: "workers [filter]", help: "view 2", run: goView(page.Workers)},
		{name: "overview", usage: "overview", help: "view 1", run: goView(page.Overview)},
		{name: "gpus", usage: "gpus [filter]", help: "view 3", run: goView(page.GPUs)},
		{name: "hosts", usage: "hosts [filter]", help: "view 4", run: goView(page.Hosts)},
		{name: "alerts", usage: "alerts [filter]", help: "view 8", run: goView(page.Alerts)},
		{name: "logs", usage: "logs [source …]", help: "view 9", run: func(m *model, rest []string) error { m.Logs(rest...); return nil }},
		{name: "acts", usage: "acts [filter]", help: "view 0; acts cancel ID", run: func(m *model, rest []string) error {
			if len(rest) == 2 && rest[0] == "cancel" {
				m.Wizard(engine.CancelAct{ID: rest[1]})
				return nil
			}
			return goView(page.Acts)(m, rest)
		}},
		{name: "jobs", usage: "jobs [filter]", help: "proof jobs, key J", run: goView(page.Jobs)},
		{name: "filter", usage: "filter <expression>", help: "filter this view, empty for all", run: func(m *model, rest []string) error {
			f, ok := m.page().(page.Filterer)
			if !ok {
				return errors.New("filter: this view has nothing to filter")
			}
			if err := f.SetFilter(strings.Join(rest, " ")); err != nil {
				return err
			}
			m.Resort()
			return nil
		}},
		{name: "sort", usage: "sort <column> [desc]", help: "order this view", args: columnNames, run: func(m *model, rest []string) error {
			t, ok := m.page().(page.Table)
			if !ok {
				return errors.New("sort: this view has no columns")
			}
			if len(rest) == 0 || len(rest) > 2 || len(rest) == 2 && rest[1] != "desc" && rest[1] != "asc" {
				return errors.New("sort: want a column, and desc to reverse")
			}
			if err := t.Sort(rest[0], len(rest) == 2 && rest[1] == "desc"); err != nil {
				return err
			}
			m.Resort()
			return nil
		}},
		{name: "pause", usage: "pause worker <selector> [--for=45m] [--reason=…]", help: "opens the wizard", act: true, args: fixed("worker"), run: pause},
		{name: "resume", usage: "resume worker <selector>", help: "opens the wizard", act: true, args: fixed("worker"), run: func(m *model, rest []string) error {
			sel, _, err := workerArgs("resume", rest)
			if err == nil {
				m.Wizard(engine.ResumeWorkers{Workers: sel})
			}
			return err
		}},
		{name: "restart", usage: "restart worker <selector>", help: "opens the wizard", act: true, args: fixed("worker"), run: func(m *model, rest []string) error {
			sel, _, err := workerArgs("restart", rest)
			if err == nil {
				m.Wizard(engine.RestartWorkers{Workers: sel})
			}
			return err
		}},
		{name: "cancel", usage: "cancel job <selector>", help: "opens the review", act: true, args: fixed("job"), run: func(m *model, rest []string) error {
			if len(rest) < 2 || rest[0] != "job" {
				return errors.New("cancel: want job and a selector")
			}
			m.Wizard(engine.CancelJobs{Jobs: engine.Selector(strings.Join(rest[1:], " "))})
			return nil
		}},
		{name: "create", usage: "create [kind]", help: "opens the guide through a creation", act: true, args: creationNames, run: func(m *model, rest []string) error {
			flows := flow.Creations()
			if len(rest) > 0 {
				i := slices.IndexFunc(flows, func(f flow.Flow) bool { return string(f.ID) == "create "+rest[0] })
				if i < 0 || len(rest) > 1 {
					return fmt.Errorf("create: want one of %s; its answers come in the guide", strings.Join(creationNames(m), ", "))
				}
				flows = flows[i : i+1]
			}
			m.openGuide(flows...)
			return nil
		}},
		{name: "node", usage: "node [export|import]", help: "opens the guide: move a node, back it up, put it in place", act: true, args: fixed("export", "import"), run: func(m *model, rest []string) error {
			flows := flow.Leavings()
			if len(rest) > 0 {
				i := slices.IndexFunc(flows, func(f flow.Flow) bool { return string(f.ID) == "node "+rest[0] })
				if i < 0 || len(rest) > 1 {
					return errors.New("node: want export or import; its answers come in the guide")
				}
				flows = flows[i : i+1]
			}
			m.openGuide(flows...)
			return nil
		}},
		{name: "combine", usage: "combine", help: "opens the guide: leave a cluster with whole keys", act: true, run: func(m *model, rest []string) error {
			if len(rest) > 0 {
				return errors.New("combine: nothing may follow; its answers come in the guide")
			}
			m.openGuide(flow.Combine())
			return nil
		}},
		{name: "unlock", usage: "unlock 15m <reason>", help: "let screens act for a while", run: func(m *model, rest []string) error {
			if m.o.ReadOnly {
				return errors.New("unlock: this screen is read-only")
			}
			if len(rest) < 2 {
				return errors.New("unlock: want a length of time and a reason, as in unlock 15m disk swap")
			}
			d, err := time.ParseDuration(rest[0])
			if err != nil || d <= 0 {
				return fmt.Errorf("unlock: %q is no length of time, as in 15m", rest[0])
			}
			m.Act(engine.UnlockScreens{For: engine.Duration(d), Reason: strings.Join(rest[1:], " ")})
			return nil
		}},
		{name: "lock", usage: "lock", help: "screens may only look again", run: func(m *model, rest []string) error {
			if m.o.ReadOnly {
				return errors.New("lock: this screen is read-only")
			}
			m.Act(engine.LockScreens{})
			return nil
		}},
		{name: "ack", usage: "ack <id …|all>", help: "acknowledge alerts", act: true, run: func(m *model, rest []string) error {
			if len(rest) == 0 {
				return errors.New(`ack: want alert ids, or all written out`)
			}
			m.Act(engine.AckAlerts{IDs: rest})
			return nil
		}},
		{name: "mute", usage: "mute <id …|all> <1h>", help: "hide alerts for a while", act: true, run: func(m *model, rest []string) error {
			if len(rest) < 2 {
				return errors.New("mute: want alert ids and a length of time, as in mute all 1h")
			}
			d, err := time.ParseDuration(rest[len(rest)-1])
			if err != nil || d <= 0 {
				return fmt.Errorf("mute: %q is no length of time, as in 1h", rest[len(rest)-1])
			}
			m.Act(engine.MuteAlerts{IDs: rest[:len(rest)-1], For: engine.Duration(d)})
			return nil
		}},
		{name: "theme", usage: "theme <name>", help: "change the colours", args: func(*model) []string { return theme.Names() }, run: func(m *model, rest []string) error {
			if len(rest) != 1 {
				return fmt.Errorf("theme: there are %s", strings.Join(theme.Names(), ", "))
			}
			t, err := theme.ByName(rest[0])
			if err != nil {
				return err
			}
			m.buf.Theme = t
			return nil
		}},
		{name: "mouse", usage: "mouse on|off", help: "the wheel moves the cursor; takes selection from the terminal", args: fixed("on", "off"), run: func(m *model, rest []string) error {
			if len(rest) != 1 || rest[0] != "on" && rest[0] != "off" {
				return errors.New("mouse: want on or off")
			}
			m.mouse = rest[0] == "on"
			cmd := tea.DisableMouse
			if m.mouse {
				cmd = tea.EnableMouseCellMotion
			}
			m.pending = append(m.pending, cmd)
			m.Say("mouse " + rest[0])
			return nil
		}},
		{name: "views", usage: "views [all|configured|hide NAME|show NAME]", help: "which views stand in the bar", args: fixed("all", "configured", "hide", "show"), run: views},
		{name: "columns", usage: "columns", help: "choose columns of this view", run: func(m *model, _ []string) error {
			if b := m.bound(pressed("c")); b != nil && b.Name == "columns" {
				b.Do(m)
				return nil
			}
			return errors.New("columns: this view has none")
		}},
		{name: "wizards", usage: "wizards", help: "guided flows, key w", run: func(m *model, _ []string) error { m.openWizards(); return nil }},
		{name: "refresh", usage: "refresh", help: "a new picture now", run: func(m *model, _ []string) error { m.bridge.kick(); return nil }},
		{name: "doctor", usage: "doctor", help: "checks, evidence, fix; key D", run: func(m *model, _ []string) error { m.openDoctor(); return nil }},
		{name: "export", usage: "export", help: "write this view to a file; key e", run: func(m *model, _ []string) error { m.export(); return nil }},
		{name: "help", usage: "help", help: "keys of this view", run: func(m *model, _ []string) error { m.openHelp(); return nil }},
		{name: "quit", usage: "quit [ask]", help: "leave the screen; quit ask: ask before leaving again", args: fixed("ask"), run: func(m *model, rest []string) error {
			if len(rest) > 0 && rest[0] == "ask" {
				m.leaveAtOnce = false
			}
			m.askLeave(false)
			return nil
		}},
		{name: "down", usage: "down [--workers]", help: "stop the engine; opens the review", act: true, args: fixed("--workers"), run: func(m *model, rest []string) error {
			if len(rest) > 1 || len(rest) == 1 && rest[0] != "--workers" {
				return errors.New("down: only --workers may follow")
			}
			m.Wizard(engine.StopEngine{Workers: len(rest) == 1})
			return nil
		}},
	}
}

// aliases that fingers know from elsewhere.
var aliases = map[string]string{"q": "quit", "leave": "quit", "q!": "quit", "worker": "workers", "gpu": "gpus", "host": "hosts", "job": "jobs", "log": "logs", "alert": "alerts", "act": "acts"}

func goView(id page.ID) func(m *model, rest []string) error {
	return func(m *model, rest []string) error {
		m.Go(id, strings.Join(rest, " "))
		return nil
	}
}

func fixed(words ...string) func(*model) []string { return func(*model) []string { return words } }

func columnNames(m *model) []string {
	if t, ok := m.page().(page.Table); ok {
		return t.ColumnNames()
	}
	return nil
}

// workerArgs reads "worker <selector> [--flag=value …]".
func workerArgs(doing string, rest []string) (engine.Selector, map[string]string, error) {
	flags := map[string]string{}
	var words []string
	for i := 0; i < len(rest); i++ {
		name, ok := strings.CutPrefix(rest[i], "--")
		if !ok {
			words = append(words, rest[i])
			continue
		}
		name, value, has := strings.Cut(name, "=")
		if !has && name != "stop" {
			if i++; i == len(rest) {
				return "", nil, fmt.Errorf("%s: --%s wants a value", doing, name)
			}
			value = rest[i]
		}
		flags[name] = strings.Trim(value, `"`)
	}
	if len(words) > 0 && (words[0] == "worker" || words[0] == "workers") {
		words = words[1:]
	}
	return engine.Selector(strings.Join(words, " ")), flags, nil
}

func pause(m *model, rest []string) error {
	sel, flags, err := workerArgs("pause", rest)
	if err != nil {
		return err
	}
	a := engine.PauseWorkers{Workers: sel, Reason: flags["reason"]}
	for name, v := range flags {
		switch name {
		case "for":
			if err := a.For.UnmarshalText([]byte(v)); err != nil {
				return fmt.Errorf("pause: %w", err)
			}
		case "stop":
			a.Stop = true
		case "reason":
		default:
			return fmt.Errorf("pause: there is no flag --%s; there are --for --reason --stop", name)
		}
	}
	m.Wizard(a)
	return nil
}

func views(m *model, rest []string) error {
	switch {
	case len(rest) == 0 || rest[0] == "all":
		m.showAll = true
		clear(m.hidden)
	case rest[0] == "configured":
		m.showAll = false
	case (rest[0] == "hide" || rest[0] == "show") && len(rest) == 2:
		for _, v := range m.views {
			if strings.HasPrefix(string(v.ID), rest[1]) {
				m.hidden[v.ID] = rest[0] == "hide"
				return nil
			}
		}
		return fmt.Errorf("views: there is no view %q", rest[1])
	default:
		return errors.New("views: want all, configured, hide NAME or show NAME")
	}
	return nil
}

// parse finds the command of a line and splits the rest.
func (m *model) parse(line string) (*command, []string) {
	words := splitWords(line)
	if len(words) == 0 {
		return nil, nil
	}
	name := words[0]
	if a, ok := aliases[name]; ok {
		name = a
	}
	for i := range commands {
		if commands[i].name == name {
			return &commands[i], words[1:]
		}
	}
	return nil, nil
}

// splitWords splits at spaces; quotes keep them. Within a filter's own quotes the
// quotes stay: they are part of its language.
func splitWords(s string) []string {
	var out []string
	var w strings.Builder
	quote, in := rune(0), false
	for _, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
				if r == '"' {
					w.WriteRune(r)
				}
				break
			}
			w.WriteRune(r)
		case r == '\'':
			quote, in = r, true
		case r == '"':
			quote, in = r, true
			w.WriteRune(r)
		case r == ' ':
			if in {
				out = append(out, w.String())
				w.Reset()
				in = false
			}
		default:
			in = true
			w.WriteRune(r)
		}
	}
	if in {
		out = append(out, w.String())
	}
	return out
}

// proposal is one line below the command line.
type proposal struct {
	usage, help, fill string
	act               bool
}

// proposals are the commands that what was typed may become, or their arguments.
func (m *model) proposals(line string) []proposal {
	name, rest, more := strings.Cut(strings.TrimLeft(line, " "), " ")
	var out []proposal
	for i := range commands {
		c := &commands[i]
		switch {
		case !more && strings.HasPrefix(c.name, name):
			out = append(out, proposal{c.usage, c.help, c.name + " ", c.act})
		case more && c.name == name:
			if c.args != nil {
				last := rest[strings.LastIndex(rest, " ")+1:]
				head := strings.TrimSuffix(line, last)
				for _, a := range c.args(m) {
					if strings.HasPrefix(a, last) && a != last && !slices.Contains(strings.Fields(rest), a) {
						out = append(out, proposal{c.name + " " + a, c.help, head + a + " ", c.act})
					}
				}
			}
			if len(out) == 0 {
				out = append(out, proposal{c.usage, c.help, line, c.act})
			}
		}
	}
	return out
}

func creationNames(*model) []string {
	var out []string
	for _, f := range flow.Creations() {
		out = append(out, strings.TrimPrefix(string(f.ID), "create "))
	}
	return out
}
