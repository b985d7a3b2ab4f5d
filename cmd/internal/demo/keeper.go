package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// wait tells whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// KeeperMain is the keeper process: it keeps the engine and the practice chain of a
// demo directory alive until its standard input ends, then ends every process of the
// demo and removes the directory. It returns the process's exit code.
func KeeperMain(args []string) int {
	dir, workers, chain, err := keeperArgs(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 2
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	// Only the end of standard input ends the keeper: whoever ends the supervisor ends the demo.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with standard input, which ends with the supervisor
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	cluster := clusterIn(dir)
	for {
		if _, err := os.Stat(cluster); err == nil || !wait(ctx, 10*time.Millisecond) {
			break
		}
	}
	var kept sync.WaitGroup
	kept.Go(func() {
		keep(ctx, exe, "simnet", cluster, "--listen", chain, "--slot-duration", slotDuration.String(), "--slots-per-epoch", fmt.Sprint(slotsPerEpoch),
			"--genesis-in", genesisIn.String())
	})
	kept.Go(func() {
		keep(ctx, exe, "up", "--no-tui", "--name", "demo",
			"--state-dir", filepath.Join(dir, "state"), "--runtime-dir", filepath.Join(dir, "run"), "--socket", socketIn(dir),
			"--workers", strconv.Itoa(workers), "--practice", "demo on a practice chain", "--log-format", "json", "--status-every", "0", "--config", os.DevNull,
			"--cluster-dir", cluster, "--beacon-node-endpoints", "http://"+chain, "--keys-never-signed=true")
	})
	kept.Wait()
	if err := sweep(exe, dir); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	return 0
}

func keeperArgs(args []string) (dir string, workers int, chain string, err error) {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--dir":
			dir = args[i+1]
		case "--chain":
			chain = args[i+1]
		case "--workers":
			if workers, err = strconv.Atoi(args[i+1]); err != nil {
				return "", 0, "", fmt.Errorf("--workers %q: want a number", args[i+1])
			}
		}
	}
	// The directory is removed at the end, so it must be one that the demo made.
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), "provost-demo-") {
		return "", 0, "", fmt.Errorf("--dir %q: not a demo directory", dir)
	}
	return dir, workers, chain, nil
}

// keep starts a process of this binary again whenever it ends, until ctx is done.
func keep(ctx context.Context, exe string, args ...string) {
	// The parent-death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		cmd := exec.Command(exe, args...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			fmt.Fprintf(os.Stderr, "keeper: start %s: %v\n", args[0], err)
		} else {
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }() // ends with the process
			select {
			case err := <-ended:
				fmt.Fprintf(os.Stderr, "keeper: %s ended, it is started again: %v\n", args[0], err)
			case <-ctx.Done():
				cmd.Process.Signal(syscall.SIGTERM)
				select {
				case <-ended:
				case <-time.After(3 * time.Second):
					cmd.Process.Kill()
					<-ended
				}
			}
		}
		if !wait(ctx, 200*time.Millisecond) {
			return
		}
	}
}

// sweep ends every process of this binary whose command line names the directory
// (stubs and workers live in sessions of their own), and removes the directory.
func sweep(exe, dir string) error {
	var last error
	for range 100 {
		left := processesOf(exe, dir)
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			if last = os.RemoveAll(dir); last == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("end the demo: processes %v or files in %s are left: %w", processesOf(exe, dir), dir, last)
}

// processesOf finds processes of the same binary, other than this one, with the
// directory in their arguments. A binary that was replaced meanwhile reads "… (deleted)".
func processesOf(exe, dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		target, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || strings.TrimSuffix(target, " (deleted)") != exe {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		words := bytes.Split(args, []byte{0})
		if len(words) < 2 || string(words[1]) != "up" && string(words[1]) != "simnet" && !bytes.HasPrefix(words[1], []byte("internal-")) {
			continue // somebody's viewer: it sees the engine end
		}
		for _, arg := range words {
			if a := string(arg); a == dir || strings.HasPrefix(a, dir+"/") {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}
