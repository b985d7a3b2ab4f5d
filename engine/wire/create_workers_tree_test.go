package wire

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var updateTrees = flag.Bool("update", false, "write golden files anew")

// sums are those of the files of a tree; the files themselves stand in the golden file.
var sums = regexp.MustCompile(`(?m)^(  \S+: )[0-9a-f]{64}$`)

// What is written for two eras, whole: plan, units, firewall, commands and configs.
func TestQuilTrees(t *testing.T) {
	for _, id := range []string{"1.4.21", "2.1.0.19"} {
		t.Run(id, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "plan")
			config, err := filepath.Abs("../../cluster/quil/testdata/" + id + "/config.yml")
			if err != nil {
				t.Fatal(err)
			}
			p, err := createWorkers(t, guide(dir, "quil-"+id, config))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, w := range p.Warnings {
				fmt.Fprintln(&b, "warning:", w)
			}
			for _, n := range p.Notes {
				fmt.Fprintln(&b, "note:", n)
			}
			said := strings.ReplaceAll(b.String(), dir, "$DIR")
			if strings.Contains(said, "5a5a5a5a") || strings.Contains(said, "00112233") {
				t.Errorf("the plan tells a secret:\n%s", said)
			}
			got := sums.ReplaceAllString(strings.ReplaceAll(said+tree(t, dir), config, "$CONFIG"), "${1}SUM")
			golden := filepath.Join("testdata", "quil-"+id+".golden")
			if *updateTrees {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != got {
				t.Errorf("%s differs (%v); -update accepts:\n%s", golden, err, got)
			}
		})
	}
}
