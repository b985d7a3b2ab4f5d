// Package page holds the views of the dashboard. A view is a plain struct: it
// keeps what belongs to the viewer (cursor, sort, filter, which detail is open)
// and draws a snapshot into a rectangle. It starts no goroutine, keeps no engine
// and asks nobody: what a key wants done it asks of its Host, on the screen's
// own goroutine.
//
// To add a view:
//
//  1. Write a struct in a file of its own that implements Page. A view that is
//     one table embeds list (list.go), which brings movement, marks, sort,
//     filter, columns and the detail frame; gpus.go is the shortest example.
//  2. Sync is called when the snapshot, the filter or a setting changed, and is
//     the only place that may walk all rows. Render is called for every frame:
//     it touches visible rows only and allocates nothing that grows with them.
//  3. Draw roles, never colours (theme), and only inside the rectangle. Unknown
//     is Cell.Ask or "?", not applicable is Cell.Dash or "-"; never 0.
//  4. Put every key in Bindings, with its help and, where it can be off, the
//     reason why. The footer, the help page and the key handling are made from it.
//  5. Add it to New in register.go, with its number, and to the test's list of
//     views: golden frames at six sizes come by themselves (-update writes them).
//
// Overlays (wizards, questions, the help) implement Overlay and are opened with
// Host.Open. An overlay gets every key while it is on top.
package page

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/bubbles/key"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// ID names a view, as the command line does.
type ID string

const (
	Overview   ID = "overview"
	Workers    ID = "workers"
	GPUs       ID = "gpus"
	Hosts      ID = "hosts"
	Duties     ID = "duties"
	Validators ID = "validators"
	Peers      ID = "peers"
	Alerts     ID = "alerts"
	Logs       ID = "logs"
	Acts       ID = "acts"
	Jobs       ID = "jobs"
)

// Link is how the connection to the engine stands.
type Link struct {
	Connected bool
	Since     time.Time // of Connected, either way
	Tries     int       // since it was lost
	Problem   string    // why the last try failed
	Next      time.Time // of the next try; zero: not known
}

// Look is what a view may look at. It is rebuilt before every Sync and Render;
// nobody keeps it.
type Look struct {
	Snap *engine.Snapshot // never nil; empty before the first update
	Sum  *Summary         // counts over Snap, never nil
	// Now is the screen's clock. While the screen is frozen it is the moment of freezing.
	Now     time.Time
	Entries []engine.Entry // the journal as far as this screen heard it, oldest first
	Link    Link
	// Frozen is when the screen was frozen, zero when it is not.
	Frozen   time.Time
	ReadOnly bool
	// Ages shows how long ago instead of the clock time (key t).
	Ages bool
	// Sparks is off in low-bandwidth mode.
	Sparks bool
}

// Ready tells whether a snapshot has come.
func (l *Look) Ready() bool { return l.Snap.Engine != nil }

// ActsOff says why nothing can be changed from here now; "" when it can. Every
// key and command that leads to Engine.Do passes through it.
func (l *Look) ActsOff() string {
	switch {
	case !l.Link.Connected:
		return "the link to the engine is lost"
	case !l.Ready():
		return "no reading yet"
	case l.ReadOnly:
		return "this screen is read-only"
	case !l.Frozen.IsZero():
		return "the screen is frozen, f ends that"
	case l.Snap.Engine.Value.Stopping != "":
		return "the engine is stopping"
	case l.Snap.Engine.Value.Unlocked == nil:
		return "locked, :unlock 15m <reason>"
	case !l.Snap.Engine.Value.Unlocked.Until.After(l.Now):
		return "the lock has closed again, :unlock 15m <reason>"
	}
	return ""
}

// Locked tells whether nothing but the timed lock keeps this screen from acting.
// What it asks for can then be prepared and unlocked on the way.
func (l *Look) Locked() bool {
	if !l.Link.Connected || !l.Ready() || l.ReadOnly || !l.Frozen.IsZero() || l.Snap.Engine.Value.Stopping != "" {
		return false
	}
	u := l.Snap.Engine.Value.Unlocked
	return u == nil || !u.Until.After(l.Now)
}

// Host is the screen, as a view or an overlay may use it. Its methods are called
// on the screen's goroutine only, and return at once.
type Host interface {
	Look() *Look
	// Say shows a line at the bottom for 3 s.
	Say(text string)
	// Go changes to another view. A non-empty filter replaces that view's.
	Go(id ID, filter string)
	// Back leaves a detail, a filter, or goes to the previous view.
	Back()
	// Open puts an overlay on top; Close takes the top one away.
	Open(o Overlay)
	Close()
	// Wizard opens the flow for an action with what is known so far filled in.
	Wizard(a engine.Action)
	// Act carries out an action that needs no questions (acknowledge, mute). It is
	// refused here when acts are off, and by the engine when the plan asks for more.
	Act(a engine.Action)
	// Call does work off the screen's goroutine, with a deadline. What it returns is
	// called on the screen's goroutine, unless a later Call of the same name was made
	// or the overlay that was on top has been closed since.
	Call(name string, timeout time.Duration, work func(ctx context.Context, e engine.Engine) func())
	// Actor is who acts from this screen.
	Actor() engine.Actor
	// Copy sends text to the terminal's clipboard; what says which, for the message.
	Copy(what, text string)
	// Logs opens the log view on these sources.
	Logs(sources ...string)
	// Resort tells the screen that a view's settings changed, so that it is synced.
	Resort()
	// Quit leaves the screen. The engine goes on.
	Quit()
}

// Binding is one entry of a key table.
type Binding struct {
	Name  string      // for the configuration: "worker.pause"
	Key   key.Binding // which keys, how help writes them, and what they do there
	Group string      // heading in the help page
	// Hint puts the key in the last line, lowest first; 0: only in help. Brief is
	// what stands there, "" for the text of the help page.
	Hint  int
	Brief string
	// Act marks a key that leads to a change: its Off includes Look.ActsOff. The
	// lock alone does not take it away: what it opens asks to unlock first.
	Act bool
	Off func(l *Look) string // why it is off now; nil or "": it is on
	Do  func(h Host)
}

// Keys makes the key of a Binding. show is how help writes it, "" for the names
// as bubbletea has them; help is what it does, "" for not in the help page.
func Keys(show, help string, names ...string) key.Binding {
	if show == "" {
		show = strings.Join(names, " ")
	}
	return key.NewBinding(key.WithKeys(names...), key.WithHelp(show, help))
}

// OffNow says why the key does nothing now, "" when it works.
func (k *Binding) OffNow(l *Look) string {
	if k.Act && !l.Locked() {
		if why := l.ActsOff(); why != "" {
			return why
		}
	}
	if k.Off != nil {
		return k.Off(l)
	}
	return ""
}

// Groups of a key table, in the order of the help page.
const (
	GroupMove  = "MOVE"
	GroupView  = "THIS VIEW"
	GroupEvery = "EVERYWHERE"
)

// Page is one view.
type Page interface {
	ID() ID
	// Sync takes a new snapshot or new settings. It returns a line for the user, or "".
	Sync(l *Look) string
	// Render draws into r. It may keep what it needs for the next key (visible rows).
	Render(b *widget.Buffer, l *Look, r widget.Rect)
	// Bindings is the view's key table; the same slice every time.
	Bindings() []Binding
	// Back leaves what is open inside the view and tells whether there was anything.
	Back() bool
	// Legend explains signs and units of this view for the help page, a line each.
	Legend() []string
}

// Filterer is a Page with a filter.
type Filterer interface {
	Filter() string
	// SetFilter takes an expression; a wrong one changes nothing and says why.
	SetFilter(expr string) error
}

// Table is a Page with sortable columns and rows that can be copied.
type Table interface {
	Filterer
	ColumnNames() []string
	Sort(column string, reverse bool) error
	// Sorted is what Sort was last given, or the usual order.
	Sorted() (column string, reverse bool)
	Hide(column string, hide bool)
	Hidden(column string) bool
	Move(rows int, now time.Time)
	PageRows() int
}

// Exporter is a Page that can be written to a file as it is: its rows or lines
// with filter, order and columns.
type Exporter interface {
	// Export writes to w and names the kind of file ("csv", "txt") and how many rows
	// there are. Text that would act on a terminal or in a spreadsheet is made harmless.
	Export(l *Look, w *bytes.Buffer) (kind string, rows int)
}

// visible makes characters visible that would act on a terminal.
func visible(s string) string {
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError }
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if bad(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Overlay is a dialog on top of the views.
type Overlay interface {
	// Render draws over what is there, usually a box inside r.
	Render(b *widget.Buffer, l *Look, r widget.Rect)
	// Key gets every key while the overlay is on top. text is what was typed, "" for a named key.
	Key(h Host, key, text string)
	// Paste gets pasted text and tells whether it went into a field.
	Paste(h Host, text string) bool
	// Sync is called after each new snapshot.
	Sync(h Host)
	// Hint is the last line while it is open.
	Hint() string
	// Sudden tells that the overlay opened by itself: keys of the first half second
	// were meant for what was below and are swallowed.
	Sudden() bool
}

// roleWord draws a sign and a word in a role.
func roleWord(b *widget.Buffer, r widget.Rect, role theme.Role, word string) widget.Rect {
	r = b.Rune(r, b.Glyphs.Sign(role), role.S())
	return b.Text(b.Text(r, " ", role.S()), word, role.S())
}
