package tui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
)

// keptSchema is the version of the file that keeps a screen between two looks.
const keptSchema = "provost.screen/1"

// maxKept bounds what is read of it.
const maxKept = 64 << 10

// kept is what a screen remembers of an engine for its user: where it looked and
// how, never what was typed or seen.
type kept struct {
	Schema string               `json:"schema"`
	View   page.ID              `json:"view,omitempty"`
	Tables map[page.ID]keptSort `json:"tables,omitempty"`
	Hidden []page.ID            `json:"hidden_views,omitempty"`
	// LeaveAtOnce is the "do not ask again" of the question at leaving.
	LeaveAtOnce bool `json:"leave_at_once,omitempty"`
}

type keptSort struct {
	Sort    string   `json:"sort,omitempty"` // a column's name; "": the usual order
	Reverse bool     `json:"reverse,omitempty"`
	Hidden  []string `json:"hidden,omitempty"` // columns
}

// parseKept reads a file's content. Unknown fields are let be: an older version
// may read what a newer one of the same major number wrote.
func parseKept(raw []byte) (kept, error) {
	var k kept
	if err := json.Unmarshal(raw, &k); err != nil {
		return kept{}, err
	}
	if k.Schema != keptSchema {
		return kept{}, fmt.Errorf("its schema is %q, this version reads %q", k.Schema, keptSchema)
	}
	return k, nil
}

// keptPath is the file for an engine, "" when nothing is kept.
func (m *model) keptPath() string {
	if m.o.KeepDir == "" || !m.Look().Ready() || m.snap.Engine.Value.Practice != "" || m.snap.Engine.Value.ID == "" {
		return ""
	}
	id := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return r
		}
		return '_'
	}, m.snap.Engine.Value.ID)
	return filepath.Join(m.o.KeepDir, id[:min(len(id), 100)]+".json")
}

// recall reads what was kept, off the screen's goroutine, once the engine is known.
func (m *model) recall() {
	if m.recalled || !m.Look().Ready() {
		return
	}
	m.recalled = true
	path := m.keptPath()
	if path == "" {
		return
	}
	m.Call("recall screen", 5*time.Second, func(context.Context, engine.Engine) func() {
		raw, err := readSome(path, maxKept)
		var k kept
		if err == nil {
			k, err = parseKept(raw)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return func() {
			if err != nil {
				// What cannot be read, as that of a newer version, is not written over either.
				m.o.Log.Warn("the last look at this engine cannot be recalled", "file", path, "error", err)
				return
			}
			m.keepTo, m.keptRaw = path, raw
			m.apply(k)
		}
	})
}

func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return raw, err
}

// apply takes over what was kept. What does not exist any more is let be.
func (m *model) apply(k kept) {
	m.leaveAtOnce = k.LeaveAtOnce
	for _, v := range m.views {
		if slices.Contains(k.Hidden, v.ID) {
			m.hidden[v.ID] = true
		}
		t, ok := v.Page.(page.Table)
		s, was := k.Tables[v.ID]
		if !ok || !was {
			continue
		}
		if s.Sort != "" {
			_ = t.Sort(s.Sort, s.Reverse) // a column that is gone: the usual order
		}
		for i, name := range t.ColumnNames() {
			if i >= 2 && slices.Contains(s.Hidden, name) {
				t.Hide(name, true)
			}
		}
	}
	// Keys that were pressed meanwhile, and a view that was asked for, come first.
	if k.View != "" && m.o.View == "" && !m.touched {
		for i, v := range m.views {
			if v.ID == k.View && v.Page != nil && m.inBar(i) {
				m.at = i
			}
		}
	}
	m.sync()
}

// remembered is what is to be kept now.
func (m *model) remembered() kept {
	k := kept{Schema: keptSchema, LeaveAtOnce: m.leaveAtOnce}
	if m.at != 0 {
		k.View = m.views[m.at].ID
	}
	fresh := page.New()
	for i, v := range m.views {
		if m.hidden[v.ID] {
			k.Hidden = append(k.Hidden, v.ID)
		}
		t, ok := v.Page.(page.Table)
		if !ok {
			continue
		}
		var s keptSort
		by, reverse := t.Sorted()
		if usual, not := fresh[i].Page.(page.Table).Sorted(); by != usual || reverse != not {
			s.Sort, s.Reverse = by, reverse
		}
		for _, name := range t.ColumnNames() {
			if t.Hidden(name) {
				s.Hidden = append(s.Hidden, name)
			}
		}
		if s.Sort != "" || len(s.Hidden) > 0 {
			if k.Tables == nil {
				k.Tables = map[page.ID]keptSort{}
			}
			k.Tables[v.ID] = s
		}
	}
	return k
}

// keep writes the file, if there is something new to keep. The program must have ended.
func (m *model) keep() error {
	if m.keepTo == "" {
		return nil
	}
	raw, err := json.MarshalIndent(m.remembered(), "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if bytes.Equal(raw, m.keptRaw) {
		return nil
	}
	if plain, err := json.MarshalIndent(kept{Schema: keptSchema}, "", "  "); err == nil && m.keptRaw == nil && bytes.Equal(raw, append(plain, '\n')) {
		return nil
	}
	dir := filepath.Dir(m.keepTo)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeOver(m.keepTo, raw)
}

// writeOver puts a file in the place of another, whole or not at all.
func writeOver(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".screen-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
