package fit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"app.provost/prover"
)

// HostReserve is the memory that a machine keeps for itself beside its provers:
// kernel, container engine and Provost.
const HostReserve prover.MiB = 1024

// GPUNeed is what one prover node takes from its machine.
type GPUNeed struct {
	Pages  prover.Pages // reserved for good, not part of the memory below
	Memory prover.MiB   // ordinary memory that has to be available when it starts
	Disk   prover.MiB   // on the filesystem of the container engine
}

// GPUSeat is one prover node on its device.
type GPUSeat struct {
	Node  string // its name
	UUID  string // of the device
	NUMA  *int   // the kernel's node that the device's slot belongs to; nil: not known
	Need  GPUNeed
	There bool // planned or running on the machine already
}

// GPURow is a new node against what is left for it once those before it are there.
// Nil means that the machine's value is not known.
type GPURow struct {
	GPUSeat
	PagesLeft *prover.Pages
	MemLeft   *prover.MiB
	PagesOK   *bool
	MemOK     *bool
}

// NUMAPages is what the pool of one NUMA node has to be.
type NUMAPages struct {
	Node  int
	Have  prover.Pages
	Want  prover.Pages
	Short bool // its memory cannot hold what the provers of its devices need
}

// GPUTodo is a command for the operator; Why says in a few words what it is for.
type GPUTodo struct{ Why, Command string }

// GPUShort is something that the machine lacks, and what helps.
type GPUShort struct{ Cause, Remedy string }

// GPUFit is the arithmetic of prover nodes on one machine.
type GPUFit struct {
	Rows []GPURow // the new ones, in order
	// Want is the whole pool that is needed: the nodes that are there, the new ones, and what others hold.
	Want   prover.Pages
	Have   *prover.Pages // the pool of now
	Others prover.Pages  // pages held by others than provers, part of Want
	Kept   bool          // as many are set up at boot
	NUMA   []NUMAPages   // only where the machine has several nodes and the place of every device is known
	// More is how many further nodes of the same kind the machine's memory could take; nil: not known.
	More *int
	// Short are reasons why the nodes cannot run all together on this machine as it is.
	Short []GPUShort
	// Todo are commands, in order, that set what is missing. They set whole pools, so that doing one twice changes nothing.
	Todo []GPUTodo
	// Warnings are told and stop nothing.
	Warnings []string
}

// FitGPUs works out whether prover nodes fit a machine, and what has to be set for
// them. Pages in use count as held by the nodes that are there, as far as those need
// them: who holds a page is not known to the kernel's counters.
func FitGPUs(h prover.Host, seats []GPUSeat) GPUFit {
	var f GPUFit
	var there, add prover.Pages
	var memThere, memAll, disk prover.MiB
	fresh := 0
	for _, s := range seats {
		memAll += s.Need.Memory
		if s.There {
			there += s.Need.Pages
			memThere += s.Need.Memory
		} else {
			fresh++
			add += s.Need.Pages
			disk += s.Need.Disk
		}
	}
	pool, known := h.Pool2M()
	var left prover.Pages // for the new nodes
	if known {
		used := prover.Pages(pool.Total - min(pool.Available(), pool.Total))
		held := min(used, there)
		f.Others = used - held
		have := prover.Pages(pool.Total)
		f.Have = &have
		left = prover.Pages(pool.Available()) - min(prover.Pages(pool.Available()), there-held)
	}
	f.Want = f.Others + there + add
	f.Kept = h.Kept != nil && h.Kept.Pages >= f.Want
	whole := f.Want // what the pool will take of the memory
	if f.Have != nil {
		whole = max(whole, *f.Have)
	}
	var memLeft *prover.MiB
	if h.MemTotal != nil {
		m := gpuLess(*h.MemTotal, whole.MiB()+HostReserve+memThere)
		memLeft = &m
	}
	for _, s := range seats {
		if s.There {
			continue
		}
		r := GPURow{GPUSeat: s}
		if known {
			before := left
			ok := before >= s.Need.Pages
			r.PagesLeft, r.PagesOK = &before, &ok
			left -= min(left, s.Need.Pages)
		}
		if memLeft != nil {
			before := *memLeft
			ok := before >= s.Need.Memory
			r.MemLeft, r.MemOK = &before, &ok
			m := gpuLess(before, s.Need.Memory)
			memLeft = &m
		}
		f.Rows = append(f.Rows, r)
	}
	f.memory(h, seats, whole, memAll, fresh)
	if h.Disk != nil && fresh > 0 && h.Disk.Free < disk {
		f.Short = append(f.Short, GPUShort{fmt.Sprintf("%s has %s free; %s is needed for %s", h.Disk.Path, gpuGiB(h.Disk.Free), gpuGiB(disk), gpuCount(fresh, "node")),
			"free some space there, or give Docker another data-root"})
	}
	if d := h.DefaultPageKiB; d != nil && *d != 2048 && fresh > 0 {
		f.Short = append(f.Short, GPUShort{fmt.Sprintf("hugepages of this machine have %d KiB by default, and a node counts free pages of the default size, of which it needs 2048 KiB ones", *d),
			"boot the kernel with default_hugepagesz=2M"})
	}
	f.numa(h, seats)
	f.todo(h, known)
	return f
}

// memory compares with what the machine has in all, and with what is free now.
func (f *GPUFit) memory(h prover.Host, seats []GPUSeat, whole prover.Pages, memAll prover.MiB, fresh int) {
	if h.MemTotal == nil {
		f.Warnings = append(f.Warnings, "the machine's memory is not known: whether the nodes fit is not checked")
		return
	}
	need := memAll + whole.MiB() + HostReserve
	if *h.MemTotal < need {
		f.Short = append(f.Short, GPUShort{fmt.Sprintf("the machine has %s of memory; %s needed for %s: %s beside %s of hugepages and %s for the system",
			gpuGiB(*h.MemTotal), gpuGiB(need), gpuCount(len(seats), "node"), gpuGiB(memAll), gpuGiB(whole.MiB()), gpuGiB(HostReserve)),
			"give fewer GPUs, or take a larger machine"})
	}
	var largest GPUNeed
	for _, s := range seats {
		if !s.There && s.Need.Memory+s.Need.Pages.MiB() > largest.Memory+largest.Pages.MiB() {
			largest = s.Need
		}
	}
	if one := largest.Memory + largest.Pages.MiB(); one > 0 {
		more := int(gpuLess(*h.MemTotal, need) / one)
		f.More = &more
	}
	if h.MemAvailable == nil || fresh == 0 {
		return
	}
	grow := f.Want
	if f.Have != nil {
		grow -= min(grow, *f.Have)
	}
	if now := gpuLess(*h.MemAvailable, grow.MiB()); now < largest.Memory && *h.MemTotal >= need {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%s would be available now once the hugepages are set, and a node starts with %s or more: stop what uses memory first", gpuGiB(now), gpuGiB(largest.Memory)))
	}
}

// numa places pages beside the devices that use them.
func (f *GPUFit) numa(h prover.Host, seats []GPUSeat) {
	pool, ok := h.Pool2M()
	if !ok || len(pool.NUMA) < 2 {
		return
	}
	pages, there, mem := map[int]prover.Pages{}, map[int]prover.Pages{}, map[int]prover.MiB{}
	for _, s := range seats {
		if s.NUMA == nil {
			f.Warnings = append(f.Warnings, fmt.Sprintf("the NUMA node of %s is not known: the kernel spreads the pages evenly over %d nodes, and part of a prover's memory may be far from its device", s.UUID, len(pool.NUMA)))
			return
		}
		pages[*s.NUMA] += s.Need.Pages
		mem[*s.NUMA] += s.Need.Memory
		if s.There {
			there[*s.NUMA] += s.Need.Pages
		}
	}
	for _, n := range pool.NUMA {
		used := prover.Pages(n.Total - min(n.Free, n.Total))
		p := NUMAPages{Node: n.Node, Have: prover.Pages(n.Total), Want: used - min(used, there[n.Node]) + pages[n.Node]}
		for _, m := range h.NUMA {
			if m.Node == n.Node && m.MemTotal != nil && *m.MemTotal < p.Want.MiB()+mem[n.Node] {
				p.Short = true
				f.Warnings = append(f.Warnings, fmt.Sprintf("NUMA node %d has %s; the provers of its devices need %s: part of their memory will be far from them, which is slower", n.Node, gpuGiB(*m.MemTotal), gpuGiB(p.Want.MiB()+mem[n.Node])))
			}
		}
		f.NUMA = append(f.NUMA, p)
	}
}

// todo lists what sets the pool, and what keeps it over reboots.
func (f *GPUFit) todo(h prover.Host, known bool) {
	if f.Want == 0 {
		return
	}
	if !known {
		f.Warnings = append(f.Warnings, fmt.Sprintf("the hugepage pool is not known: %d pages of 2 MiB have to be there", f.Want))
	}
	say := func(why, command string, args ...any) {
		f.Todo = append(f.Todo, GPUTodo{why, fmt.Sprintf(command, args...)})
	}
	several := len(f.NUMA) > 1 && !slices.ContainsFunc(f.NUMA, func(n NUMAPages) bool { return n.Short })
	uneven := several && slices.ContainsFunc(f.NUMA, func(n NUMAPages) bool { return n.Have < n.Want })
	if f.Have == nil || *f.Have < f.Want || uneven {
		if several {
			for _, n := range f.NUMA {
				say(fmt.Sprintf("hugepages beside the GPUs of NUMA node %d", n.Node), "echo %d | sudo tee /sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages", n.Want, n.Node)
			}
		} else {
			say("hugepages now", "sudo sysctl -w vm.nr_hugepages=%d", f.Want)
		}
		say(fmt.Sprintf("it must say %d; if fewer, memory is in pieces: echo 1 | sudo tee /proc/sys/vm/compact_memory and set them again, or restart", f.Want), "grep HugePages_Total /proc/meminfo")
	}
	if f.Kept {
		return
	}
	const keep = "hugepages after a reboot"
	switch {
	case several:
		parts := make([]string, len(f.NUMA))
		for i, n := range f.NUMA {
			parts[i] = fmt.Sprintf("%d:%d", n.Node, n.Want)
		}
		say(keep+": put this on the kernel's command line (Linux 5.16 or newer) and update the boot loader", "hugepages=%s", strings.Join(parts, ","))
	case h.Kept != nil && strings.HasPrefix(h.Kept.Where, "/"):
		file := h.Kept.Where
		if !PlainWord(file) {
			file = "'" + strings.ReplaceAll(file, "'", `'\''`) + "'"
		}
		say(fmt.Sprintf("%s: %s sets %d", keep, h.Kept.Where, h.Kept.Pages), "sudo sed -i -E 's|^[- ]*vm[./]nr_hugepages *=.*|vm.nr_hugepages=%d|' %s", f.Want, file)
	case h.Kept != nil:
		say(fmt.Sprintf("%s: the kernel's command line sets %d; change it and update the boot loader", keep, h.Kept.Pages), "hugepages=%d", f.Want)
	default:
		say(keep, "echo vm.nr_hugepages=%d | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf", f.Want)
	}
}

// SysctlPages finds vm.nr_hugepages in a file of sysctl.d: the last one counts.
func SysctlPages(raw []byte) (prover.Pages, bool) {
	var got prover.Pages
	found := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "-"), "=")
		if key = strings.TrimSpace(key); !ok || key != "vm.nr_hugepages" && key != "vm/nr_hugepages" {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 40); err == nil {
			got, found = prover.Pages(n), true
		}
	}
	return got, found
}

// BootPages finds the pool of 2 MiB pages on a kernel command line. A number counts
// for the size named before it, and else for the default size.
func BootPages(cmdline string) (prover.Pages, bool) {
	size, standard := "", "2M"
	var sizes []string
	var counts []prover.Pages
	for word := range strings.FieldsSeq(cmdline) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "default_hugepagesz":
			standard = strings.ToUpper(value)
		case "hugepagesz":
			size = strings.ToUpper(value)
		case "hugepages":
			var sum prover.Pages
			ok := value != ""
			for part := range strings.SplitSeq(value, ",") {
				if _, n, per := strings.Cut(part, ":"); per {
					part = n
				}
				n, err := strconv.ParseUint(part, 10, 40)
				ok = ok && err == nil
				sum += prover.Pages(n)
			}
			if ok {
				sizes, counts = append(sizes, size), append(counts, sum)
			}
		}
	}
	var got prover.Pages
	found := false
	for i, s := range sizes {
		if s == "" {
			s = standard
		}
		if s == "2M" || s == "2048K" {
			got, found = counts[i], true
		}
	}
	return got, found
}

func gpuLess(a, b prover.MiB) prover.MiB { return a - min(a, b) }

// gpuGiB writes an amount in GiB with one digit, rounded down: 79.9, never 80.
func gpuGiB(m prover.MiB) string {
	tenths := uint64(m) * 10 / 1024
	if tenths%10 == 0 && uint64(m)%1024 == 0 {
		return fmt.Sprintf("%d GiB", tenths/10)
	}
	return fmt.Sprintf("%d.%d GiB", tenths/10, tenths%10)
}

func gpuCount(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
