package quil

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a node version of up to four numbers: 1.4.21 or 2.1.0.23. Missing numbers are -1, so that "2.1.0" and
// "2.1.0.0" are told apart; they compare as 0.
type Version [4]int

// ParseVersion reads "2.1.0.23", "v2.1.0.23" and the name of a released binary, as "node-2.1.0.23-linux-amd64".
func ParseVersion(s string) (Version, error) {
	v := Version{-1, -1, -1, -1}
	t := s
	if rest, ok := strings.CutPrefix(t, "node-"); ok {
		t, _, _ = strings.Cut(rest, "-")
	}
	parts := strings.Split(strings.TrimPrefix(t, "v"), ".")
	if len(parts) < 2 || len(parts) > len(v) {
		return v, fmt.Errorf("read node version %q: want two to four numbers with dots between, as 2.1.0.23", cut(s))
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || p != strconv.FormatUint(n, 10) {
			return Version{-1, -1, -1, -1}, fmt.Errorf("read node version %q: %q is no number of a version", cut(s), cut(p))
		}
		v[i] = int(n)
	}
	return v, nil
}

func (v Version) String() string {
	var parts []string
	for _, n := range v {
		if n < 0 {
			break
		}
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ".")
}

// MarshalText and UnmarshalText carry a version as "2.1.0.23".
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

func (v *Version) UnmarshalText(b []byte) error {
	w, err := ParseVersion(string(b))
	if err != nil {
		return err
	}
	*v = w
	return nil
}

// compare looks only at the numbers that b gives: 1.4.21.1 compares equal to a bound of 1.4.21.
func (v Version) compare(b Version) int {
	for i := range v {
		if b[i] < 0 {
			return 0
		}
		if d := max(v[i], 0) - b[i]; d != 0 {
			return d
		}
	}
	return 0
}

// NewerThanLooked tells whether a version is newer than the one that an era's facts were looked up in.
// Only of the newest era, which is open, that says more than that the era covers it.
func (v Version) NewerThanLooked(e Era) bool {
	l, err := ParseVersion(e.Looked)
	return err == nil && e.Last == nil && v.compare(l) > 0
}

// cut shortens foreign text for an error.
func cut(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
