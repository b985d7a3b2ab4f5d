// Package theme says how roles look. Code names a role ("crit"), never a colour;
// a theme turns a role into prepared control codes, a sign and an attribute. Sign
// and word are enough to read every state: colour repeats them.
//
// A Theme never changes after it was made and may be used by several screens.
package theme

import (
	"fmt"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/tui/internal/escape"
)

// Role is what a piece of text is. The zero value is plain text.
type Role uint8

const (
	Text     Role = iota
	OK            // works
	Idle          // ready, nothing to do
	Busy          // on its way
	Paused        // paused, held
	Warn          // needs a look
	Stale         // heartbeat late
	Crit          // work is being lost
	Old           // a value that is no longer fresh
	Unknown       // not read
	Title         // names of things, headings
	Frame         // lines and borders
	Hint          // secondary text, units
	Key           // a key to press
	Active        // the chosen view in the bar
	Banner        // across the screen: frozen, practice
	CritLine      // across the screen: the link is lost
	Field         // text being typed
	nRoles
)

// Mod changes how a role looks.
type Mod uint8

const (
	Selected Mod = 1 << iota // the cursor's row
	Faded                    // older than two periods, or behind a lost link
	Strong
	nMods = 1 << iota
)

// Style is a role with modifications. The zero value is plain text.
type Style uint16

// With adds a modification.
func (s Style) With(m Mod) Style { return s | Style(m)<<8 }

// S is a role as a style.
func (r Role) S() Style { return Style(r) }

type look struct {
	fg, bg escape.Color
	attr   escape.Attr
}

// Theme holds prepared codes for every style.
type Theme struct {
	Name  string
	codes [int(nRoles) * nMods]string
}

// Code is the control code that switches to a style, "" never.
func (t *Theme) Code(s Style) string {
	i := int(s&0xff)*nMods + int(s>>8)
	if i >= len(t.codes) {
		return t.codes[0]
	}
	return t.codes[i]
}

func build(name string, color bool, looks [nRoles]look) *Theme {
	t := &Theme{Name: name}
	for r := Role(0); r < nRoles; r++ {
		for m := range nMods {
			l := looks[r]
			if Mod(m)&Faded != 0 && r != Banner && r != CritLine {
				l = look{fg: looks[Old].fg, attr: looks[Old].attr | l.attr&escape.Reverse}
			}
			if Mod(m)&Strong != 0 {
				l.attr |= escape.Bold
			}
			if Mod(m)&Selected != 0 {
				l.attr = l.attr&^escape.Dim | escape.Reverse
			}
			if !color {
				l.fg, l.bg = escape.Default, escape.Default
			}
			t.codes[int(r)*nMods+m] = escape.SGR(l.fg, l.bg, l.attr)
		}
	}
	return t
}

func n(c int) escape.Color { return escape.Named(c) }
func x(c int) escape.Color { return escape.Indexed(c) }

// palette makes the looks of all roles from the colours of the states.
func palette(ok, idle, busy, paused, warn, crit, old, frame, text escape.Color) [nRoles]look {
	return [nRoles]look{
		Text:     {fg: text},
		OK:       {fg: ok},
		Idle:     {fg: idle, attr: dimIf(idle == escape.Default)},
		Busy:     {fg: busy},
		Paused:   {fg: paused},
		Warn:     {fg: warn},
		Stale:    {fg: warn, attr: escape.Underline},
		Crit:     {fg: crit, attr: escape.Bold},
		Old:      {fg: old, attr: dimIf(old == escape.Default)},
		Unknown:  {fg: idle, attr: dimIf(idle == escape.Default)},
		Title:    {fg: text, attr: escape.Bold},
		Frame:    {fg: frame, attr: dimIf(frame == escape.Default)},
		Hint:     {fg: idle, attr: dimIf(idle == escape.Default)},
		Key:      {fg: text, attr: escape.Bold},
		Active:   {fg: text, attr: escape.Bold | escape.Reverse},
		Banner:   {fg: warn, attr: escape.Bold | escape.Reverse},
		CritLine: {fg: crit, attr: escape.Bold | escape.Reverse},
		Field:    {fg: text, attr: escape.Underline},
	}
}

func dimIf(b bool) escape.Attr {
	if b {
		return escape.Dim
	}
	return 0
}

var themes = []*Theme{
	// The terminal's own 16 colours: readable wherever the user made them so.
	build("term", true, palette(n(6), escape.Default, n(4), n(5), n(3), n(1), escape.Default, escape.Default, escape.Default)),
	// Okabe-Ito's set on a dark and on a light background.
	build("dark", true, palette(x(36), x(244), x(75), x(175), x(214), x(166), x(240), x(240), x(252))),
	build("light", true, palette(x(29), x(244), x(25), x(126), x(130), x(160), x(248), x(248), x(235))),
	build("contrast", true, palette(n(14), n(15), n(12), n(13), n(11), n(9), n(7), n(15), n(15))),
	// ok moves to blue for eyes that do not tell green from red, busy gives way to cyan.
	build("deuteran", true, palette(x(33), x(244), x(80), x(175), x(220), x(208), x(240), x(240), x(252))),
	// Eyes that do not tell blue from yellow: warn becomes pink, ok stays teal.
	build("tritan", true, palette(x(37), x(244), x(30), x(133), x(211), x(160), x(240), x(240), x(252))),
	build("mono", false, [nRoles]look{
		Idle:     {attr: escape.Dim},
		Paused:   {attr: escape.Underline},
		Warn:     {attr: escape.Bold},
		Stale:    {attr: escape.Underline},
		Crit:     {attr: escape.Bold | escape.Reverse},
		Old:      {attr: escape.Dim},
		Unknown:  {attr: escape.Dim},
		Title:    {attr: escape.Bold},
		Frame:    {attr: escape.Dim},
		Hint:     {attr: escape.Dim},
		Key:      {attr: escape.Bold},
		Active:   {attr: escape.Bold | escape.Reverse},
		Banner:   {attr: escape.Bold | escape.Reverse},
		CritLine: {attr: escape.Bold | escape.Reverse},
		Field:    {attr: escape.Underline},
	}),
}

// Names lists the themes.
func Names() []string {
	var out []string
	for _, t := range themes {
		out = append(out, t.Name)
	}
	return out
}

// ByName finds a theme.
func ByName(name string) (*Theme, error) {
	for _, t := range themes {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("choose theme %q: there are %s", name, strings.Join(Names(), ", "))
}

// Choose picks a theme and the glyphs from what the user asked for and from the
// environment, given as os.Getenv. NO_COLOR gives mono, which keeps attributes.
func Choose(name string, ascii bool, getenv func(string) string) (*Theme, *Glyphs, error) {
	if name == "" {
		name = getenv("PROVOST_THEME")
	}
	if name == "" {
		name = "term"
		if getenv("NO_COLOR") != "" || slices.Contains([]string{"dumb", "vt100", "vt102", "vt220"}, getenv("TERM")) {
			name = "mono"
		}
	}
	t, err := ByName(name)
	if err != nil {
		return nil, nil, err
	}
	g := Unicode
	if ascii || needASCII(getenv) {
		g = ASCII
	}
	return t, g, nil
}

// needASCII: without UTF-8, on consoles with few glyphs, and where ambiguous
// characters are two cells wide, only ASCII keeps the columns straight.
func needASCII(getenv func(string) string) bool {
	if v := getenv("PROVOST_ASCII"); v != "" && v != "0" {
		return true
	}
	term := getenv("TERM")
	if term == "linux" || term == "dumb" || strings.HasPrefix(term, "vt") {
		return true
	}
	locale := getenv("LC_ALL")
	if locale == "" {
		locale = getenv("LC_CTYPE")
	}
	if locale == "" {
		locale = getenv("LANG")
	}
	l := strings.ToLower(locale)
	if !strings.Contains(l, "utf-8") && !strings.Contains(l, "utf8") {
		return true
	}
	return strings.HasPrefix(l, "ja") || strings.HasPrefix(l, "ko") || strings.HasPrefix(l, "zh")
}

// Glyphs is a set of signs. Each is one cell wide.
type Glyphs struct {
	OK, Idle, Busy, Paused, Warn, Stale, Crit, Unknown rune
	H, V, TL, TR, BL, BR, LT, RT                       rune // lines and corners
	Up, Down, Right, Cursor, Caret, Ellipsis, Dot      rune
	Bars                                               []rune // eighths, low to high
	Full, Empty                                        rune   // of a bar
}

// Unicode is the default set.
var Unicode = &Glyphs{
	OK: '●', Idle: '○', Busy: '◐', Paused: '‖', Warn: '▲', Stale: '◌', Crit: '✖', Unknown: '?',
	H: '─', V: '│', TL: '┌', TR: '┐', BL: '└', BR: '┘', LT: '├', RT: '┤',
	Up: '▲', Down: '▼', Right: '→', Cursor: '>', Caret: '▏', Ellipsis: '…', Dot: '·',
	Bars: []rune("▁▂▃▄▅▆▇█"), Full: '█', Empty: '·',
}

// ASCII needs nothing of the terminal.
var ASCII = &Glyphs{
	OK: '+', Idle: 'o', Busy: '~', Paused: '=', Warn: '!', Stale: '?', Crit: 'X', Unknown: '?',
	H: '-', V: '|', TL: '+', TR: '+', BL: '+', BR: '+', LT: '+', RT: '+',
	Up: '^', Down: 'v', Right: '>', Cursor: '>', Caret: '_', Ellipsis: '.', Dot: '.',
	Bars: []rune("_.:-=+*#"), Full: '#', Empty: '.',
}

// Sign is a role's sign.
func (g *Glyphs) Sign(r Role) rune {
	switch r {
	case OK:
		return g.OK
	case Idle:
		return g.Idle
	case Busy:
		return g.Busy
	case Paused:
		return g.Paused
	case Warn:
		return g.Warn
	case Stale:
		return g.Stale
	case Crit:
		return g.Crit
	}
	return g.Unknown
}

// OfWorker is the role of a worker's state.
func OfWorker(s engine.WorkerState) Role {
	switch s {
	case engine.WorkerRun:
		return OK
	case engine.WorkerIdle:
		return Idle
	case engine.WorkerStart:
		return Busy
	case engine.WorkerPausing, engine.WorkerPaused, engine.WorkerHeld:
		return Paused
	case engine.WorkerStale:
		return Stale
	case engine.WorkerDown, engine.WorkerGone:
		return Crit
	}
	return Unknown
}

// OfLevel is the role of a level.
func OfLevel(l engine.Level) Role {
	switch l {
	case engine.LevelCrit:
		return Crit
	case engine.LevelWarn:
		return Warn
	case engine.LevelOK:
		return OK
	}
	return Text
}

// LevelMark is the short form of a level: "!!", "!", "i", "ok".
func LevelMark(l engine.Level) string {
	switch l {
	case engine.LevelCrit:
		return "!!"
	case engine.LevelWarn:
		return "!"
	case engine.LevelOK:
		return "ok"
	case engine.LevelNote:
		return "i"
	}
	return " "
}

// OfVerdict is the role of a verdict.
func OfVerdict(v engine.VerdictWord) Role {
	switch v {
	case engine.VerdictOK:
		return OK
	case engine.VerdictDegraded:
		return Warn
	case engine.VerdictCritical:
		return Crit
	}
	return Unknown
}

// OfGPU is the role of a GPU's state.
func OfGPU(state string) Role {
	switch state {
	case "run":
		return OK
	case "idle":
		return Idle
	case "hot":
		return Warn
	case "lost":
		return Crit
	}
	return Unknown
}

// OfAct is the role of an act's state.
func OfAct(s engine.ActState) Role {
	switch s {
	case engine.ActRunning:
		return Busy
	case engine.ActHolding:
		return Paused
	case engine.ActDone:
		return OK
	case engine.ActPartly:
		return Warn
	case engine.ActFailed:
		return Crit
	case engine.ActCancelled:
		return Idle
	}
	return Unknown
}
