package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
)

// maxExports bounds the names that are tried within one second.
const maxExports = 100

// export writes the view as it is to a file of the user's and says where: the rows
// of a table with filter, order and columns as CSV, lines of logs as text, any
// other view as the text on the screen.
func (m *model) export() {
	if m.o.ExportDir == "" {
		m.Say("e: this screen has no directory to write to")
		return
	}
	l, v := m.Look(), &m.views[m.at]
	var b bytes.Buffer
	kind, what := "txt", "the screen"
	if p, ok := v.Page.(page.Exporter); ok {
		noun, rows := "line", 0
		if kind, rows = p.Export(l, &b); kind == "csv" {
			noun = "row"
		}
		if rows != 1 {
			noun += "s"
		}
		what = fmt.Sprintf("%d %s", rows, noun)
	} else {
		for _, line := range m.buf.Lines() {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	name := fmt.Sprintf("provost-%s-%s", v.ID, m.now.UTC().Format("20060102T150405Z"))
	dir := m.o.ExportDir
	m.Call("export", 15*time.Second, func(context.Context, engine.Engine) func() {
		path, err := writeNew(dir, name, kind, b.Bytes())
		return func() {
			if err != nil {
				var p *fs.PathError
				if errors.As(err, &p) {
					err = p.Err // the path is said shorter
				}
				m.Say(fmt.Sprintf("export to %s: %v", m.tilde(dir), err))
				return
			}
			m.Say(fmt.Sprintf("%s written to %s", what, m.tilde(path)))
		}
	})
}

// tilde writes a path as a shell takes it, short enough for the last line.
func (m *model) tilde(path string) string {
	if home := m.o.Getenv("HOME"); len(home) > 1 {
		if rest, ok := strings.CutPrefix(path, home); ok && (rest == "" || rest[0] == '/') {
			return "~" + rest
		}
	}
	return path
}

// writeNew writes a file that was not there before; nothing of it is left when
// that fails.
func writeNew(dir, name, kind string, data []byte) (string, error) {
	for i := range maxExports {
		path := filepath.Join(dir, name+"."+kind)
		if i > 0 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d.%s", name, i+1, kind))
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.Write(data)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return "", errors.Join(err, os.Remove(path))
		}
		return path, nil
	}
	return "", fmt.Errorf("%s has %d files of this second already", dir, maxExports)
}
