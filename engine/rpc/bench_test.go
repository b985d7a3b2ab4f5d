package rpc

import (
	"fmt"
	"testing"

	"app.provost/engine"
)

// BenchmarkWorkers is a change of the whole workers section, from publication to
// the viewer's mirror.
func BenchmarkWorkers(b *testing.B) {
	for _, n := range []int{2048, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFake()
			f.publish(func(s *engine.Snapshot) { s.Workers = workers(2, n) })
			socket, _ := serve(b, f)
			c := dial(b, socket)
			feed := watch(b, c, engine.WatchOptions{})
			next(b, feed)
			version := uint64(2)
			enc := &encoder{}
			data, err := enc.section(3, f.snap.Workers)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				version++
				f.publish(func(s *engine.Snapshot) {
					w := *s.Workers
					w.Version = version
					s.Workers = &w
				})
				next(b, feed)
			}
		})
	}
}

// BenchmarkQuietUpdate is a small change while 20,000 workers stay as they are.
func BenchmarkQuietUpdate(b *testing.B) {
	f := newFake()
	f.publish(func(s *engine.Snapshot) { s.Workers = workers(2, 20000) })
	socket, _ := serve(b, f)
	feed := watch(b, dial(b, socket), engine.WatchOptions{})
	next(b, feed)
	b.ReportAllocs()
	for b.Loop() {
		f.publish(func(s *engine.Snapshot) {
			e := *s.Engine
			e.Version++
			s.Engine = &e
		})
		next(b, feed)
	}
}

// BenchmarkAttach is from dialling to the first snapshot in hand.
func BenchmarkAttach(b *testing.B) {
	for _, n := range []int{2, 2048, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFake()
			f.publish(func(s *engine.Snapshot) { s.Workers = workers(2, n) })
			socket, _ := serve(b, f)
			keep := watch(b, dial(b, socket), engine.WatchOptions{}) // a screen is attached already
			next(b, keep)
			for b.Loop() {
				c, err := Dial(b.Context(), DialOptions{Socket: socket})
				if err != nil {
					b.Fatal(err)
				}
				feed, err := c.Watch(b.Context(), engine.WatchOptions{})
				if err != nil {
					b.Fatal(err)
				}
				next(b, feed)
				feed.Close()
				c.Close()
			}
		})
	}
}
