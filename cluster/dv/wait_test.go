package dv

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/guard"
)

// Nodes that don't know what was signed before they came sign nothing for two epochs, and say that
// this is why duties are missed. One of them among others costs nothing.
func TestNewNodesWait(t *testing.T) {
	root := madeCluster(t, 4, 2)
	var dirs []*nodedir.Directory
	for i := range 4 {
		d, err := nodedir.Open(t.Context(), filepath.Join(root, fmt.Sprintf("node%d", i)), nodedir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Wipe()
		dirs = append(dirs, d)
	}
	for name, x := range map[string]struct {
		fresh  int // how many nodes are new
		missed bool
	}{"all are new": {4, true}, "two are new": {2, true}, "one is new": {1, false}} {
		t.Run(name, func(t *testing.T) {
			disk := quickDir(t)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tw := newTown(t, dirs, disk, 1, 16)
				tw.ctx = ctx
				ticks := make(chan struct{})
				go func() { defer close(ticks); tw.ticker() }()
				time.Sleep(time.Until(tw.w.clock.Genesis.Add(3 * weekSlot)))
				for i, c := range tw.nodes {
					as := guard.Unused
					if i < x.fresh {
						as = guard.Fenced
					}
					g, err := guard.Open(guard.Options{Dir: c.disk, GenesisValidatorsRoot: tw.w.chain.Genesis.ValidatorsRoot, Clock: tw.w.clock, Create: true})
					if err != nil {
						t.Fatal(err)
					}
					defer g.Close()
					if err := g.Register(ctx, tw.w.keys, as); err != nil {
						t.Fatal(err)
					}
					c.start(g, nil)
					from, err := c.node.waits(ctx, g, tw.w.clock)
					if err != nil || (from == 2) != (as == guard.Fenced) || (from == 0) != (as == guard.Unused) {
						t.Errorf("node %d waits until epoch %d, %v", i, from, err)
					}
				}
				time.Sleep(time.Until(tw.w.clock.Start(tw.w.clock.First(6))))
				for _, c := range tw.nodes {
					c.stop()
				}
				cancel()
				<-ticks
				tw.mesh.wg.Wait()
				seen := 0
				for duty, views := range tw.reports {
					early := tw.w.clock.Epoch(duty.Slot) < 2
					if duty.Type != cluster.DutyAttester || duty.Slot < 6 {
						continue
					}
					for self, v := range views {
						switch {
						case !early || !x.missed:
							if v.State != DutyDone {
								t.Errorf("node %d: %s is %s: %s %s", self, duty, v.State, v.Reason, v.Text)
							}
						case v.State != DutyMissed:
							t.Errorf("node %d: %s is %s before epoch 2", self, duty, v.State)
						case int(self) < x.fresh:
							seen++
							if v.Reason != "waiting_after_start" || !strings.HasSuffix(v.Text, "it waits until epoch 2") {
								t.Errorf("node %d: %s was missed: %s: %s", self, duty, v.Reason, v.Text)
							}
						}
					}
				}
				if (seen > 0) != x.missed {
					t.Errorf("%d duties of new nodes were looked at", seen)
				}
			})
		})
	}
}
