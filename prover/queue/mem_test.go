package queue_test

import (
	"testing"

	"app.provost/prover/provertest"
	"app.provost/prover/queue"
)

// The suite's interface and the queue's are the same.
var (
	_ provertest.Board = queue.Board(nil)
	_ queue.Board      = provertest.Board(nil)
)

func TestMemBoard(t *testing.T) {
	provertest.BoardSuite(t, func(*testing.T) provertest.Subject {
		return provertest.Subject{Board: queue.NewMemBoard()}
	})
}
