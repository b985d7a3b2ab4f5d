package page

import (
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// ask is a question with one line for the answer, at the lower edge.
type ask struct {
	label, hint string
	in          widget.Input
	bad         string
	// take uses the answer, or says what is wrong with it.
	take func(h Host, answer string) error
}

// Render draws the line, and above it what is wrong with what was typed.
func (a *ask) Render(b *widget.Buffer, _ *Look, r widget.Rect) {
	h := 1
	if a.bad != "" {
		h = 2
	}
	at := r.Below(r.H - h)
	b.Clear(at)
	a.in.Render(b, b.Text(at.Line(0), " "+a.label+" ", theme.Key.S()), true)
	if a.bad != "" {
		b.Text(at.Line(1).In(1), a.bad, theme.Warn.S())
	}
}

// Key edits, takes or leaves.
func (a *ask) Key(h Host, key, text string) {
	switch {
	case key == "enter":
		if err := a.take(h, a.in.Value()); err != nil {
			a.bad = err.Error()
			return
		}
		h.Close()
	case key == "esc":
		h.Close()
	case text != "":
		a.in.Insert(text)
		a.bad = ""
	default:
		a.in.Key(key)
	}
}

// Paste goes into the line.
func (a *ask) Paste(_ Host, text string) bool { a.in.Insert(text); return true }

// Sync has nothing to look at.
func (a *ask) Sync(Host) {}

// Hint is the last line.
func (a *ask) Hint() string { return a.hint }

// Sudden is false: a key asked for it.
func (a *ask) Sudden() bool { return false }
