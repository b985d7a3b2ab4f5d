package e2e

import (
	"os"
	"strings"
	"sync"

	"github.com/hinshun/vt10x"
)

// terminal reads what a program writes to a pseudo terminal into a screen.
type terminal struct {
	mu   sync.Mutex
	vt   vt10x.Terminal
	rows int
	cols int
	raw  strings.Builder // the last writes, for escape codes
	done chan struct{}   // closed at end of file
}

// watchTerminal owns a goroutine that ends with the terminal.
func watchTerminal(tty *os.File, cols, rows int) *terminal {
	t := &terminal{vt: vt10x.New(vt10x.WithSize(cols, rows)), rows: rows, cols: cols, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		buf := make([]byte, 32<<10)
		for {
			n, err := tty.Read(buf)
			if n > 0 {
				t.mu.Lock()
				t.vt.Write(buf[:n])
				t.raw.Write(buf[:n])
				t.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	return t
}

// text is the screen as lines without trailing blanks.
func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for y := range t.rows {
		var line strings.Builder
		for x := range t.cols {
			if r := t.vt.Cell(x, y).Char; r != 0 {
				line.WriteRune(r)
			} else {
				line.WriteByte(' ')
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// bytes is everything that was written.
func (t *terminal) bytes() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.raw.String()
}
