package pack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"app.provost/cluster/internal/fence"
)

// childEnv makes the test binary export or import and then end, so that it can be killed on the way.
const childEnv = "PROVOST_TEST_PACK"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		var err error
		dir, file, who := os.Args[1], os.Args[2], os.Args[3]
		o := doors()
		o.Progress = func(what string) { fmt.Println(what) }
		if what == "export" {
			_, err = Export(context.Background(), ExportParams{Dir: dir, Out: file, Seal: Seal{Recipients: []string{who}}}, o)
		} else {
			_, err = Import(context.Background(), ImportParams{File: file, Dir: dir, Key: Key{IdentityFile: who}}, o)
		}
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killed runs a child and kills it a moment after a step, or lets it end. It tells whether it ended.
func killed(t *testing.T, what string, after string, wait time.Duration, args ...string) bool {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), childEnv+"="+what)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == after {
			time.Sleep(wait)
			c.Process.Kill()
			break
		}
	}
	io.Copy(io.Discard, out)
	return c.Wait() == nil
}

// Whenever a move is killed: if the file is there, the node may not run at its old place; and the
// export can be made again as long as it is not. What is left is swept by the next run.
func TestKilledMoves(t *testing.T) {
	recipient, identity := someone(t)
	dir, _ := ran(t)
	out := filepath.Join(t.TempDir(), "x.age")
	deaths := 0
	for i := 0; i < 16; i++ {
		ended := killed(t, "export", "sealing", time.Duration(rand.IntN(12000))*time.Microsecond, dir, out, recipient)
		_, err := os.Lstat(out)
		there := err == nil
		note, err := fence.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case there && note == nil:
			t.Fatal("the file is there, and the node would run at its old place")
		case ended && (!there || !note.Finished):
			t.Fatalf("it ended well, and there is no file or a note of %+v", note)
		}
		if !ended {
			deaths++
		}
		if there {
			if _, err := Import(t.Context(), ImportParams{File: out, Check: true, Key: Key{IdentityFile: identity}}, doors()); err != nil {
				t.Fatalf("a file that has its name is not whole: %v", err)
			}
			os.Remove(out)
			if err := fence.Remove(dir); err != nil { // for the next round
				t.Fatal(err)
			}
		}
		// The lock of a key that nobody refreshes is waited for, as of any program that died.
		os.Remove(filepath.Join(dir, "charon-enr-private-key.lock"))
	}
	if deaths == 0 {
		t.Error("none was killed")
	}
	if _, err := Export(t.Context(), ExportParams{Dir: dir, Out: out, Seal: Seal{Recipients: []string{recipient}}}, doors()); err != nil {
		t.Fatal(err)
	}
	leftovers(t, dir, filepath.Dir(out))
	t.Logf("%d killed", deaths)

	// An import that is killed leaves a whole directory or none.
	parent := t.TempDir()
	target := filepath.Join(parent, "n")
	deaths = 0
	for i := 0; i < 10; i++ {
		if !killed(t, "import", "unpacking", time.Duration(rand.IntN(60000))*time.Microsecond, target, out, identity) {
			deaths++
		}
		if _, err := os.Lstat(target); err == nil {
			if err := doors().Verify(t.Context(), target); err != nil {
				t.Fatalf("a directory that is not whole: %v", err)
			}
			os.RemoveAll(target)
		}
	}
	if deaths == 0 {
		t.Error("none was killed")
	}
	t.Logf("%d killed", deaths)
	if _, err := Import(t.Context(), ImportParams{File: out, Dir: target, Key: Key{IdentityFile: identity}}, doors()); err != nil {
		t.Fatal(err)
	}
	leftovers(t, parent)
}
