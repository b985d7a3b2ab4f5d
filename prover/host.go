package prover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// HostSchema is the version of Host's JSON.
const HostSchema = "provost.prover-host/1"

// maxHost bounds a written Host.
const maxHost = 1 << 20

// Host is what is known of a machine before GPU provers are put on it. Nil means
// not known, which is never taken for enough.
type Host struct {
	Schema   string `json:"schema"`
	Hostname string `json:"hostname"`
	// Told is set when somebody wrote these values down: nothing was measured.
	Told bool `json:"-"`

	GPU          GPUReading `json:"gpu"`
	MemTotal     *MiB       `json:"mem_total_mib"`
	MemAvailable *MiB       `json:"mem_available_mib"`
	Hugepages    []HugePool `json:"hugepages"`
	NUMA         []NUMANode `json:"numa"`
	// DefaultPageKiB is the size of hugepages that vm.nr_hugepages and /proc/meminfo count; nil: not known.
	DefaultPageKiB *uint64 `json:"default_page_kib"`
	// Kept is the number of 2 MiB pages that the machine sets up at boot; nil: none is written down.
	Kept   *KeptPages `json:"kept_hugepages"`
	Docker *Docker    `json:"docker"`
	Disk   *DiskSpace `json:"disk"`
	Busy   []TCPPort  `json:"busy_ports"` // TCP ports that somebody listens on
}

// TCPPort is a TCP port number.
type TCPPort uint16

// NUMANode is one node's memory and processors.
type NUMANode struct {
	Node     int    `json:"node"` // the kernel's node number, from 0
	MemTotal *MiB   `json:"mem_total_mib"`
	CPUs     string `json:"cpus"` // a list as the kernel writes it: "0-15,32-47"
}

// KeptPages is a hugepage pool that is set up at boot, and by what.
type KeptPages struct {
	Pages Pages  `json:"pages"`
	Where string `json:"where"` // a file, or "kernel command line"
}

// Docker is the container engine of a machine. "" means that the part is not there.
type Docker struct {
	Path    string   `json:"path"`    // of the program
	Version string   `json:"version"` // of the daemon
	Compose string   `json:"compose"`
	Toolkit string   `json:"toolkit"` // NVIDIA container toolkit
	Runtime string   `json:"runtime"` // the daemon's default runtime
	Names   []string `json:"runtimes"`
	Root    string   `json:"root"`    // where images and volumes lie
	Volumes []string `json:"volumes"` // by name; nil: not known
	Why     string   `json:"why,omitempty"`
}

// DiskSpace is the space for new data at a path.
type DiskSpace struct {
	Path string `json:"path"`
	Free MiB    `json:"free_mib"`
}

// Pool2M is the pool of 2 MiB pages; false when it is not known.
func (h Host) Pool2M() (HugePool, bool) {
	for _, p := range h.Hugepages {
		if p.PageKiB == 2048 {
			return p, true
		}
	}
	return HugePool{}, false
}

// GPUByUUID finds a device.
func (h Host) GPUByUUID(uuid string) (GPU, bool) {
	for _, g := range h.GPU.GPUs {
		if g.UUID == uuid {
			return g, true
		}
	}
	return GPU{}, false
}

// ReadHost reads a Host that somebody wrote down. Unknown keys are errors: a
// misspelt one would pass for "not known".
func ReadHost(raw []byte) (Host, error) {
	if len(raw) > maxHost {
		return Host{}, fmt.Errorf("read machine: larger than %d bytes", maxHost)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var h Host
	if err := d.Decode(&h); err != nil {
		return Host{}, fmt.Errorf("read machine: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Host{}, errors.New("read machine: something follows the value")
	}
	if h.Schema != HostSchema {
		return Host{}, fmt.Errorf("read machine: schema %.40q, want %q", h.Schema, HostSchema)
	}
	seen := map[string]bool{}
	for i, g := range h.GPU.GPUs {
		if g.UUID == "" || seen[g.UUID] {
			return Host{}, fmt.Errorf("read machine: gpu.gpus[%d]: uuid %.60q is missing or stands there twice", i, g.UUID)
		}
		seen[g.UUID] = true
	}
	if len(h.GPU.GPUs) > 0 && h.GPU.Driver == "" {
		return Host{}, errors.New("read machine: gpu.driver is missing, and GPUs are listed")
	}
	for i, p := range h.Hugepages {
		if p.PageKiB == 0 || p.Free > p.Total || p.Reserved > p.Free || p.Total > 1<<30 {
			return Host{}, fmt.Errorf("read machine: hugepages[%d] does not add up", i)
		}
		if slices.ContainsFunc(h.Hugepages[:i], func(o HugePool) bool { return o.PageKiB == p.PageKiB }) {
			return Host{}, fmt.Errorf("read machine: hugepages[%d]: pages of %d KiB stand there twice", i, p.PageKiB)
		}
		nodes := map[int]bool{}
		for _, n := range p.NUMA {
			if n.Node < 0 || n.Node > maxNUMA || nodes[n.Node] || n.Free > n.Total || n.Total > p.Total {
				return Host{}, fmt.Errorf("read machine: hugepages[%d].numa does not add up", i)
			}
			nodes[n.Node] = true
		}
	}
	if err := h.checkTexts(); err != nil {
		return Host{}, fmt.Errorf("read machine: %w", err)
	}
	for _, m := range []*MiB{h.MemTotal, h.MemAvailable} {
		if m != nil && *m > 1<<40 {
			return Host{}, errors.New("read machine: more memory than there can be")
		}
	}
	h.Told = true
	return h, nil
}

// maxNUMA is the largest number of a NUMA node that the kernel can have.
const maxNUMA = 1023

// checkTexts refuses texts of a written machine that are no plain ones, and numbers of NUMA nodes that
// no kernel gives: all of them end up in units, compose files and commands for root.
func (h Host) checkTexts() error {
	type text struct{ key, value string }
	all := []text{{"hostname", h.Hostname}, {"gpu.driver", h.GPU.Driver}, {"gpu.cuda", h.GPU.CUDA}, {"gpu.why", h.GPU.Why}}
	for i, g := range h.GPU.GPUs {
		at := fmt.Sprintf("gpu.gpus[%d]", i)
		all = append(all, text{at + ".uuid", g.UUID}, text{at + ".model", g.Model}, text{at + ".lost", g.Lost})
		if g.Compute != nil {
			all = append(all, text{at + ".compute", *g.Compute})
		}
		for _, t := range g.Throttle {
			all = append(all, text{at + ".throttle", t})
		}
		if g.NUMA != nil && (*g.NUMA < 0 || *g.NUMA > maxNUMA) {
			return fmt.Errorf("%s: numa is %d; leave it out where it is not known", at, *g.NUMA)
		}
	}
	seen := map[int]bool{}
	for i, n := range h.NUMA {
		if n.Node < 0 || n.Node > maxNUMA || seen[n.Node] {
			return fmt.Errorf("numa[%d]: node %d is none or stands there twice", i, n.Node)
		}
		seen[n.Node] = true
		if strings.Trim(n.CPUs, "0123456789,-") != "" {
			return fmt.Errorf("numa[%d].cpus: want a list as in 0-15,32-47", i)
		}
	}
	if d := h.Docker; d != nil {
		if d.Path != "" && (!filepath.IsAbs(d.Path) || !plainPath(d.Path)) {
			return fmt.Errorf("docker.path %.60q: want an absolute path of a-z A-Z 0-9 . _ + - /", d.Path)
		}
		all = append(all, text{"docker.version", d.Version}, text{"docker.compose", d.Compose}, text{"docker.toolkit", d.Toolkit},
			text{"docker.runtime", d.Runtime}, text{"docker.root", d.Root}, text{"docker.why", d.Why})
		for _, t := range d.Names {
			all = append(all, text{"docker.runtimes", t})
		}
		for _, t := range d.Volumes {
			all = append(all, text{"docker.volumes", t})
		}
	}
	if k := h.Kept; k != nil && k.Where != "kernel command line" && (!filepath.IsAbs(k.Where) || !plainPath(k.Where)) {
		return fmt.Errorf(`kept_hugepages.where %.60q: want the absolute path of a file, or "kernel command line"`, k.Where)
	}
	if h.Disk != nil {
		all = append(all, text{"disk.path", h.Disk.Path})
	}
	for _, t := range all {
		if len(t.value) > 512 || strings.ContainsFunc(t.value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%s: want one line of at most 512 plain characters", t.key)
		}
	}
	return nil
}

// plainPath tells whether a path stands for itself in a shell and in a unit.
func plainPath(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-/") == ""
}
