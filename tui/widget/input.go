package widget

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"app.provost/tui/theme"
)

// Input is one line of text being typed. The zero value is empty. Editing is
// textinput's; drawing is ours, because a frame is cells and not styled strings.
// Keys are given by their names, as in "ctrl+w"; what it does not know it leaves
// to its owner.
type Input struct {
	line *textinput.Model // nil: nothing typed yet
	Max  int              // characters taken; 0: 500
}

// editing are the keys of a line. Not bound are the library's ctrl+v, which would
// ask a program of this machine for its clipboard, and its suggestions.
var editing = func() textinput.KeyMap {
	k := textinput.DefaultKeyMap
	for _, b := range []*key.Binding{&k.Paste, &k.AcceptSuggestion, &k.NextSuggestion, &k.PrevSuggestion} {
		b.Unbind()
	}
	return k
}()

var editKeys = []key.Binding{
	editing.CharacterForward, editing.CharacterBackward, editing.WordForward, editing.WordBackward, editing.DeleteWordBackward, editing.DeleteWordForward,
	editing.DeleteAfterCursor, editing.DeleteBeforeCursor, editing.DeleteCharacterBackward, editing.DeleteCharacterForward, editing.LineStart, editing.LineEnd,
}

// named are the keys that are no characters, by their names.
var named = func() map[string]tea.Key {
	out := map[string]tea.Key{}
	for t := tea.KeyType(-128); t <= 127; t++ {
		if t == tea.KeyRunes {
			continue
		}
		for _, alt := range []bool{false, true} {
			if k := (tea.Key{Type: t, Alt: alt}); k.String() != "" {
				out[k.String()] = k
			}
		}
	}
	return out
}()

// KnownKey tells whether a name is one of a key, as in "x", "ctrl+r", "alt+x" or "pgdown".
func KnownKey(name string) bool {
	if _, ok := named[name]; ok {
		return true
	}
	r, _ := strings.CutPrefix(name, "alt+")
	c, n := utf8.DecodeRuneInString(r)
	return n == len(r) && c != utf8.RuneError && unicode.IsPrint(c)
}

func (in *Input) model() *textinput.Model {
	if in.line == nil {
		m := textinput.New()
		m.KeyMap = editing
		m.Cursor.SetMode(cursor.CursorStatic) // nothing blinks: it would cost bytes
		m.CharLimit = 500
		if in.Max > 0 {
			m.CharLimit = in.Max
		}
		m.Focus()
		in.line = &m
	}
	return in.line
}

func (in *Input) take(k tea.Key) {
	m, _ := in.model().Update(tea.KeyMsg(k)) // a cursor that does not blink asks for nothing
	*in.line = m
}

// Value is the text.
func (in *Input) Value() string {
	if in.line == nil {
		return ""
	}
	return in.line.Value()
}

// Set replaces the text and puts the cursor at its end.
func (in *Input) Set(s string) {
	in.line = nil
	if s != "" {
		in.Insert(s)
	}
}

// Insert adds typed or pasted text. Control characters become spaces: a pasted
// line end does not act as enter.
func (in *Input) Insert(s string) {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.TrimRight(s, "\r\n"))
	// As a paste, so that a pasted word like "home" is not taken for the key of that name.
	in.take(tea.Key{Type: tea.KeyRunes, Runes: []rune(s), Paste: true})
}

// Key handles an editing key and tells whether it was one.
func (in *Input) Key(name string) bool {
	k, ok := named[name]
	if r, alt := strings.CutPrefix(name, "alt+"); alt && !ok && utf8.RuneCountInString(r) == 1 {
		k, ok = tea.Key{Type: tea.KeyRunes, Runes: []rune(r), Alt: true}, true
	}
	if !ok || !key.Matches(k, editKeys...) {
		return false
	}
	in.take(k)
	return true
}

// Render draws the text with its cursor; a long text is shown around the cursor.
func (in *Input) Render(b *Buffer, r Rect, focus bool) Rect {
	if r.Empty() {
		return r
	}
	text, at := []rune(in.Value()), 0
	if in.line != nil {
		at = in.line.Position()
	}
	from := 0
	for from < at && widthOf(text[from:at]) >= r.W {
		from++
	}
	for i := from; i <= len(text); i++ {
		if i == at && focus {
			r = b.Rune(r, b.Glyphs.Caret, theme.Key.S())
		}
		if i == len(text) || r.W == 0 {
			break
		}
		r = b.Rune(r, text[i], theme.Title.S())
	}
	return r
}

func widthOf(s []rune) int {
	n := 0
	for _, r := range s {
		n += RuneWidth(r)
	}
	return n
}
