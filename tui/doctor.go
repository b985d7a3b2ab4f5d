package tui

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// doctor lists what engine.Doctor finds: what is wrong first, on request the rest.
type doctor struct {
	checks []engine.Diagnosis
	all    bool
	top    int
	rows   int // lines that there are
	height int // lines that fit
}

func (m *model) openDoctor() { m.Open(&doctor{}) }

// Sync looks again.
func (o *doctor) Sync(h page.Host) {
	l := h.Look()
	o.checks = engine.Doctor(l.Snap, l.Now)
}

func healthRole(h engine.Health) theme.Role {
	switch h {
	case engine.HealthOK, engine.HealthNote:
		return theme.OK
	case engine.HealthWarn:
		return theme.Warn
	case engine.HealthCrit:
		return theme.Crit
	}
	return theme.Unknown
}

func fine(h engine.Health) bool { return h == engine.HealthOK || h == engine.HealthNote }

type doctorLine struct {
	indent     int
	name, text string
	role       theme.Role // of text
	sign       bool
}

func (o *doctor) lines(width int) []doctorLine {
	var out []doctorLine
	more := func(name, text string) {
		if text == "" {
			return
		}
		for i, s := range widget.Wrap(strings.Fields(text), max(width-20, 20)) {
			if i > 0 {
				name = ""
			}
			out = append(out, doctorLine{indent: 11, name: name, text: s})
		}
	}
	area := ""
	for i := range o.checks {
		c := &o.checks[i]
		if !o.all && fine(c.State) {
			continue
		}
		if c.Area != area {
			area = c.Area
			out = append(out, doctorLine{name: strings.ToUpper(area)})
		}
		state := string(c.State)
		if state == "" {
			state = string(engine.HealthUnknown)
		}
		for k, s := range widget.Wrap(strings.Fields(c.Title), max(width-11, 20)) {
			x := doctorLine{indent: 11, text: s, role: theme.Title}
			if k == 0 {
				x = doctorLine{indent: 1, name: state, text: s, role: healthRole(c.State), sign: true}
			}
			out = append(out, x)
		}
		more("effect", c.Effect)
		var facts []string
		for _, f := range c.Facts {
			facts = append(facts, f.Name+" "+f.Value)
		}
		more("seen", strings.Join(facts, ", "))
		if c.Looked != "" {
			more("looked", "for "+c.Looked)
		}
		for _, n := range c.Fix {
			text := n.Text
			if n.Key != "" {
				text = n.Key + "  " + text
			}
			if n.Command != "" {
				text += ": " + n.Command
			}
			more("fix", text)
		}
	}
	return out
}

// Render draws the visible lines.
func (o *doctor) Render(b *widget.Buffer, _ *page.Look, r widget.Rect) {
	box := center(r, 120, r.H)
	b.Clear(box)
	ok := 0
	for i := range o.checks {
		if fine(o.checks[i].State) {
			ok++
		}
	}
	note := fmt.Sprintf("%d checks, %d ok", len(o.checks), ok)
	if o.all {
		note += "   o trouble only"
	} else {
		note += "   o all of them"
	}
	in := b.Box(box, "Doctor", note).In(1)
	lines := o.lines(in.W)
	if len(lines) == 0 {
		b.Text(in.Line(1), fmt.Sprintf("All %d checks are ok. o shows them with what was seen.", len(o.checks)), theme.OK.S())
		return
	}
	o.rows, o.height = len(lines), in.H
	o.top = min(max(o.top, 0), max(o.rows-o.height, 0))
	for y := 0; y < in.H && o.top+y < len(lines); y++ {
		x, line := &lines[o.top+y], in.Line(y)
		switch {
		case x.sign:
			at := b.Rune(line.Skip(x.indent), b.Glyphs.Sign(x.role), x.role.S())
			b.Text(at.Skip(1), x.name, x.role.S())
			b.Text(line.Skip(11), x.text, theme.Title.S())
		case x.indent == 0:
			b.Text(line, x.name, theme.Title.S())
		case x.role == theme.Title:
			b.Text(line.Skip(x.indent), x.text, theme.Title.S())
		default:
			b.Text(line.Skip(x.indent), x.name, theme.Hint.S())
			b.Text(line.Skip(x.indent+8), x.text, theme.Text.S())
		}
	}
	if rest := o.rows - o.top - in.H; rest > 0 {
		b.Foot(box, fmt.Sprintf("%d lines more", rest))
	}
}

// Key scrolls and chooses.
func (o *doctor) Key(h page.Host, key, _ string) {
	switch key {
	case "j", "down":
		o.top++
	case "k", "up":
		o.top--
	case "ctrl+d", "pgdown", " ":
		o.top += max(o.height-2, 1)
	case "ctrl+u", "pgup":
		o.top -= max(o.height-2, 1)
	case "g", "home":
		o.top = 0
	case "G", "end":
		o.top = o.rows
	case "o":
		o.all, o.top = !o.all, 0
	case "y":
		h.Copy("the command", "provost doctor")
	case "esc", "D", "q":
		h.Close()
	default:
		h.Say(shown(key) + ": not a key here, o shows all checks, esc closes")
	}
}

// Paste is for fields, of which there is none.
func (o *doctor) Paste(page.Host, string) bool { return false }

// Hint is the last line.
func (o *doctor) Hint() string {
	return "j k scroll  o all or trouble only  y copy the command  esc closes"
}

// Sudden is false: a key asked for it.
func (o *doctor) Sudden() bool { return false }
