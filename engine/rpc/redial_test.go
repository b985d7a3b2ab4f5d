package rpc

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
)

func redial(t *testing.T, socket string, onLink func(Link)) *Redialer {
	t.Helper()
	r, err := Redial(t.Context(), RedialOptions{Dial: DialOptions{Socket: socket}, OnLink: onLink, First: time.Millisecond, Longest: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRedialGoesOn(t *testing.T) {
	f := newFake()
	f.entries = []engine.Entry{entry(1), entry(2)}
	socket, _ := serve(t, f)
	relay, cut := relayTo(t, socket)
	var mu sync.Mutex
	var links []Link
	lost := make(chan struct{}, 100)
	r := redial(t, relay, func(l Link) {
		mu.Lock()
		links = append(links, l)
		mu.Unlock()
		if l.Tries > 0 {
			lost <- struct{}{}
		}
	})
	if !r.Link().Connected {
		t.Error("not connected after dialling")
	}
	zero := uint64(0)
	feed := watch(t, r, engine.WatchOptions{After: &zero})
	if u := next(t, feed); len(u.Entries) != 2 {
		t.Fatalf("%d entries", len(u.Entries))
	}
	cut()
	got := make(chan engine.Update, 1)
	go func() { got <- next(t, feed) }()
	<-lost
	if l := r.Link(); l.Connected || l.Tries == 0 || l.Why == "" || l.Stopped || l.Since.IsZero() {
		t.Errorf("link %+v", l)
	}
	f.publish(nil, entry(3))
	// The engine comes back at the same place.
	if err := os.Remove(relay); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Rename(socket, relay); err != nil {
		t.Fatal(err)
	}
	u := <-got
	if len(u.Entries) != 1 || u.Entries[0].N != 3 || u.Snapshot.Gen != 2 {
		t.Errorf("after the loss: gen %d, entries %+v", u.Snapshot.Gen, u.Entries)
	}
	if l := r.Link(); !l.Connected || l.Tries != 0 {
		t.Errorf("link %+v", l)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := len(links); n < 3 || links[0].Connected || !links[n-1].Connected {
		t.Errorf("told %+v", links)
	}
}

func TestRedialOverARestart(t *testing.T) {
	f := newFake()
	socket, stop := serve(t, f)
	down := make(chan struct{}, 100)
	r := redial(t, socket, func(l Link) {
		if !l.Connected {
			down <- struct{}{}
		}
	})
	feed := watch(t, r, engine.WatchOptions{})
	next(t, feed)
	got := make(chan engine.Update, 1)
	go func() { got <- next(t, feed) }()
	stop()
	<-down
	if l := r.Link(); !l.Stopped {
		t.Errorf("link %+v", l)
	}
	// An act ordered while nobody is there is carried out once the engine is back.
	done := make(chan error, 1)
	go func() {
		_, err := r.Do(context.Background(), engine.Request{Action: pause}, "")
		done <- err
	}()
	g := newFake()
	g.publish(nil)
	g.publish(nil)
	serveAt(t, socket, g)
	if u := <-got; u.Snapshot.Gen != 3 {
		t.Errorf("gen %d", u.Snapshot.Gen)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(g.asked) != 1 || g.asked[0].Key == "" {
		t.Errorf("asked %+v", g.asked)
	}
}

func TestRedialRepeatsWithTheSameKey(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	relay, cut := relayTo(t, socket)
	var mu sync.Mutex
	var keys []string
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	f.onDo = func(_ context.Context, r engine.Request, _ engine.Digest) (engine.Receipt, error) {
		mu.Lock()
		keys = append(keys, r.Key)
		mu.Unlock()
		entered <- struct{}{}
		<-leave
		return engine.Receipt{Key: r.Key}, nil
	}
	r := redial(t, relay, nil)
	done := make(chan error, 1)
	go func() {
		_, err := r.Do(context.Background(), engine.Request{Action: pause}, "")
		done <- err
	}()
	<-entered
	cut()
	os.Remove(relay)
	if err := os.Symlink(socket, relay); err != nil {
		t.Fatal(err)
	}
	<-entered
	close(leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0] != keys[1] {
		t.Errorf("keys %v", keys)
	}
}

func TestRedialEnds(t *testing.T) {
	_, err := Redial(t.Context(), RedialOptions{Dial: DialOptions{Socket: "/nonexistent/s"}})
	if engine.AsProblem("", err).Code != engine.CodeNoEngine {
		t.Errorf("got %v", err)
	}
	socket, stop := serve(t, newFake())
	r := redial(t, socket, nil)
	feed := watch(t, r, engine.WatchOptions{})
	next(t, feed)
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := feed.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("next: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = r.Do(ctx, engine.Request{Action: pause}, "")
	if engine.ExitOf(err) != engine.ExitTimeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("do: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := feed.Next(context.Background())
		ended <- err
	}()
	feed.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("after close: %v", err)
	}
	r.Close()
	if _, err := r.Preview(t.Context(), engine.Request{Action: pause}); err != io.EOF {
		t.Errorf("after close: %v", err)
	}
}

func TestRedialDoesNotSpin(t *testing.T) {
	// An engine whose feeds end as soon as they are opened.
	f := newFake()
	f.stop()
	socket, _ := serve(t, f)
	r := redial(t, socket, nil)
	feed := watch(t, r, engine.WatchOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := feed.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Two watches for each try (hello looks too); at 20ms a try at most about 45.
	if n := len(f.watched); n > 150 {
		t.Errorf("%d tries in 400ms", n/2)
	}
}
