package fanout_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"app.provost/cluster"
	"app.provost/cluster/internal/fanout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSlowPeerCostsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		got, lost := map[cluster.PeerIndex]int{}, map[cluster.PeerIndex][]error{}
		f, err := fanout.New(1, 4, func(ctx context.Context, to cluster.PeerIndex, msg []byte) error {
			if to == 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			got[to]++
			return nil
		}, func(to cluster.PeerIndex, err error) {
			mu.Lock()
			defer mu.Unlock()
			lost[to] = append(lost[to], err)
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 40 {
			f.Send([]byte("x"))
			synctest.Wait()
		}
		if time.Since(began) != 0 {
			t.Error("sending waits")
		}
		mu.Lock()
		if got[0] != 40 || got[2] != 40 || got[1] != 0 || len(lost[3]) != 8 || !errors.Is(lost[3][0], fanout.ErrBusy) {
			t.Errorf("got %v, lost %v", got, lost)
		}
		mu.Unlock()
		time.Sleep(8 * time.Second)
		mu.Lock()
		if len(lost[3]) != 40 || !errors.Is(lost[3][39], context.DeadlineExceeded) {
			t.Errorf("lost %v: want all, by their time limit", lost[3])
		}
		mu.Unlock()
		f.Send([]byte("x"))
		f.Close()
		f.Close()
		f.Send([]byte("x"))
		if len(lost[3]) != 40 || got[0] != 41 {
			t.Errorf("after closing: %v %d", got, len(lost[3]))
		}
	})
}

func TestNewRefuses(t *testing.T) {
	send := func(context.Context, cluster.PeerIndex, []byte) error { return nil }
	for _, c := range []struct {
		self  cluster.PeerIndex
		nodes int
		send  fanout.SendFunc
	}{{0, 0, send}, {4, 4, send}, {-1, 4, send}, {0, 4, nil}} {
		if _, err := fanout.New(c.self, c.nodes, c.send, nil); err == nil {
			t.Errorf("%d of %d passes", c.self, c.nodes)
		}
	}
}
