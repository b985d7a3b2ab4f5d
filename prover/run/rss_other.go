//go:build !linux

package run

// rssBytes is not known here: the engine reads it from outside.
func rssBytes() *uint64 { return nil }
