package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"app.provost/engine/host"
	"app.provost/prover"
	"app.provost/prover/fit"
	"app.provost/prover/gpu"
	"app.provost/prover/zkwasm"
)

const (
	// toolLimit is the longest that one program is asked for its version.
	toolLimit = 5 * time.Second
	// serverLimit is the longest that planning waits for a hub.
	serverLimit = 2 * time.Second
	maxToolSays = 1 << 20
)

// proverHost measures this machine for provers. Its functions are fields so that
// tests have their own machine.
type proverHost struct {
	root  string // where the machine's file tree begins
	gpus  func(ctx context.Context) prover.GPUReading
	run   func(ctx context.Context, name string, args ...string) (string, error)
	which func(name string) (string, error)
	dial  func(ctx context.Context, s zkwasm.Server) error
}

func newProverHost() proverHost {
	return proverHost{
		root: "/",
		gpus: func(ctx context.Context) prover.GPUReading { return gpu.New(gpu.Options{}).ReadOnce(ctx) },
		run:  runTool, which: exec.LookPath, dial: dialServer,
	}
}

// measure looks at everything at once: drivers and daemons may take their time.
func (p proverHost) measure(ctx context.Context) (prover.Host, error) {
	h := prover.Host{Schema: prover.HostSchema}
	at, err := host.New(host.Options{Root: p.root})
	if err != nil {
		return h, err
	}
	var all sync.WaitGroup
	all.Go(func() { h.GPU = p.gpus(ctx) })
	all.Go(func() {
		row := at.ReadOnce(ctx)
		h.Hostname = row.Hostname
		if m := row.Memory.Value; m != nil {
			total, free := prover.MiB(m.TotalBytes>>20), prover.MiB(m.AvailableBytes>>20)
			h.MemTotal, h.MemAvailable = &total, &free
		}
		if pools := row.Hugepages.Value; pools != nil {
			h.Hugepages = *pools
		}
	})
	all.Go(func() {
		h.Docker = p.docker(ctx)
		if h.Docker.Root != "" {
			h.Disk = p.disk(ctx, h.Docker.Root)
		}
	})
	all.Wait()
	if m := defaultPage.FindSubmatch(p.read("proc/meminfo")); m != nil {
		if kib, err := strconv.ParseUint(string(m[1]), 10, 63); err == nil {
			h.DefaultPageKiB = &kib
		}
	}
	h.NUMA = p.numa()
	h.Kept = p.kept()
	h.Busy = p.listening()
	return h, ctx.Err()
}

// docker asks Docker's own programs. What does not answer is not there.
func (p proverHost) docker(ctx context.Context) *prover.Docker {
	d := prover.Docker{}
	ask := func(name string, args ...string) string {
		out, err := p.run(ctx, name, args...)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(out)
	}
	var all sync.WaitGroup
	all.Go(func() {
		// "NVIDIA Container Toolkit CLI version 1.14.3", "NVIDIA Container Runtime Hook version 1.14.3"
		for _, name := range []string{"nvidia-ctk", "nvidia-container-toolkit"} {
			if v := versionWord.FindStringSubmatch(ask(name, "--version")); v != nil && d.Toolkit == "" {
				d.Toolkit = v[1]
			}
		}
	})
	path, err := p.which("docker")
	if err != nil {
		d.Why = "it is not installed"
		all.Wait()
		return &d
	}
	d.Path = path
	var say error
	var info string
	all.Go(func() { info, say = p.run(ctx, "docker", "info", "--format", "{{json .}}") })
	all.Go(func() { d.Compose = ask("docker", "compose", "version", "--short") })
	all.Go(func() {
		if out, err := p.run(ctx, "docker", "volume", "ls", "--format", "{{.Name}}"); err == nil {
			d.Volumes = strings.Fields(out)
		}
	})
	all.Wait()
	var answer struct {
		ServerVersion  string
		DockerRootDir  string
		DefaultRuntime string
		Runtimes       map[string]json.RawMessage
		ServerErrors   []string
	}
	switch {
	case json.Unmarshal([]byte(info), &answer) == nil && answer.ServerVersion != "":
		d.Version, d.Root, d.Runtime = answer.ServerVersion, answer.DockerRootDir, answer.DefaultRuntime
		d.Names = []string{}
		for name := range answer.Runtimes {
			d.Names = append(d.Names, name)
		}
		slices.Sort(d.Names)
	case len(answer.ServerErrors) > 0:
		d.Why = answer.ServerErrors[0]
	case say != nil:
		d.Why = say.Error()
	default:
		d.Why = "its daemon does not answer"
	}
	return &d
}

var versionWord = regexp.MustCompile(`version\s+v?([0-9][0-9A-Za-z.+~-]*)`)

// runTool runs a program for what it prints. It is ended after toolLimit.
func runTool(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, errs := &bounded{}, &bounded{}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return out.String(), fmt.Errorf("%s did not answer within %s", name, toolLimit)
		}
		if line, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n"); line != "" {
			return out.String(), fmt.Errorf("%s", line)
		}
		return out.String(), err
	}
	return out.String(), nil
}

// bounded keeps the beginning of what is written. The buffer is no embedded one: its
// ReadFrom would go round Write.
type bounded struct{ b bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxToolSays - b.b.Len(); room > 0 {
		b.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) String() string { return b.b.String() }

func (p proverHost) disk(ctx context.Context, path string) *prover.DiskSpace {
	at, err := host.New(host.Options{Root: p.root, Paths: []host.Path{{Path: path, What: "docker"}}})
	if err != nil {
		return nil
	}
	row := at.ReadOnce(ctx)
	if row.Disks.Value == nil || len(*row.Disks.Value) == 0 {
		return nil
	}
	return &prover.DiskSpace{Path: path, Free: prover.MiB((*row.Disks.Value)[0].FreeBytes >> 20)}
}

func (p proverHost) read(elem ...string) []byte {
	f, err := os.Open(filepath.Join(append([]string{p.root}, elem...)...))
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, _ := io.ReadAll(io.LimitReader(f, 4<<20)) // what cannot be read is not known
	return raw
}

var defaultPage = regexp.MustCompile(`(?m)^Hugepagesize:\s+(\d+) kB`)

var nodeMemory = regexp.MustCompile(`MemTotal:\s+(\d+) kB`)

// numa reads each node's memory and processors (Documentation/admin-guide/mm/numaperf.rst names the tree).
func (p proverHost) numa() []prover.NUMANode {
	dirs, _ := filepath.Glob(filepath.Join(p.root, "sys/devices/system/node/node[0-9]*")) // the pattern is right
	var out []prover.NUMANode
	for _, dir := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err != nil {
			continue
		}
		node := prover.NUMANode{Node: n, CPUs: strings.TrimSpace(string(p.read("sys/devices/system/node", filepath.Base(dir), "cpulist")))}
		if m := nodeMemory.FindSubmatch(p.read("sys/devices/system/node", filepath.Base(dir), "meminfo")); m != nil {
			if kib, err := strconv.ParseUint(string(m[1]), 10, 63); err == nil {
				mib := prover.MiB(kib >> 10)
				node.MemTotal = &mib
			}
		}
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b prover.NUMANode) int { return a.Node - b.Node })
	return out
}

// kept finds who sets the hugepage pool at boot. Files are read in the order of
// sysctl.d(5); /etc/sysctl.conf is last, and a file of one name is read once.
func (p proverHost) kept() *prover.KeptPages {
	var out *prover.KeptPages
	if n, ok := fit.BootPages(string(p.read("proc/cmdline"))); ok {
		out = &prover.KeptPages{Pages: n, Where: "kernel command line"}
	}
	byName := map[string]string{}
	for _, dir := range []string{"usr/lib/sysctl.d", "run/sysctl.d", "etc/sysctl.d"} { // later ones win
		files, _ := filepath.Glob(filepath.Join(p.root, dir, "*.conf")) // the pattern is right
		for _, f := range files {
			byName[filepath.Base(f)] = dir + "/" + filepath.Base(f)
		}
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	paths := make([]string, 0, len(names)+1)
	for _, n := range names {
		paths = append(paths, byName[n])
	}
	for _, path := range append(paths, "etc/sysctl.conf") {
		if n, ok := fit.SysctlPages(p.read(path)); ok {
			out = &prover.KeptPages{Pages: n, Where: "/" + path}
		}
	}
	return out
}

// listening are the TCP ports that somebody listens on; nil when that is not known.
func (p proverHost) listening() []prover.TCPPort {
	var out []prover.TCPPort
	known := false
	for _, name := range []string{"tcp", "tcp6"} {
		raw := p.read("proc/net", name)
		known = known || len(raw) > 0
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); err == nil {
				out = append(out, prover.TCPPort(n))
			}
		}
	}
	if !known {
		return nil
	}
	slices.Sort(out)
	return append([]prover.TCPPort{}, slices.Compact(out)...)
}

// dialServer sees whether a hub can be reached, and is who it says where it is encrypted.
// It sends no request.
func dialServer(ctx context.Context, s zkwasm.Server) error {
	ctx, cancel := context.WithTimeout(ctx, serverLimit)
	defer cancel()
	var c net.Conn
	var err error
	at := net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	if s.Secure {
		c, err = (&tls.Dialer{}).DialContext(ctx, "tcp", at)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return fmt.Errorf("no answer within %s", serverLimit)
		}
		return err
	}
	return c.Close()
}
