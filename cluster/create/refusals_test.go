package create

import (
	"path/filepath"
	"strings"
	"testing"
)

// A refusal names what was given: a lock is not taken for a definition without a version, nor a number
// for another one.
func TestRefusalsNameWhatWasGiven(t *testing.T) {
	t.Parallel()
	p := Params{Dir: filepath.Join(t.TempDir(), "c"), DefinitionFile: filepath.Join("testdata", "v1.10.0", "node0", LockFileName)}
	if _, err := Plan(t.Context(), p); err == nil || !strings.Contains(err.Error(), "it is a lock, not a definition") {
		t.Errorf("%v", err)
	}
	p = testParams(t.TempDir())
	p.DepositAmounts = []uint64{1<<64 - 1, 33}
	if got := p.Problems(); len(got) != 1 || !strings.Contains(got[0].Cause, "18446744073709551615 ETH") {
		t.Errorf("%v", got)
	}
	// Charon keeps gas limits in 63 bits, and doesn't load a lock with a larger one.
	p = testParams(t.TempDir())
	p.TargetGasLimit = 1 << 63
	if got := p.Problems(); len(got) != 1 || got[0].Field != "target-gas-limit" {
		t.Errorf("%v", got)
	}
}
