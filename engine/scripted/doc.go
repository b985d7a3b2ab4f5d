// Package scripted is an engine that plays a script: machines, workers, GPUs,
// jobs and nodes that do not exist, in trouble that never happened. It is for
// learning the screens, for pictures of them, and for tests and benchmarks of
// faces that need more workers than a desk holds.
//
// Nothing of it is real, and it says so: Info.Practice is set in every
// snapshot, whatever the options say.
//
// What it promises:
//
//   - The same options at the same moment of the script give the same snapshot,
//     as long as nobody acts. Nothing is drawn from chance at run time.
//   - The waist's promises hold as they do for the engine itself: snapshots are
//     never changed after they were published, feeds give the newest one, Do is
//     idempotent by its key, checks the digest and honours the lock of screens.
//     An action that the script has no part for is refused with
//     CodeNotConfigured.
//   - At most four publications a second. Rows that did not change are shared
//     between them.
//   - One goroutine owns the script (Run); all methods may be called from any
//     goroutine, before Run too: they then see the script at its start.
package scripted
