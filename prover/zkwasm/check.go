package zkwasm

import (
	"fmt"
	"slices"
	"strings"

	"app.provost/prover"
)

// Weight says what a remark about a machine or a parameter means. Its zero value stops.
type Weight string

const (
	// Stops: the directories are not made.
	Stops Weight = ""
	// Lacks: the nodes cannot run like this. It stops too, unless the operator means it.
	Lacks Weight = "lacks"
	// Warns is told and stops nothing.
	Warns Weight = "warns"
)

// Remark is one thing that was noticed. Field is the flag at fault, without dashes.
type Remark struct {
	Weight Weight
	Field  string
	Cause  string
	Remedy string
}

// Params say which nodes to make.
type Params struct {
	Version  string // "0.0.14"
	Name     string // of the group; its nodes are NAME-0, NAME-1, …
	Dir      string // absolute
	Server   string
	GPUs     []string // UUIDs
	KeyFiles []string // absolute paths: one for each GPU, or one with a key on each line
}

// MaxNodes bounds the nodes of one group: no machine has more devices.
const MaxNodes = 64

// Remarks lists everything that is wrong with the parameters themselves. It looks at no file.
func (p Params) Remarks() []Remark {
	var out []Remark
	bad := func(field, remedy, cause string, args ...any) {
		out = append(out, Remark{Stops, field, fmt.Sprintf(cause, args...), remedy})
	}
	if _, ok := VersionByName(p.Version); !ok {
		bad("profile", "choose "+profiles(), "there is no profile %.60q", "zkwasm-"+p.Version)
	}
	switch {
	case p.Dir == "":
		bad("dir", "name a directory to create, such as ./provers", "no directory is given")
	case strings.ContainsFunc(p.Dir, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }):
		bad("dir", "choose a path of plain characters: units and commands name it", "the path holds a line end or another control character")
	}
	if why := badName(p.Name); why != "" {
		bad("name", "choose 1 to 40 of a-z 0-9 - _, beginning with a letter or digit, as in gpu-a", "%.60q %s", p.Name, why)
	}
	if p.Server == "" {
		bad("server", "give the hub's URL, such as https://rpc.zkwasmhub.com", "no server is given")
	} else if s, err := ParseServer(p.Server); err != nil {
		bad("server", "give it as in https://rpc.zkwasmhub.com", "%v", err)
	} else if s.Local() {
		out = append(out, Remark{Warns, "server", p.Server + " is this machine: the shipped files have such a place as a placeholder", "give the hub's URL unless a hub runs here"})
	} else if !s.Secure {
		out = append(out, Remark{Warns, "server", p.Server + " is not encrypted: whoever is on the way reads tasks and inputs", "use https where the hub has it"})
	}
	switch {
	case len(p.GPUs) == 0:
		bad("gpus", "give the UUID of each GPU, by commas; nvidia-smi -L lists them", "no GPU is given")
	case len(p.GPUs) > MaxNodes:
		bad("gpus", "make several groups", "%s, at most %d fit a group", gpus(len(p.GPUs)), MaxNodes)
	}
	for i, u := range p.GPUs {
		switch {
		case !validUUID(u):
			bad("gpus", "give UUIDs as nvidia-smi -L lists them; an index such as 0 may be another device after a reboot", "%.60q is no GPU's UUID (GPU- and 32 hex digits in five groups)", u)
		case slices.ContainsFunc(p.GPUs[:i], func(o string) bool { return strings.EqualFold(o, u) }):
			bad("gpus", "give each GPU once: two nodes on one device run out of its memory", "%s stands there twice", u)
		}
	}
	if n := len(p.KeyFiles); n == 0 {
		bad("key-files", "give one file for each GPU, by commas, or one with a key on each line", "no key is given")
	} else if n != 1 && n != len(p.GPUs) && len(p.GPUs) > 0 {
		bad("key-files", "give one file for each GPU, in the order of --gpus, or one with a key on each line", "%d key files for %s", n, gpus(len(p.GPUs)))
	}
	for i, f := range p.KeyFiles {
		if f == "" {
			bad("key-files", "name each file", "the name of file %d is empty", i+1)
		} else if slices.Contains(p.KeyFiles[:i], f) {
			bad("key-files", "each node needs a key of its own: the same key twice is one node for the hub", "%s stands there twice", f)
		}
	}
	return out
}

// Projects are the names of the nodes.
func (p Params) Projects() []string {
	out := make([]string, len(p.GPUs))
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", p.Name, i)
	}
	return out
}

func profiles() string {
	var out []string
	for i := len(versions) - 1; i >= 0; i-- {
		out = append(out, versions[i].Profile())
	}
	return strings.Join(out, ", ")
}

// badName says why a name cannot name projects of Docker Compose, directories and units.
func badName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > 40:
		return "is longer than 40 characters"
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_') {
			return fmt.Sprintf("has %q", r)
		}
	}
	return ""
}

// validUUID tells whether s names a device as NVML does: GPU-8-4-4-4-12 hex digits.
func validUUID(s string) bool {
	rest, ok := strings.CutPrefix(s, "GPU-")
	if !ok || len(rest) != 36 {
		return false
	}
	for i, c := range rest {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// Twice finds keys, devices and project names that are used more than once: among
// the nodes and by those that are on the disk. None of these can be meant.
func Twice(nodes []Node, there []Found, h prover.Host) []Remark {
	var out []Remark
	for i, n := range nodes {
		for j, o := range nodes[:i] {
			if n.Address.Same(o.Address) {
				out = append(out, Remark{Stops, "key-files", fmt.Sprintf("keys %d and %d are the same, that of %s", j+1, i+1, n.Address), "each node needs a key of its own: the same key twice is one node for the hub"})
			}
		}
		for _, f := range there {
			here := f.Host == "" || h.Hostname == "" || f.Host == h.Hostname
			if n.Address.Same(f.Address) {
				out = append(out, Remark{Stops, "key-files", fmt.Sprintf("key %d, that of %s, is used by %s already", i+1, n.Address, f.Dir), "give a new key; a node that is moved takes its directory along instead"})
			}
			if here && f.uses(n.GPU) {
				out = append(out, Remark{Stops, "gpus", fmt.Sprintf("%s is used by %s already", n.GPU.UUID, f.Dir), "choose another GPU: two nodes on one device run out of its memory"})
			}
			if here && n.Project == f.Project {
				out = append(out, Remark{Stops, "name", fmt.Sprintf("%s is the name of %s already: they would share containers and volumes", n.Project, f.Dir), "choose another --name"})
			}
		}
		if h.Docker != nil {
			for _, v := range h.Docker.Volumes {
				if strings.HasPrefix(v, n.Project+"_") {
					out = append(out, Remark{Stops, "name", fmt.Sprintf("Docker has a volume %s already: the new node would take it over", v), "choose another --name, or remove the volume if nobody needs it"})
					break
				}
			}
		}
		if where := n.Address.Published(); where != "" {
			out = append(out, Remark{Lacks, "key-files", fmt.Sprintf("key %d, that of %s, is %s: everybody can read it and sign as this node", i+1, n.Address, where), "make a new key"})
		}
	}
	for _, f := range there {
		if f.Problem != "" {
			out = append(out, Remark{Warns, "key-files", fmt.Sprintf("%s is a prover too and could not be compared: %s", f.Dir, f.Problem), "see that it has another key"})
		}
	}
	return out
}

// CheckHost compares a machine with what a version asks for, but for memory and
// hugepages, which are counted together for all nodes.
func (v Version) CheckHost(h prover.Host, uuids []string, there []Found) []Remark {
	var out []Remark
	say := func(w Weight, field, remedy, cause string, args ...any) {
		out = append(out, Remark{w, field, fmt.Sprintf(cause, args...), remedy})
	}
	if h.GPU.Driver == "" {
		why := or(h.GPU.Why, "no NVIDIA driver")
		say(Stops, "gpus", "install the driver ("+v.Needs.Driver+" or newer) and try again; for another machine write down what it has and give that with --assume-gpus FILE", "%s: which GPUs this machine has is not known", why)
		return out
	}
	if h.GPU.Driver != "unknown" && older(h.GPU.Driver, v.Needs.Driver) {
		say(Lacks, "gpus", "install driver "+v.Needs.Driver+" or newer: the image is made with CUDA "+v.Needs.CUDA+" and is not started on an older one", "the driver is %s", h.GPU.Driver)
	} else if h.GPU.CUDA != "" && older(h.GPU.CUDA, v.Needs.CUDA) {
		say(Lacks, "gpus", "install driver "+v.Needs.Driver+" or newer", "the driver serves CUDA %s, the image is made with %s", h.GPU.CUDA, v.Needs.CUDA)
	}
	for _, u := range uuids {
		g, ok := h.GPUByUUID(u)
		if !ok {
			say(Stops, "gpus", "choose of: "+list(h), "there is no GPU %s on this machine", u)
			continue
		}
		v.checkGPU(g, say)
	}
	v.checkSoftware(h, say)
	v.checkPlace(h, len(uuids), there, say)
	return out
}

func (v Version) checkGPU(g prover.GPU, say func(w Weight, field, remedy, cause string, args ...any)) {
	name := fmt.Sprintf("GPU %d (%s, %s)", g.Index, or(g.Model, "unknown model"), g.UUID)
	if g.Lost != "" {
		say(Stops, "gpus", "bring it back first", "%s: %s", name, g.Lost)
		return
	}
	least := fmt.Sprintf("the least card is an %s", v.Needs.Model)
	switch {
	case g.MemTotal == nil:
		say(Warns, "gpus", least, "%s: its memory is not known", name)
	case *g.MemTotal < v.Needs.GPUMemory:
		say(Lacks, "gpus", least, "%s has %d MiB of memory, %d are needed", name, *g.MemTotal, v.Needs.GPUMemory)
	}
	switch {
	case g.Compute == nil:
		say(Warns, "gpus", least, "%s: its compute capability is not known", name)
	case older(*g.Compute, v.Needs.Compute):
		say(Lacks, "gpus", least, "%s has compute capability %s, %s is needed", name, *g.Compute, v.Needs.Compute)
	}
	if g.MIG != nil && *g.MIG {
		say(Lacks, "gpus", "switch MIG off for it: sudo nvidia-smi -i "+g.UUID+" -mig 0", "%s is split into parts (MIG), and a node takes a whole device", name)
	}
	if g.Display != nil && *g.Display {
		say(Warns, "gpus", "stop the display server, or use it for the screen only", "%s drives a display (Xorg or the like), which takes part of its memory", name)
	} else if len(g.PIDs) > 0 {
		say(Warns, "gpus", "see what they are: nvidia-smi", "%s is in use by %s %s", name, plural(len(g.PIDs), "process", "processes"), join(g.PIDs))
	}
}

func (v Version) checkSoftware(h prover.Host, say func(w Weight, field, remedy, cause string, args ...any)) {
	d := h.Docker
	if d == nil {
		say(Warns, "", "it needs Docker "+v.Needs.Docker+", Compose "+v.Needs.Compose+" and the NVIDIA container toolkit "+v.Needs.Toolkit, "what Docker the machine has is not known")
		return
	}
	install := "sudo apt-get install nvidia-container-toolkit=" + v.Needs.Toolkit + "-1"
	switch {
	case d.Version == "":
		say(Lacks, "", "install Docker and start it: sudo systemctl enable --now docker", "Docker: %s", or(d.Why, "it is not installed, or its daemon does not answer"))
	case older(d.Version, v.Needs.Docker):
		say(Lacks, "", "install a newer one", "Docker is %s, %s is needed", d.Version, v.Needs.Docker)
	}
	switch {
	case d.Compose == "":
		say(Lacks, "", "sudo apt-get install docker-compose-plugin", "the Compose plugin of Docker is not installed")
	case older(d.Compose, v.Needs.Compose):
		say(Lacks, "", "sudo apt-get install docker-compose-plugin", "Compose is %s, %s is needed", d.Compose, v.Needs.Compose)
	}
	switch {
	case d.Toolkit == "":
		say(Lacks, "", install, "the NVIDIA container toolkit is not installed: containers cannot reach a GPU")
	case older(d.Toolkit, v.Needs.Toolkit):
		say(Lacks, "", install, "the NVIDIA container toolkit is %s, %s is needed", d.Toolkit, v.Needs.Toolkit)
	case !older(d.Toolkit, v.Needs.ToolkitNo):
		say(Lacks, "", install+" --allow-downgrades", "the NVIDIA container toolkit is %s; the node's project names %s and later as unfit for its image", d.Toolkit, v.Needs.ToolkitNo)
	case older(v.Needs.Toolkit, d.Toolkit):
		say(Warns, "", install+" --allow-downgrades, should the node say \"Cuda Error\"", "the NVIDIA container toolkit is %s; the node's project uses %s", d.Toolkit, v.Needs.Toolkit)
	}
	if d.Version != "" && d.Names != nil && !slices.Contains(d.Names, "nvidia") {
		say(Lacks, "", "sudo nvidia-ctk runtime configure --runtime=docker, then sudo systemctl restart docker (it stops all containers)", "Docker does not know the runtime nvidia")
	}
	if d.Version != "" && v.Built != "" {
		say(Warns, "", "see README.md", "the image of version %s is built on the machine by hand", v.Name)
	}
}

// checkPlace looks at what a second node of an old version would find taken.
func (v Version) checkPlace(h prover.Host, n int, there []Found, say func(w Weight, field, remedy, cause string, args ...any)) {
	if what, alone := v.Alone(); alone {
		newer := "choose " + Newest().Profile() + ", which has no such ports, or one GPU"
		if n > 1 {
			say(Stops, "gpus", newer, "of version %s only one node runs on a machine: its containers use the ports %s of the host", v.Name, what)
		}
		for _, f := range there {
			old, ok := VersionByName(strings.TrimPrefix(f.Profile, "zkwasm-"))
			if _, both := old.Alone(); ok && both && (f.Host == "" || h.Hostname == "" || f.Host == h.Hostname) {
				say(Stops, "profile", newer, "%s uses the ports %s of the host already", f.Dir, what)
			}
		}
		for _, p := range v.Ports {
			for _, busy := range h.Busy {
				if busy >= p.First && busy <= p.Last {
					say(Lacks, "profile", "stop what listens there: sudo ss -ltnp 'sport = :"+fmt.Sprint(busy)+"'", "port %d is in use on this machine, and the %s needs it", busy, p.What)
				}
			}
		}
	} else if n+len(there) > 1 {
		say(Warns, "", "watch the first days closely", "the node's project does not advise several nodes on one machine")
	}
	if Newest().Name != v.Name {
		say(Warns, "profile", "choose "+Newest().Profile()+" unless the hub asks for this one", "version %s is old (%s): hubs name the lowest version that they take", v.Name, v.From)
	}
}

// list names the devices of a machine.
func list(h prover.Host) string {
	if len(h.GPU.GPUs) == 0 {
		return "none is there"
	}
	var out []string
	for _, g := range h.GPU.GPUs {
		s := g.UUID
		if g.Model != "" {
			s += " (" + g.Model + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// ListGPUs names the devices of a machine for somebody who has to choose.
func ListGPUs(h prover.Host) string { return list(h) }

func gpus(n int) string { return fmt.Sprintf("%d %s", n, plural(n, "GPU", "GPUs")) }

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func join(pids []int) string {
	var out []string
	for i, p := range pids {
		if i == 8 {
			out = append(out, "…")
			break
		}
		out = append(out, fmt.Sprint(p))
	}
	return strings.Join(out, ", ")
}
