package engine

import (
	"encoding/csv"
	"io"
	"strconv"
	"time"
)

// WriteCSV writes rows with a head of column keys (rss_bytes). Numbers stand
// without their unit, times in RFC 3339; unknown and none are empty. clean is
// applied to every text; one that a spreadsheet would take for a formula gets a
// quote before it.
func WriteCSV(w io.Writer, cols []*Column, rows []Row, now time.Time, clean func(string) string) error {
	out := csv.NewWriter(w)
	cells := make([]string, len(cols))
	for i, c := range cols {
		cells[i] = c.Key()
	}
	out.Write(cells) // errors stay until Error
	for _, r := range rows {
		for i, c := range cols {
			cells[i] = c.raw(c.Value(r, now), clean)
		}
		out.Write(cells)
	}
	out.Flush()
	return out.Error()
}

func (c *Column) raw(v Value, clean func(string) string) string {
	switch {
	case !v.Known || v.None:
		return ""
	case c.Unit == UnitTime:
		return c.Text(v)
	case c.Unit.Numeric():
		return strconv.FormatFloat(v.Num, 'f', -1, 64)
	}
	s := clean(v.Str)
	if s != "" && (s[0] == '=' || s[0] == '+' || s[0] == '-' || s[0] == '@') {
		s = "'" + s
	}
	return s
}
