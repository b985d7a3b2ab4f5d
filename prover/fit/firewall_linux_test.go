package fit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRulesHold loads the nftables rules of a worker machine in a network of three: the control process
// reaches its workers, a stranger does not, and nothing else is shut.
func TestRulesHold(t *testing.T) {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("networks are made by root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id := fmt.Sprintf("pvfit%d", os.Getpid())
	worker, control, stranger := id+"w", id+"c", id+"s"
	ip := func(args ...string) error {
		out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	for _, ns := range []string{worker, control, stranger} {
		if err := ip("netns", "add", ns); err != nil {
			t.Skipf("no networks can be made here: %v", err)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	for i, step := range []string{
		"link add name eth1 netns W type veth peer name eth1 netns C", "link add name eth2 netns W type veth peer name eth1 netns S",
		"-n W addr add 10.77.1.2/24 dev eth1", "-n W addr add 10.77.2.2/24 dev eth2", "-n C addr add 10.77.1.1/24 dev eth1", "-n S addr add 10.77.2.1/24 dev eth1",
		"-n W link set lo up", "-n W link set eth1 up", "-n W link set eth2 up", "-n C link set eth1 up", "-n S link set eth1 up",
	} {
		args := strings.Fields(step)
		for j := range args {
			args[j] = strings.NewReplacer("W", worker, "C", control, "S", stranger).Replace(args[j])
		}
		if err := ip(args...); err != nil {
			if i < 2 {
				t.Skipf("no networks can be joined here: %v", err)
			}
			t.Fatal(err)
		}
	}
	l := must(t, nil, Params{Profile: remote(HolesBorne), Machines: []Machine{
		{Name: "control", Address: "10.77.1.1", Threads: 8, RAM: 64 * GiB}, {Name: "worker", Address: "10.77.1.2", Threads: 4, RAM: 64 * GiB}}})
	w, ok := l.firewall(l.Row("worker"))
	if !ok {
		t.Fatal("the worker machine has no rules")
	}
	rules := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(rules, []byte(w.nft()), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(ns string, env string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, os.Args[0])
		cmd.Env = append(os.Environ(), env)
		return cmd
	}
	server := in(worker, "FIT_LISTEN=:40000,:40003,:40004,:22")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	if b := make([]byte, 9); true {
		if _, err := out.Read(b); err != nil || string(b) != "listening" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	open := func(ns, address string) bool {
		t.Helper()
		got, err := in(ns, "FIT_DIAL="+address).Output()
		if err != nil {
			t.Fatalf("%s %s: %v", ns, address, err)
		}
		return strings.HasPrefix(string(got), "open")
	}
	if !open(stranger, "10.77.2.2:40000") || !open(control, "10.77.1.2:40000") {
		t.Skip("these networks do not carry connections: nothing can be shown with them")
	}
	for range 2 { // loading the rules again changes nothing
		if b, err := exec.CommandContext(ctx, "ip", "netns", "exec", worker, "nft", "-f", rules).CombinedOutput(); err != nil {
			t.Skipf("rules cannot be loaded here: %v: %s", err, b)
		}
	}
	for _, c := range []struct {
		ns, address string
		want        bool
	}{
		{control, "10.77.1.2:40000", true}, {control, "10.77.1.2:40003", true}, {stranger, "10.77.2.2:40000", false}, {stranger, "10.77.2.2:40003", false},
		{stranger, "10.77.2.2:40004", true}, {stranger, "10.77.2.2:22", true}, // the port behind the last worker's, and ssh
		{worker, "127.0.0.1:40000", true},
	} {
		if got := open(c.ns, c.address); got != c.want {
			t.Errorf("%s to %s: open %v, want %v", strings.TrimPrefix(c.ns, id), c.address, got, c.want)
		}
	}
}
