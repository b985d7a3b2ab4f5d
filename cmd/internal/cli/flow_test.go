package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
)

const goodAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// guidedRun carries out a command as on a terminal, with what a person types.
func guidedRun(t *testing.T, home, in string, args ...string) (code engine.ExitCode, out, talk string, asked []engine.Action) {
	t.Helper()
	f := newFake()
	d := scene("tty none")
	d.OneShot = func() engine.Engine { return f }
	var o, e bytes.Buffer
	d.Stdin, d.Stdout, d.Stderr, d.Env = strings.NewReader(in), &o, &e, []string{"TERM=dumb", "HOME=" + home, "XDG_STATE_HOME=" + home + "/state", "XDG_RUNTIME_DIR=" + home}
	code = Run(context.Background(), d, args)
	return code, o.String(), e.String(), f.asked
}

// what a person types to create a cluster, one line each.
var clusterLines = []string{"hoodi", "hoodi-b", "4", "", "2", "n", "", goodAddress, goodAddress, "", "/x/hoodi-b", "", "", "n", "create hoodi-b"}

func typed(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

var wantCluster = engine.CreateCluster{Name: "hoodi-b", Dir: "/x/hoodi-b", Nodes: 4, Threshold: 3, NumValidators: 2, WithdrawalAddresses: []string{goodAddress},
	FeeRecipientAddresses: []string{goodAddress}, Network: "hoodi"}

func TestPlainFlow(t *testing.T) {
	home := t.TempDir()
	code, _, talk, asked := guidedRun(t, home, typed(clusterLines...), "create", "cluster")
	t.Log(talk)
	if code != 0 || len(asked) == 0 || !reflect.DeepEqual(asked[len(asked)-1], engine.Action(wantCluster)) {
		t.Fatalf("exit %d\n%#v", code, asked)
	}
}

var _ = fmt.Sprint
var _ = os.Args
var _ = filepath.Join
var _ flow.Key
var _ cobra.Command
