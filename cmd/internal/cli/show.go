package cli

import (
	"path/filepath"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
)

func (a *app) showClusterCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "cluster PATH", Short: "say what a lock or a definition says: nodes, validators, addresses, hashes",
		Long: `PATH is a cluster (with node0, node1, … in it), one node directory, a cluster-lock.json, a
cluster-definition.json or a cluster.tar.gz. No file with a secret is read and nothing is verified:
provost verify cluster does that. -o wide has keys, records and shares whole; jsonl, csv and name
list the validators.`,
		Example: `  provost show cluster .charon/cluster
  provost show cluster ./node0 -o wide
  provost show cluster ./node0/cluster-lock.json -o json | jq -r '.validators[].pubkey'`,
		Args: cobra.ExactArgs(1),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.format(print.Formats...)
		if err != nil {
			return err
		}
		path, err := absolute(args[0])
		if err != nil {
			return err
		}
		if path == "" {
			return usage("show cluster", "the path is empty", "name a cluster, a node directory, a lock or a definition")
		}
		return a.oneShot(cmd, engine.ShowCluster{Path: path}, func(r engine.Receipt) error {
			return print.Cluster(a.Stdout, r.Cluster, f, a.style())
		})
	}
	return c
}

func (a *app) enrCmd() *cobra.Command {
	var file, dir string
	c := &cobra.Command{
		Use: "enr [RECORD]", Short: "print the record by which peers know a node, or decode one",
		Long: `Without RECORD the record is made from the node's private key, charon-enr-private-key in --data-dir
or the file that --file names. The record is public: it is what an operator hands to the others
before a cluster is made. With --verbose, or of a RECORD that is given, everything in it is shown
after its signature was checked.`,
		Example: `  provost enr --data-dir .charon/cluster/node0
  provost enr --verbose
  provost enr enr:-HW4QIHPUOMb34YoizKGhz7nsDNQ7hCaiuwyscmeaOQ04awdH05gDnGrZhxDfzcfHssCDeB-esi99A2RoZia6UaYBCuAgmlkgnY0iXNlY3AyNTZrMaECTUts0TYQMsqb0q652QCqTUXZ6tgKyUIzdMRRpyVNB2Y`,
		Args: cobra.MaximumNArgs(1),
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&dir, "data-dir", ".charon", "directory of the node")
	fl.StringVar(&file, "file", "", "file with the node's private key, instead of the one in --data-dir")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.format(print.Text, print.AJSON)
		if err != nil {
			return err
		}
		given := cmd.Flags().Changed("file") || cmd.Flags().Changed("data-dir")
		if err := a.charonEnv(cmd.Flags()); err != nil {
			return err
		}
		var act engine.ShowENR
		switch {
		case len(args) > 0 && given:
			return usage("enr", "a record and a key file are given", "name one of them")
		case len(args) > 0:
			act.Record = strings.TrimSpace(args[0])
			if act.Record == "" {
				return usage("enr", "the record is empty", "give the whole record, from enr: to its end")
			}
		default:
			name := file
			if name == "" {
				if dir == "" {
					return usageField("data-dir", "--data-dir is empty", "name the directory of the node")
				}
				name = filepath.Join(dir, "charon-enr-private-key")
			}
			if act.File, err = absolute(name); err != nil {
				return err
			}
		}
		return a.oneShot(cmd, act, func(r engine.Receipt) error {
			for _, n := range r.Notes {
				a.say("%s", n)
			}
			if f == print.AJSON {
				return print.JSON(a.Stdout, r.Identity)
			}
			return print.Identity(a.Stdout, r.Identity, a.g.verbose || act.Record != "", a.style())
		})
	}
	return c
}
