// Package assets holds the files that are part of the binary. It imports nothing of ours and reads nothing but itself;
// what it hands out belongs to the caller.
package assets
