package tui

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"app.provost/engine"
	"app.provost/tui/internal/escape"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
	"app.provost/tui/wizard"
)

// Messages of the screen.
type (
	feedMsg     struct{}
	logMsg      struct{}
	tickMsg     time.Time
	sayMsg      string
	sayEndMsg   int // generation of the line that ends
	askLeaveMsg struct{}
	suspendMsg  struct{}
	resultMsg   struct {
		name  string
		gen   int
		apply func()
	}
)

// model is the one bubbletea model. Everything else is a plain struct that it
// calls. Its fields belong to the program's goroutine.
type model struct {
	o      Options
	ctx    context.Context
	out    *output // nil in tests without a terminal
	bridge *bridge
	logs   *logFeed
	guard  func(where string, v any, stack []byte)

	w, h  int
	buf   *widget.Buffer
	view  string
	dirty bool

	snap    *engine.Snapshot // shown
	latest  *engine.Snapshot // newest; differs from snap while frozen
	sum     page.Summary
	entries []engine.Entry
	link    page.Link
	frozen  time.Time
	now     time.Time
	look    page.Look

	views    []page.Entry
	at       int // index into views
	previous int
	showAll  bool // views that are not configured stay in the bar
	hidden   map[page.ID]bool
	overlays []layer
	global   []page.Binding

	say      string
	sayGen   int
	lastCtrl time.Time // of the last ctrl+c
	rate     int       // index into rates
	focused  bool
	ages     bool
	mouse    bool
	calls    map[string]call
	callGen  int
	history  []string // of the command line, newest last
	title    string   // window title as last set
	pending  []tea.Cmd
	spawn    func(tea.Cmd) // starts the work of Call; tests run it at once
	reason   Reason
	quitting bool
	touched  bool // a key was pressed

	recalled    bool   // what was kept was asked for
	keepTo      string // where to keep it; "": nowhere
	keptRaw     []byte // as it was read, nil for nothing
	leaveAtOnce bool
}

type layer struct {
	overlay page.Overlay
	opened  time.Time
	gen     int
}

type call struct {
	gen    int
	layer  int // generation of the overlay on top when it was made, 0 for none
	cancel context.CancelFunc
}

// rates are the times between two pictures, slowest first.
var rates = [...]time.Duration{10 * time.Second, 5 * time.Second, 2 * time.Second, time.Second, 500 * time.Millisecond, 250 * time.Millisecond}

const (
	normalRate = 3 // 1 s
	lowRate    = 1 // 5 s
)

func newModel(ctx context.Context, o Options, th *theme.Theme, g *theme.Glyphs, out *output) *model {
	m := &model{o: o, ctx: ctx, out: out, buf: widget.NewBuffer(th, g), dirty: true, focused: true,
		snap: &engine.Snapshot{}, now: o.Now(), rate: normalRate, views: page.New(), calls: map[string]call{}, hidden: map[page.ID]bool{}}
	if o.LowBandwidth {
		m.rate = lowRate
	}
	m.link = page.Link{Connected: true, Since: m.now}
	m.latest = m.snap
	m.bridge = newBridge(&m.o, rates[m.rate])
	m.logs = newLogFeed(o.Engine)
	m.guard = func(where string, v any, _ []byte) { panic(fmt.Sprintf("%s: %v", where, v)) }
	m.spawn = func(c tea.Cmd) { m.pending = append(m.pending, c) }
	m.global = m.globalKeys()
	if err := m.rebind(o.Keys); err != nil {
		o.Log.Warn("own keys are not used", "error", err) // Run has refused them before
	}
	if o.alone != nil {
		m.Open(o.alone)
	}
	for i, v := range m.views {
		if o.View != "" && v.ID == o.View && v.Page != nil {
			m.at = i
		}
	}
	return m
}

// Init starts the clock and waits for the first picture.
func (m *model) Init() tea.Cmd { return tea.Batch(m.listen(), m.listenLogs(), m.tick()) }

func (m *model) tick() tea.Cmd {
	d := time.Second
	if m.o.LowBandwidth {
		d = 5 * time.Second
	}
	return tea.Tick(d, func(t time.Time) tea.Msg { return tickMsg(t) })
}

// listen waits for the bridge: the one outstanding message.
func (m *model) listen() tea.Cmd {
	return func() tea.Msg {
		select {
		case <-m.ctx.Done():
			return nil
		case <-m.bridge.wake:
			return feedMsg{}
		}
	}
}

// listenLogs waits for log lines.
func (m *model) listenLogs() tea.Cmd {
	return func() tea.Msg {
		select {
		case <-m.ctx.Done():
			return nil
		case <-m.logs.wake:
			return logMsg{}
		}
	}
}

// streamer is a view that wants log lines while it is shown.
type streamer interface {
	Query() (engine.LogQuery, int)
	Add(version int, lines []engine.LogLine)
	Ended(version int, problem string)
	Sources(names []string)
}

// stream follows what the shown view wants.
func (m *model) stream() {
	if s, ok := m.page().(streamer); ok {
		q, version := s.Query()
		m.logs.want(&q, version)
		return
	}
	m.logs.want(nil, -1)
}

// sift merges what a held wheel sends: bubbletea draws once per message otherwise.
func (m *model) sift(_ tea.Model, msg tea.Msg) tea.Msg {
	if mm, ok := msg.(tea.MouseMsg); ok && mm.Action == tea.MouseActionMotion {
		return nil
	}
	return msg
}

// Update takes one message. A panic ends the screen in order.
func (m *model) Update(msg tea.Msg) (_ tea.Model, cmd tea.Cmd) {
	defer func() {
		if v := recover(); v != nil {
			m.guard("screen", v, debug.Stack())
			cmd = tea.Quit
		}
	}()
	cmd = m.update(msg)
	if len(m.pending) > 0 {
		cmd = tea.Batch(append(m.pending, cmd)...)
		m.pending = nil
	}
	return m, cmd
}

func (m *model) update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		if msg.Width == m.w && msg.Height == m.h {
			return nil
		}
		m.w, m.h, m.dirty = max(msg.Width, 0), max(msg.Height, 0), true
		return tea.ClearScreen
	case feedMsg:
		m.fed()
		return m.listen()
	case logMsg:
		lines, version, ended, problem := m.logs.take()
		for _, v := range m.views {
			if p, ok := v.Page.(streamer); ok {
				p.Add(version, lines)
				if ended {
					p.Ended(version, problem)
				}
			}
		}
		m.dirty = true
		return m.listenLogs()
	case tickMsg:
		m.ticked()
		return m.tick()
	case tea.KeyMsg:
		m.dirty, m.touched = true, true
		m.key(msg)
	case tea.MouseMsg:
		m.dirty = true
		m.wheel(msg)
	case tea.FocusMsg:
		m.focused = true
		m.retune()
	case tea.BlurMsg:
		m.focused = false
		m.retune()
	case tea.ResumeMsg:
		m.dirty = true
		m.bridge.kick()
	case sayMsg:
		m.dirty = true
		m.Say(string(msg))
	case sayEndMsg:
		if int(msg) == m.sayGen {
			m.say, m.dirty = "", true
		}
	case askLeaveMsg:
		m.dirty = true
		m.askLeave(true)
	case suspendMsg:
		m.dirty = true
		m.suspend()
	case resultMsg:
		if c, ok := m.calls[msg.name]; ok && c.gen == msg.gen {
			delete(m.calls, msg.name)
			c.cancel()
			if msg.apply != nil && (c.layer == 0 || len(m.overlays) > 0 && slices.ContainsFunc(m.overlays, func(l layer) bool { return l.gen == c.layer })) {
				m.dirty = true
				msg.apply()
			}
		}
	}
	if m.quitting {
		return tea.Quit
	}
	return nil
}

// fed takes what the bridge has.
func (m *model) fed() {
	snap, entries, link, stopped := m.bridge.take()
	m.entries = append(m.entries, entries...)
	if n := len(m.entries) - maxEntries; n > 0 {
		m.entries = append(m.entries[:0], m.entries[n:]...)
	}
	m.setLink(link)
	if snap != nil && snap != m.latest {
		m.latest = snap
		if m.frozen.IsZero() {
			m.snap = snap
			m.now = m.o.Now()
			m.sum.Summarize(snap, m.now)
			m.sync()
		}
	}
	m.dirty = true
	m.recall()
	if stopped {
		m.reason, m.quitting = EngineStopped, true
		m.pending = append(m.pending, tea.Quit)
	}
	m.setTitle()
}

func (m *model) setLink(l page.Link) {
	if m.o.Link != nil {
		l = m.o.Link()
	}
	if l != m.link {
		m.dirty = true
	}
	m.link = l
}

// ticked moves the clock. Nothing else needs it: what did not change is drawn the
// same and costs no byte on the wire.
func (m *model) ticked() {
	m.now = m.o.Now()
	m.setLink(m.link)
	m.retune()
	m.dirty = true
}

// sync tells the shown view and the overlays about a new snapshot or new settings.
func (m *model) sync() {
	if p := m.page(); p != nil {
		if line := p.Sync(m.Look()); line != "" {
			m.Say(line)
		}
	}
	m.stream()
	for _, l := range m.overlays {
		l.overlay.Sync(m)
	}
}

// retune sets the rate: chosen, slower on a slow line, and slow without focus.
func (m *model) retune() {
	every := rates[m.rate]
	if m.out != nil {
		every *= time.Duration(m.out.Factor())
	}
	if !m.focused {
		every = max(every, 5*time.Second)
	}
	m.bridge.setEvery(min(every, time.Minute))
}

func (m *model) page() page.Page { return m.views[m.at].Page }

func (m *model) top() *layer {
	if len(m.overlays) == 0 {
		return nil
	}
	return &m.overlays[len(m.overlays)-1]
}

// View gives the frame, drawn again only when something shown may have changed.
func (m *model) View() (frame string) {
	if !m.dirty {
		return m.view
	}
	defer func() {
		if v := recover(); v != nil {
			m.guard("screen", v, debug.Stack())
			frame = "the screen crashed"
		}
	}()
	m.dirty = false
	m.draw()
	m.view = m.buf.String()
	return m.view
}

// Look is what views may look at now.
func (m *model) Look() *page.Look {
	now := m.now
	if !m.frozen.IsZero() {
		now = m.frozen
	}
	m.look = page.Look{Snap: m.snap, Sum: &m.sum, Now: now, Entries: m.entries, Link: m.link, Frozen: m.frozen,
		ReadOnly: m.o.ReadOnly, Ages: m.ages, Sparks: !m.o.LowBandwidth}
	return &m.look
}

// Say shows a line for 3 s.
func (m *model) Say(text string) {
	m.sayGen++
	gen := m.sayGen
	m.say, m.dirty = text, true
	m.pending = append(m.pending, tea.Tick(3*time.Second, func(time.Time) tea.Msg { return sayEndMsg(gen) }))
}

// Go changes the view.
func (m *model) Go(id page.ID, filter string) {
	m.dirty = true
	for i, v := range m.views {
		if v.ID != id {
			continue
		}
		if v.Page == nil || v.There != nil && m.Look().Ready() && !v.There(m.snap) && !m.showAll {
			m.Say(v.Key + ": " + v.Why)
			return
		}
		if i != m.at {
			m.previous, m.at = m.at, i
		}
		if f, ok := v.Page.(page.Filterer); ok && filter != "" {
			if err := f.SetFilter(filter); err != nil {
				m.Say(err.Error())
			}
		}
		m.sync()
		return
	}
	m.Say(fmt.Sprintf("there is no view %q", id))
}

// Back leaves what is open in the view, or goes to the view before.
func (m *model) Back() {
	if p := m.page(); p != nil && p.Back() {
		m.sync()
		return
	}
	if m.previous != m.at {
		m.at, m.previous = m.previous, m.at
		m.sync()
	}
}

// Open puts an overlay on top.
func (m *model) Open(o page.Overlay) {
	m.callGen++
	m.overlays = append(m.overlays, layer{overlay: o, opened: m.o.Now(), gen: m.callGen})
	o.Sync(m)
	m.dirty = true
}

// Close takes the top overlay away.
func (m *model) Close() {
	if n := len(m.overlays); n > 0 {
		m.overlays = m.overlays[:n-1]
	}
	m.dirty = true
	if m.o.alone != nil && len(m.overlays) == 0 {
		m.Quit()
	}
}

// Wizard opens the flow for an action.
func (m *model) Wizard(a engine.Action) {
	// A wizard may be gone through while the lock is closed: it asks to unlock at its
	// end. Every other reason is refused here and again by the wizard.
	if l := m.Look(); l.ActsOff() != "" && !l.Locked() && !alwaysAllowed(a) {
		m.Say(a.Doing() + ": " + l.ActsOff())
		return
	}
	m.Open(wizard.New(a))
}

// alwaysAllowed are the two acts that a locked screen may ask for.
func alwaysAllowed(a engine.Action) bool {
	switch a.(type) {
	case engine.UnlockScreens, engine.LockScreens:
		return true
	}
	return false
}

// Act carries out an action without questions.
func (m *model) Act(a engine.Action) {
	if m.Look().Locked() && !alwaysAllowed(a) {
		m.Wizard(a) // its review shows what would be done, and asks to unlock
		return
	}
	if why := m.Look().ActsOff(); why != "" && !(alwaysAllowed(a) && m.link.Connected && !m.o.ReadOnly) {
		m.Say(a.Doing() + ": " + why)
		return
	}
	actor := m.o.Actor
	m.Call("act "+string(a.Kind()), 15*time.Second, func(ctx context.Context, e engine.Engine) func() {
		r := engine.Request{Key: engine.NewKey(), Action: a, Actor: actor}
		plan, err := e.Preview(ctx, r)
		if err != nil {
			return func() { m.Say(engine.AsProblem(a.Doing(), err).Error()) }
		}
		if plan.Consent.Level == "type" {
			return func() { m.Open(wizard.New(a)) }
		}
		rec, err := e.Do(ctx, r, plan.Digest)
		if err != nil {
			return func() { m.Say(engine.AsProblem(a.Doing(), err).Error()) }
		}
		return func() {
			m.Say(rec.Title)
			m.bridge.kick()
		}
	})
}

// Call does work off this goroutine.
func (m *model) Call(name string, timeout time.Duration, work func(ctx context.Context, e engine.Engine) func()) {
	if old, ok := m.calls[name]; ok {
		old.cancel()
	}
	ctx, cancel := context.WithTimeout(m.ctx, timeout)
	m.callGen++
	c := call{gen: m.callGen, cancel: cancel}
	if t := m.top(); t != nil {
		c.layer = t.gen
	}
	m.calls[name] = c
	m.spawn(m.safeCmd(func() tea.Msg {
		return resultMsg{name: name, gen: c.gen, apply: work(ctx, m.o.Engine)}
	}))
}

// safeCmd keeps a panic of a command from taking the process down.
func (m *model) safeCmd(fn func() tea.Msg) tea.Cmd {
	return func() (msg tea.Msg) {
		defer func() {
			if v := recover(); v != nil {
				m.guard("screen command", v, debug.Stack())
				msg = tea.Quit()
			}
		}()
		return fn()
	}
}

// Actor is who acts from this screen.
func (m *model) Actor() engine.Actor { return m.o.Actor }

// Copy sends text to the terminal's clipboard.
func (m *model) Copy(what, text string) {
	wrap := escape.Bare
	switch {
	case m.o.Getenv("TMUX") != "":
		wrap = escape.Tmux
	case m.o.Getenv("STY") != "":
		wrap = escape.Screen
	}
	seq := escape.Copy(text, wrap)
	if seq == "" {
		m.Say("copy: too long for the terminal")
		return
	}
	m.raw(seq)
	m.Say(what + " sent to the terminal's clipboard")
}

// raw writes a sequence between frames, off this goroutine.
func (m *model) raw(seq string) {
	if m.out == nil {
		return
	}
	m.pending = append(m.pending, m.safeCmd(func() tea.Msg { m.out.Raw(seq); return nil }))
}

// Logs opens the log view on sources.
func (m *model) Logs(sources ...string) {
	for _, v := range m.views {
		if l, ok := v.Page.(streamer); ok {
			l.Sources(sources)
			m.Go(page.Logs, "")
			return
		}
	}
	m.Say("this version has no log view; provost logs " + strings.Join(sources, " "))
}

// Resort syncs the view after its settings changed.
func (m *model) Resort() { m.sync() }

// Quit leaves the screen.
func (m *model) Quit() {
	m.reason, m.quitting = Left, true
	m.pending = append(m.pending, tea.Quit)
}

// suspend stops this process as ctrl+z does, where that makes sense.
func (m *model) suspend() {
	if m.o.Foreground {
		m.Say("ctrl+z would stop the engine with the screen; q leaves")
		return
	}
	if why := cannotSuspend(); why != "" {
		m.Say("ctrl+z: " + why)
		return
	}
	m.pending = append(m.pending, tea.Suspend)
}

// setTitle names the window after the verdict.
func (m *model) setTitle() {
	term := m.o.Getenv("TERM")
	if m.out == nil || term == "" || term == "linux" || term == "dumb" || !m.Look().Ready() {
		return
	}
	title := "provost " + m.snap.Engine.Value.Name
	if v := m.snap.Verdict; v != nil {
		title += ": " + string(v.Value.Word)
		if n := len(v.Value.Reasons); n > 0 {
			title += fmt.Sprintf(" %d", n)
		}
	}
	if title == m.title {
		return
	}
	seq := escape.Title(title)
	if m.title == "" {
		seq = escape.PushTitle + seq
	}
	m.title = title
	m.raw(seq)
}

// wheel moves the cursor by three rows.
func (m *model) wheel(msg tea.MouseMsg) {
	n := 0
	switch msg.Button {
	case tea.MouseButtonWheelDown:
		n = 3
	case tea.MouseButtonWheelUp:
		n = -3
	}
	if t, ok := m.page().(interface{ Move(int, time.Time) }); ok && n != 0 && len(m.overlays) == 0 {
		t.Move(n, m.now)
	}
}

var _ page.Host = (*model)(nil)
