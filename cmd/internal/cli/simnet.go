package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// SimnetOptions of a practice chain.
type SimnetOptions struct {
	Locks         []string // absolute
	Listen        string
	SlotDuration  time.Duration
	SlotsPerEpoch uint64
	Fork          string
	Builder       bool
	GenesisIn     time.Duration // from the start; 0: two slots
}

func (a *app) simnetCmd() *cobra.Command {
	o := SimnetOptions{}
	c := &cobra.Command{
		Use: "simnet DIR…", Short: "a practice chain: one beacon node in memory for the validators of a cluster", Args: cobra.MinimumNArgs(1),
		Long: `DIR is a cluster directory, a node directory or a cluster-lock.json. It serves the Beacon API, checks
every signature against the real signing root, includes what is right, and reports what would be
slashed. Nothing on it is real: no balances, no deposits, no other validators.
Its account: GET /simnet/v1/status; faults on request: POST /simnet/v1/faults.`,
		Example: `  provost simnet .charon/cluster --slot-duration 2s --slots-per-epoch 4
  provost up --cluster-dir .charon/cluster --beacon-node-endpoints http://127.0.0.1:5052`,
	}
	fl := c.Flags()
	fl.StringVar(&o.Listen, "listen", "127.0.0.1:5052", "host:port to listen on")
	fl.DurationVar(&o.SlotDuration, "slot-duration", 12*time.Second, "length of a slot, whole milliseconds")
	fl.Uint64Var(&o.SlotsPerEpoch, "slots-per-epoch", 32, "slots of an epoch")
	fl.DurationVar(&o.GenesisIn, "genesis-in", 0, "time until genesis (default: two slots)")
	fl.StringVar(&o.Fork, "fork", "fulu", "shape of the chain's objects: electra or fulu")
	fl.BoolVar(&o.Builder, "builder", false, "answer with blinded blocks, as with a block builder")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.Simnet == nil {
			return notHere()
		}
		switch {
		case o.SlotDuration < 100*time.Millisecond || o.SlotDuration > time.Hour || o.SlotDuration%time.Millisecond != 0:
			return usageField("slot-duration", fmt.Sprintf("--slot-duration=%s", o.SlotDuration), "want 100ms to 1h")
		case o.SlotsPerEpoch < 1 || o.SlotsPerEpoch > 1024:
			return usageField("slots-per-epoch", fmt.Sprintf("--slots-per-epoch=%d", o.SlotsPerEpoch), "want 1 to 1024")
		case o.GenesisIn < 0 || o.GenesisIn > 24*time.Hour:
			return usageField("genesis-in", fmt.Sprintf("--genesis-in=%s", o.GenesisIn), "want 0 to 24h")
		case o.Fork != "electra" && o.Fork != "fulu":
			return usageField("fork", fmt.Sprintf("--fork=%q", o.Fork), "want electra or fulu")
		}
		for _, p := range args {
			abs, err := absolute(p)
			if err != nil {
				return err
			}
			o.Locks = append(o.Locks, abs)
		}
		return a.Simnet(cmd.Context(), o)
	}
	return c
}
