package state

import (
	"slices"
	"time"

	"app.provost/engine"
)

// PatchInfo changes what the engine says about itself. From names the teller: of
// several patches of one teller that wait, only the newest is folded, so a patch
// sets everything that its teller knows. Viewers, Unlocked and Stopping have facts of their own.
type PatchInfo struct {
	From  string
	Patch func(*engine.Info)
}

// SetUnlocked opens the lock of screens, or closes it (nil). It closes by itself when its time is up.
type SetUnlocked struct{ Unlocked *engine.Unlocked }

// SetStopping says in which step the stop of the engine is.
type SetStopping struct{ Step string }

// SetPart says whether a part is configured: machines, workers, gpus, jobs or nodes.
type SetPart struct {
	Part engine.SectionName
	On   bool
}

func (f PatchInfo) slot() slot { return slot{kind: "info", sub: f.From} }
func (f PatchInfo) fold(m *model, _ time.Time) {
	v := m.engine.value
	f.Patch(&v)
	v.Viewers, v.Unlocked, v.Stopping = m.engine.value.Viewers, m.engine.value.Unlocked, m.engine.value.Stopping
	m.engine.change(v)
}

func (SetUnlocked) slot() slot { return slot{kind: "unlocked"} }
func (f SetUnlocked) fold(m *model, now time.Time) {
	v := m.engine.value
	v.Unlocked = f.Unlocked
	m.engine.change(v)
	m.tickEngine(now)
}

func (SetStopping) slot() slot { return slot{kind: "stopping"} }
func (f SetStopping) fold(m *model, _ time.Time) {
	v := m.engine.value
	v.Stopping = f.Step
	m.engine.change(v)
}

func (f SetPart) slot() slot { return slot{kind: "part", sub: string(f.Part)} }
func (f SetPart) fold(m *model, _ time.Time) {
	if m.on[f.Part] != f.On {
		m.on[f.Part] = f.On
		m.engine.dirty = true // something to publish
	}
}

// viewersChanged says that somebody came or went; who is there, State knows.
type viewersChanged struct{}

func (viewersChanged) slot() slot { return slot{kind: "viewers"} }
func (viewersChanged) fold(m *model, _ time.Time) {
	v := m.engine.value
	v.Viewers = m.viewers()
	m.engine.change(v)
}

// viewerNames lists viewers, one name for each of their feeds, sorted.
func (s *State) viewerNames() []string {
	s.viewersMu.Lock()
	defer s.viewersMu.Unlock()
	names := []string{}
	for name, n := range s.viewers {
		for range n {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// attach counts a viewer in (1) or out (-1).
func (s *State) attach(name string, delta int) {
	s.viewersMu.Lock()
	if s.viewers[name] += delta; s.viewers[name] <= 0 {
		delete(s.viewers, name)
	}
	s.viewersMu.Unlock()
	what, text := "screen.attached", name+" looks at this engine"
	if delta < 0 {
		what, text = "screen.lost", name+" looks no more"
	}
	s.Tell(viewersChanged{}, Note{engine.Entry{What: what, Text: text, Key: s.key(""),
		Actor: &engine.Actor{Name: name, Via: engine.ViaScreen}}})
}

func (s *State) key(id string) engine.Key { return engine.Key{Machine: s.o.Info.Machine, ID: id} }

func (m *model) tickEngine(now time.Time) {
	v := m.engine.value
	if v.Unlocked == nil || now.Before(v.Unlocked.Until) {
		return
	}
	m.note(now, engine.Entry{What: "lock.closed", Text: "screens are locked again: the time of " + v.Unlocked.By + " is up",
		Key: engine.Key{Machine: v.Machine}, Actor: &engine.Actor{Name: "provost", Via: engine.ViaRule}})
	v.Unlocked = nil
	m.engine.change(v)
}
