package page

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"app.provost/engine"
)

// Age writes how long something lasted, coarse: "<1m", "4m", "1h52m", "12d 3h".
// It moves at most once a minute, so that lines stay equal on the wire.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return "0m"
	case d < time.Minute:
		return "<1m"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 24*time.Hour:
		h, m := int(d/time.Hour), int(d/time.Minute)%60
		if h >= 10 || m == 0 {
			return strconv.Itoa(h) + "h"
		}
		return fmt.Sprintf("%dh%02dm", h, m)
	case d < 10*24*time.Hour && d%(24*time.Hour) >= time.Hour:
		return fmt.Sprintf("%dd %dh", d/(24*time.Hour), int(d/time.Hour)%24)
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// Left writes a countdown: seconds under two minutes, then as Age.
func Left(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if d < 2*time.Minute {
		return fmt.Sprintf("%d:%02d", int(d/time.Minute), int(d/time.Second)%60)
	}
	return Age(d)
}

// short writes the age of a reading: "2s" for details and sources, seconds up to two minutes.
func short(d time.Duration) string {
	if d < 0 {
		return "0s"
	}
	if d < 2*time.Minute {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	return Age(d)
}

// coarse writes how old a reading is outside of details: tens of seconds, then as
// Age. It moves seldom, so that a line with it stays equal on the wire.
func coarse(d time.Duration) string {
	if d >= 10*time.Second && d < 2*time.Minute {
		d = d.Truncate(10 * time.Second)
	}
	return short(d)
}

// GiB writes bytes in GiB with two or three digits that count: "0.9", "22", "1204".
func GiB(n uint64) string {
	g := float64(n) / (1 << 30)
	if g < 10 {
		return strconv.FormatFloat(g, 'f', 1, 64)
	}
	return strconv.FormatFloat(g, 'f', 0, 64)
}

// Bytes writes bytes with a unit: "412M", "1.1G", "2.3T" (powers of 1,024).
func Bytes(n uint64) string {
	const k = 1024
	switch {
	case n < k*k:
		return strconv.FormatUint(n/k, 10) + "K"
	case n < k*k*k:
		return strconv.FormatUint(n/(k*k), 10) + "M"
	case n < 10*k*k*k:
		return strconv.FormatFloat(float64(n)/(k*k*k), 'f', 1, 64) + "G"
	case n < k*k*k*k:
		return strconv.FormatUint(n/(k*k*k), 10) + "G"
	}
	return strconv.FormatFloat(float64(n)/(k*k*k*k), 'f', 1, 64) + "T"
}

// Thousands writes 1204 as "1,204".
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Percent writes a whole per cent.
func Percent(v float64) string { return strconv.Itoa(int(math.Round(v))) + "%" }

// Clock writes the time of day in UTC, or the date when it is not today.
func Clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if now.Sub(t) > 18*time.Hour || t.Sub(now) > 18*time.Hour {
		return t.Format("01-02 15:04")
	}
	return t.Format("15:04:05")
}

// count writes "1 job", "2 jobs".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Thousands(n) + " " + noun + "s"
}

// targetName is the short name in a target: "w7" of "worker/w7".
func targetName(target string) string {
	for i := len(target) - 1; i >= 0; i-- {
		if target[i] == '/' {
			return target[i+1:]
		}
	}
	return target
}

// shortJob is the beginning of a job's id, enough to tell jobs apart by eye.
func shortJob[S ~string](id S) string {
	s := string(id)
	if len(s) > 8 {
		return s[:8]
	}
	return s
}

// trend finds a history by name; key "" takes the first.
func trend(s *engine.Snapshot, name, id string) []*float64 {
	for i := range s.Trends.List() {
		t := &s.Trends.Rows[i]
		if t.Name == name && (id == "" || t.Key.ID == id) {
			return t.Values
		}
	}
	return nil
}
