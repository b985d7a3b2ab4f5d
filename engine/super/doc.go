// Package super keeps operating-system processes running. A supervised process
// is two: a stub, which is this binary run as "internal-stub --dir D", and the
// child that the stub starts, pins, nices, caps and waits for. The package knows
// nothing of jobs.
//
// Promises:
//
//   - One id, one process. The stub holds an exclusive lock on D/lock and lets
//     its child inherit it, so a second stub refuses to start while either lives,
//     whatever crashed in between and however many engines there are.
//   - The engine is not needed. It owns no pipe and no terminal of a process:
//     output goes to a file that the stub opened, the exit status to D/exit.json.
//     When the engine ends, processes go on; the next engine takes them up again
//     with Adopt. They end only by Stop, Hold, StopAll, or a lifeline that broke.
//   - A child never outlives its stub: the kernel kills it when the stub dies.
//   - A process that is not ours is never touched. Signals go through a pidfd
//     after pid, start time and boot id were compared (pid and start time where
//     the kernel has no pidfd), and stragglers are known by a mark in their
//     environment.
//   - Each process has one loop, which alone writes its state. What happened is
//     told to OnChange in order, one call at a time, from a goroutine of its own:
//     a slow OnChange delays no loop. At most 256 changes wait; beyond that the
//     oldest is dropped, and Status.Missed of the next one says how many.
//   - When to start again is decided by Policy, a pure function.
//
// All methods of Supervisor and Logs may be called from any goroutine.
//
// Linux only: pidfd, parent-death signals, affinity and /proc are used directly.
//
// Files in a process's directory D (0700), all 0600:
//
//	lock       held by stub and child for as long as one of them lives
//	spec.json  provost.process/1  what to start; written by the engine before it starts the stub
//	run.json   provost.run/1      who runs: pids, start times; written by the stub
//	exit.json  provost.exit/1     how it ended; written and synced by the stub
//
// Logs are rotated by the stub by copy and truncate: the child writes to a file
// that was opened (for appending) before it was started, and nothing can exchange
// it afterwards. w1.log is copied to w1.log.1 and cut to nothing when it is over
// Spec.LogMaxBytes, so one process keeps at most twice that on disk, plus what it
// writes in the two seconds between looks. A line written in the microseconds
// between the end of the copy and the cut is lost.
package super
