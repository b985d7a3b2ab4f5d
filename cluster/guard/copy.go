package guard

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"app.provost/cluster"
)

// Contents is what a file says to those who don't sign with it.
type Contents struct {
	GenesisValidatorsRoot cluster.Root
	Marks                 map[cluster.PubKey]Marks // of every key that is known
}

// anyClock stands in where no chain is known: to look at marks needs no time, only a clock that
// divides slots into epochs.
var anyClock = cluster.SlotClock{SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}

// Read checks the whole file in a directory, of whatever chain it is, and returns what it says. It
// changes nothing and needs no right to write. A node that runs has the file: CodeLocked. While it is
// read no node can begin with it. Errors are *Error.
func Read(dir string) (Contents, error) {
	g := &Guard{o: Options{Dir: dir, Clock: anyClock, look: true}, turn: make(chan struct{}, 1), byKey: map[cluster.PubKey]uint32{}}
	err := g.open()
	if g.db != nil {
		err = errors.Join(err, g.db.Close())
	}
	if err != nil {
		return Contents{}, g.problem(err)
	}
	out := Contents{GenesisValidatorsRoot: g.o.GenesisValidatorsRoot, Marks: map[cluster.PubKey]Marks{}}
	for _, r := range g.records {
		out.Marks[r.pub] = r.marks
	}
	return out, nil
}

// How often and how far apart a copy is tried that a commit came between.
const (
	copyTries = 40
	copyPause = 50 * time.Millisecond
)

// Copy writes a copy of the file in one directory into another, which must have none. It may be
// called while a node runs with the file: the copy is the file as it was after one of its
// transactions, whole, and was checked as Open checks it. By the time Copy returns the node may have
// signed more, so whoever starts from the copy must fence its keys. Errors are *Error, or ctx's.
//
// A transaction of bbolt writes no page that the one before it can reach. So what was copied between
// two readings of the meta pages that name the same newest transaction is that transaction's.
func Copy(ctx context.Context, from, to string) error {
	source, target := filepath.Join(from, FileName), filepath.Join(to, FileName)
	give := &Guard{o: Options{Dir: from}}
	if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
		return &Error{Code: CodeMissing, File: source, Err: errors.New("there is no such file")}
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		return &Error{Code: CodeUnwritable, File: target, Err: errors.Join(os.ErrExist, err)}
	}
	for try := 0; ; try++ {
		again, err := copyOnce(source, target)
		if err == nil && !again {
			_, err = Read(to)
			return err
		}
		if rm := os.Remove(target); rm != nil && !errors.Is(rm, os.ErrNotExist) {
			return (&Guard{o: Options{Dir: to}}).problem(rm)
		}
		var d damaged // a meta page may be read while it is written
		if err != nil && !errors.As(err, &d) || try == copyTries {
			if err == nil {
				return &Error{Code: CodeBusy, File: source, Err: errors.New("it was written to again and again while it was copied")}
			}
			return give.problem(err)
		}
		timer := time.NewTimer(copyPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func copyOnce(source, target string) (again bool, err error) {
	before, err := bothMetas(source)
	if err != nil {
		return false, err
	}
	in, err := os.Open(source)
	if err != nil {
		return false, err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return false, err
	}
	after, err := bothMetas(source)
	return before != after, err
}
