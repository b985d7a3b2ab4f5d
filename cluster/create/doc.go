// Package create makes the directories of a distributed-validator cluster on one machine and
// verifies clusters from anywhere.
//
// Run promises: at the target there is nothing, or the complete cluster, at every moment and after
// a kill at any moment. Everything is written into a directory beside the target, synced, read back
// and verified, and then renamed. What a killed run leaves behind is overwritten and removed by the
// next run beside it. Nothing is ever asked, nothing existing is ever changed. Keys are drawn, or taken
// from keystores that are all opened before anything is made. It goes to the network only for a
// definition file that is a URL and for keymanagers: those are asked before any key is made, get their
// shares when everything else is checked, and lose them again when one of them fails; only a kill at
// that moment can leave shares there, which belong to no cluster.
//
// Verify promises: it only reads, it never trusts a file, and it names every check it makes.
//
// Both block until they are done, use all cores and end early when their context ends. They may be
// called from any goroutine. Layout and formats are those of Charon (nodeN directories, lock
// v1.10.0 or v1.11.0, EIP-2335 keystores), except that no file or directory with a secret is readable by group
// or others.
package create
