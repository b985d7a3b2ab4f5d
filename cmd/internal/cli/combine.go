package cli

import (
	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
)

func (a *app) combineCmd() *cobra.Command {
	var act engine.CombineCluster
	c := &cobra.Command{
		Use: "combine [DIR…]", Short: "put whole validator keys together from the nodes' directories, to leave a cluster",
		Long: `DIR is the directory of a node; as many different nodes are needed as the threshold says, and all
that are given are checked. What is written is what charon combine writes: an ordinary keystore for each
validator with its password beside it, and slashing-protection.json (EIP-3076), the highest of what the
nodes signed. Keys are not made without it: give the directories in which the nodes ran last, stopped for
good. Where it cannot be had, as with Charon's directories, the refusal names a sentence to type out.
Nothing is overwritten, and the nodes' directories are not changed. A node that runs is
refused; Charon is seen to run only with its --private-key-file-lock.

With a whole key one program alone can sign. If any node of the cluster runs while the keys are used
elsewhere, the validators are slashed.`,
		Example: `  provost combine ./node0 ./node1 ./node2 --output-dir ./validator_keys
  provost combine --cluster-dir ./nodes-of-all-operators`,
		Args: cobra.ArbitraryArgs,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.ClusterDir, "cluster-dir", "", "directory with node directories in it (without DIR and with nobody to ask: this one)")
	fl.StringVar(&act.OutputDir, "output-dir", "./validator_keys", "directory to write the keys to; nothing may be there")
	fl.StringVar(&act.NoSlashingHistory, "no-slashing-history", "", "make keys without their whole history: a sentence that the refusal names")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.charonEnv(cmd.Flags()); err != nil {
			return err
		}
		act := act
		if len(args) == 0 && act.ClusterDir == "" {
			act.ClusterDir = "."
		}
		var err error
		for _, dir := range args {
			if dir == "" {
				return usage("combine", "a directory is empty", "name the directories of nodes")
			}
			if dir, err = absolute(dir); err != nil {
				return err
			}
			act.Dirs = append(act.Dirs, dir)
		}
		if act.OutputDir == "" {
			return usageField("output-dir", "--output-dir is empty", "name a directory that does not exist yet")
		}
		if act.OutputDir, err = absolute(act.OutputDir); err != nil {
			return err
		}
		if act.ClusterDir, err = absolute(act.ClusterDir); err != nil {
			return err
		}
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.Combine(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}
