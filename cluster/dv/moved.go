package dv

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/fence"
)

// fenced returns the note of a directory that was restored from a copy, nil when there is none, and an
// error when the node must not sign here.
func fenced(dir string) (*fence.Note, error) {
	note, err := fence.Read(dir)
	switch {
	case err != nil:
		return nil, &Error{CodeState, fmt.Errorf("run node: %w", err), "take the file from a backup; don't remove it: it says that this node may sign elsewhere"}
	case note == nil || note.Kind == fence.Restored:
		return note, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	if !note.Finished {
		return nil, &Error{CodeMoved, fmt.Errorf("run node: %s: an export of this node to run elsewhere began at %s and did not end", abs, note.At.UTC().Format(time.RFC3339)),
			fmt.Sprintf("export it again; or, if %s was never there, remove %s to run it here", note.Archive, fence.Path(abs))}
	}
	return nil, &Error{CodeMoved, fmt.Errorf("run node: %s: this node was exported at %s to run elsewhere; two copies of a node can get validators slashed", abs, note.At.UTC().Format(time.RFC3339)),
		fmt.Sprintf("run it where it was imported, or import %s into a new directory here; only if that file is lost and was never imported anywhere, remove %s", note.Archive, fence.Path(abs))}
}

// waitOut fences slashing protection of a restored copy, for good, before the note is taken away and
// before anything is signed.
func (n *Node) waitOut(ctx context.Context, g *guard.Guard, note *fence.Note) error {
	keys := make([]cluster.PubKey, len(n.dir.Lock.Validators))
	for i, v := range n.dir.Lock.Validators {
		keys[i] = v.PubKey
	}
	first, err := g.Fence(ctx, keys)
	if err != nil {
		return guardError(err)
	}
	n.o.Logger.Warn("this node was restored from a copy: it signs nothing before the epoch named here, so that nothing it signed since can be contradicted",
		"copied", note.Copy.UTC().Format(time.RFC3339), "epoch", uint64(first))
	if err := fence.Remove(n.dir.Path); err != nil {
		return &Error{CodeState, fmt.Errorf("run node: remove the note of the restored copy: %w", err), "make room and give the owner of the node directory the right to write there"}
	}
	return nil
}
