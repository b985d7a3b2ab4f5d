package dv

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine of a node ends with its Run.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
