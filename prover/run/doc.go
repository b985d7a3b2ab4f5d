// Package run is the socket between the control side and the worker processes: Hub is the control side's end, Main the
// whole life of a worker process. The protocol lives here and nowhere else.
//
// # Promises
//
// A worker makes one thing at a time. It outlives the engine: while nobody listens it goes on proving, dials again with
// growing pauses (at most two seconds), and says in its hello what it has in hand. A finished result is saved in the
// worker's own directory before it is sent and is kept until it is acknowledged, so neither the death of the worker nor
// that of the engine loses a proof that was made. Results may arrive more than once; the control side tells by job and
// attempt.
//
// A Hub hands on what it hears, in order for each worker, and waits while nobody takes its events: workers then wait at
// their sockets. It never waits for a worker: one that does not take its orders is disconnected.
//
// # Protocol, provost.worker/1
//
// A unix socket of mode 0600. Both ends check that the process at the other end belongs to the same user. A message is
// a frame: its length as four bytes, most significant first, then as many bytes of JSON, one object, at most 64 KiB
// before and 16 MiB after the welcome. "type" names the one other member that must be there:
//
//	worker: {"type":"hello","hello":{"schema":"provost.worker/1","worker":"w1","token":"…","process":{…},"holding":null}}
//	hub:    {"type":"welcome","welcome":{"schema":"provost.worker/1","version":"0.1.0"}}
//	     or {"type":"refusal","refusal":{"code":"token","text":"…"}} and the end of the connection
//	hub:    {"type":"order","order":{"kind":"prove","job":"j1","attempt":1,…}}   prover.Order
//	worker: {"type":"report","report":{"kind":"beat","holding":{…}}}             prover.Report, once a second or at once
//	hub:    {"type":"ping","ping":{"seq":7}}   worker: {"type":"pong","pong":{"seq":7}}
//
// The token is a secret of 32 bytes that the control side left in a file of mode 0600 for this worker. Members that a
// reader does not know are ignored, because engine and workers may be of different versions while an upgrade is under
// way; a type, order or report that it does not know ends the connection. Another major number in "schema" is refused.
//
//	2026-03  provost.worker/1 and provost.result/1 (the saved result): the first.
package run
