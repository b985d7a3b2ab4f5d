// Package create makes the directories of a distributed-validator cluster on one machine and
// verifies clusters from anywhere.
//
// Run promises: at the target there is nothing, or the complete cluster, at every moment and after
// a kill at any moment. Everything is written into a directory beside the target, synced, read back
// and verified, and then renamed. What a killed run leaves behind is overwritten and removed by the
// next run beside it. Nothing is ever asked, nothing existing is ever changed.
//
// Verify promises: it only reads, it never trusts a file, and it names every check it makes.
//
// Both block until they are done, use all cores and end early when their context ends. They may be
// called from any goroutine. Layout and formats are those of Charon (nodeN directories, lock
// v1.10.0, EIP-2335 keystores), except that no file or directory with a secret is readable by group
// or others.
package create
