// Package house holds the tests that keep the shape of the project: who may
// import whom and why, what stands at the top level, and how rooms are named.
// It has no code. Run it with -count=1: Go's test cache does not see a changed import.
package house
