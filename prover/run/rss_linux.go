package run

import (
	"bytes"
	"os"
	"strconv"
)

// rssBytes is the resident memory of this process; nil when it is not known.
func rssBytes() *uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return nil
	}
	pages, err := strconv.ParseUint(string(f[1]), 10, 64)
	if err != nil {
		return nil
	}
	n := pages * uint64(os.Getpagesize())
	return &n
}
