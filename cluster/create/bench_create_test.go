package create

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// derive is what a creation cannot do without: one key derivation of full strength for each key share,
// on all cores.
func derive(b *testing.B, shares int) {
	b.Helper()
	var wg sync.WaitGroup
	jobs := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range jobs {
				if _, err := pbkdf2.Key(sha256.New, fmt.Sprintf("%032x", i), make([]byte, 32), 262144, 32); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range shares {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}

func cpu(b *testing.B, who int) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCreateFull makes clusters of 4 nodes with full-strength keystores. It reports the time as a
// multiple of what the key derivations alone take in the same run, by the clock (x-kdf) and in processor
// time (x-kdf-cpu), which other work on the machine changes less. Halves of the derivations come before
// and after, so that a load that grows weighs on both sides.
func BenchmarkCreateFull(b *testing.B) {
	for _, validators := range []int{10, 100} {
		b.Run(fmt.Sprintf("%dx4", validators), func(b *testing.B) {
			p := testParams("")
			p.InsecureKeys, p.NumValidators = false, validators
			base := b.TempDir()
			shares := p.Nodes * p.NumValidators
			var pure, pureCPU, made, madeCPU time.Duration
			half := func() {
				began, used := time.Now(), cpu(b, syscall.RUSAGE_SELF)
				derive(b, shares/2)
				pure, pureCPU = pure+time.Since(began), pureCPU+cpu(b, syscall.RUSAGE_SELF)-used
			}
			for i := 0; b.Loop(); i++ {
				p.Dir = filepath.Join(base, fmt.Sprint(i))
				b.StopTimer()
				half()
				b.StartTimer()
				began, used := time.Now(), cpu(b, syscall.RUSAGE_SELF)
				if _, err := Run(b.Context(), p, nil); err != nil {
					b.Fatal(err)
				}
				made, madeCPU = made+time.Since(began), madeCPU+cpu(b, syscall.RUSAGE_SELF)-used
				b.StopTimer()
				half()
				b.StartTimer()
			}
			b.ReportMetric(made.Seconds()/pure.Seconds(), "x-kdf")
			b.ReportMetric(madeCPU.Seconds()/pureCPU.Seconds(), "x-kdf-cpu")
		})
	}
}

// BenchmarkAgainstCharon makes the same cluster with a Charon binary and here: full strength, 4 nodes.
func BenchmarkAgainstCharon(b *testing.B) {
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		b.Skip("CHARON_BIN doesn't name a charon binary")
	}
	p := testParams("")
	p.InsecureKeys, p.NumValidators = false, 25
	base := b.TempDir()
	var ours, theirs, oursCPU, theirsCPU time.Duration
	for i := 0; b.Loop(); i++ {
		p.Dir = filepath.Join(base, fmt.Sprint(i))
		began, used := time.Now(), cpu(b, syscall.RUSAGE_SELF)
		if _, err := Run(b.Context(), p, nil); err != nil {
			b.Fatal(err)
		}
		ours, oursCPU = ours+time.Since(began), oursCPU+cpu(b, syscall.RUSAGE_SELF)-used
		began, used = time.Now(), cpu(b, syscall.RUSAGE_CHILDREN)
		cmd := exec.CommandContext(b.Context(), charon, "create", "cluster", "--cluster-dir", p.Dir+"-charon", "--nodes", fmt.Sprint(p.Nodes), "--num-validators", fmt.Sprint(p.NumValidators),
			"--network", "hoodi", "--withdrawal-addresses", burnAddress, "--fee-recipient-addresses", burnAddress, "--name", "x")
		if raw, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("charon: %v\n%s", err, raw)
		}
		theirs, theirsCPU = theirs+time.Since(began), theirsCPU+cpu(b, syscall.RUSAGE_CHILDREN)-used
	}
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-faster")
	b.ReportMetric(theirs.Seconds()/float64(b.N), "charon-s/op")
	b.ReportMetric(theirsCPU.Seconds()/oursCPU.Seconds(), "x-less-cpu")
}
