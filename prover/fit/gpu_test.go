package fit

import (
	"slices"
	"strings"
	"testing"

	"app.provost/prover"

	"github.com/google/go-cmp/cmp"
)

func at[T any](v T) *T { return &v }

// guide is what the prover node's guide asks for: 15,000 pages of 2 MiB and, by its
// start script, 80 GiB of available memory beside them.
var guide = GPUNeed{Pages: 15000, Memory: 80 * 1024, Disk: 50 * 1024}

func seat(i int) GPUSeat {
	return GPUSeat{Node: "n" + string(rune('0'+i)), UUID: "GPU-" + string(rune('0'+i)), Need: guide}
}

func host(memGiB, availGiB float64, total, free, reserved uint64) prover.Host {
	return prover.Host{MemTotal: at(prover.MiB(memGiB * 1024)), MemAvailable: at(prover.MiB(availGiB * 1024)),
		Hugepages: []prover.HugePool{{PageKiB: 2048, Total: total, Free: free, Reserved: reserved}}}
}

func causes(f GPUFit) string {
	var out []string
	for _, s := range f.Short {
		out = append(out, s.Cause)
	}
	return strings.Join(out, "; ")
}

func commands(f GPUFit) string {
	var out []string
	for _, t := range f.Todo {
		out = append(out, t.Command)
	}
	return strings.Join(out, "\n")
}

func TestGuideNumbers(t *testing.T) {
	if m := guide.Pages.MiB(); m != 30000 || gpuGiB(m) != "29.2 GiB" { // 29.296…, rounded down
		t.Errorf("15000 pages are %d MiB, %s", m, gpuGiB(m))
	}
	for _, n := range []int{1, 2, 3} {
		var seats []GPUSeat
		for i := range n {
			seats = append(seats, seat(i))
		}
		f := FitGPUs(host(512, 500, 0, 0, 0), seats)
		if want := prover.Pages(15000 * n); f.Want != want || f.Todo[0].Command != "sudo sysctl -w vm.nr_hugepages="+[]string{"", "15000", "30000", "45000"}[n] {
			t.Errorf("%d nodes: %d pages, %q", n, f.Want, f.Todo)
		}
	}
	if prover.PagesOf(30000) != 15000 || prover.PagesOf(30001) != 15001 || prover.PagesOf(0) != 0 {
		t.Error("pages of an amount are rounded up")
	}
}

func TestFitGPUs(t *testing.T) {
	one := []GPUSeat{seat(0)}
	there := seat(0)
	there.There = true
	for name, tt := range map[string]struct {
		h         prover.Host
		seats     []GPUSeat
		want      prover.Pages
		others    prover.Pages
		pagesOK   []bool
		memOK     []bool
		short     string // in Short, "" for none
		warns     string
		more      int
		firstTodo string
	}{
		"everything is there": {host(120, 85, 15000, 15000, 0), one, 15000, 0, []bool{true}, []bool{true}, "", "", 0, "echo vm.nr_hugepages=15000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		// 88 GB, as one figure of the guide has it, is not enough for its own start script.
		"88 GiB":   {host(88, 86, 0, 0, 0), one, 15000, 0, []bool{false}, []bool{false}, "the machine has 88 GiB of memory; 110.2 GiB needed for 1 node", "", 0, "sudo sysctl -w vm.nr_hugepages=15000"},
		"exactly":  {host(110.296875, 110.296875, 0, 0, 0), one, 15000, 0, []bool{false}, []bool{true}, "", "", 0, "sudo sysctl -w vm.nr_hugepages=15000"},
		"one less": {host(110.2958984375, 110, 0, 0, 0), one, 15000, 0, []bool{false}, []bool{false}, "110.2 GiB", "", 0, "sudo sysctl -w vm.nr_hugepages=15000"},
		// 79.9 GiB (81,817 MiB) available is 79 for the start script.
		"79.9 available":          {host(120, 79.9, 15000, 15000, 0), one, 15000, 0, []bool{true}, []bool{true}, "", "79.8 GiB would be available now", 0, "echo vm.nr_hugepages=15000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		"a page short":            {host(200, 180, 14999, 14999, 0), one, 15000, 0, []bool{false}, []bool{true}, "", "", 0, "sudo sysctl -w vm.nr_hugepages=15000"},
		"promised to others":      {host(200, 180, 15000, 15000, 1), one, 15001, 1, []bool{false}, []bool{true}, "", "", 0, "sudo sysctl -w vm.nr_hugepages=15001"},
		"held by others":          {host(256, 200, 16000, 15000, 0), one, 16000, 1000, []bool{true}, []bool{true}, "", "", 1, "echo vm.nr_hugepages=16000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		"a node runs already":     {host(256, 120, 15000, 0, 0), []GPUSeat{there, seat(1)}, 30000, 0, []bool{false}, []bool{true}, "", "", 0, "sudo sysctl -w vm.nr_hugepages=30000"},
		"a node stands still":     {host(256, 200, 15000, 15000, 0), []GPUSeat{there, seat(1)}, 30000, 0, []bool{false}, []bool{true}, "", "", 0, "sudo sysctl -w vm.nr_hugepages=30000"},
		"two, memory for one":     {host(160, 120, 30000, 30000, 0), []GPUSeat{seat(0), seat(1)}, 30000, 0, []bool{true, true}, []bool{true, false}, "219.5 GiB needed for 2 nodes", "", 0, "echo vm.nr_hugepages=30000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		"room for four":           {host(512, 500, 0, 0, 0), one, 15000, 0, []bool{false}, []bool{true}, "", "", 3, "sudo sysctl -w vm.nr_hugepages=15000"},
		"reserved and running":    {host(256, 100, 30000, 20000, 5000), []GPUSeat{there, seat(1)}, 30000, 0, []bool{true}, []bool{true}, "", "", 0, "echo vm.nr_hugepages=30000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		"pool larger than needed": {host(200, 100, 40000, 40000, 0), one, 15000, 0, []bool{true}, []bool{true}, "", "", 0, "echo vm.nr_hugepages=15000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			f := FitGPUs(tt.h, tt.seats)
			var pages, mem []bool
			for _, r := range f.Rows {
				pages, mem = append(pages, *r.PagesOK), append(mem, *r.MemOK)
			}
			if f.Want != tt.want || f.Others != tt.others || !slices.Equal(pages, tt.pagesOK) || !slices.Equal(mem, tt.memOK) {
				t.Errorf("want %d pages with %d of others; got %+v", tt.want, tt.others, f)
			}
			if got := causes(f); (tt.short == "") != (got == "") || !strings.Contains(got, tt.short) {
				t.Errorf("short: %q", got)
			}
			if got := strings.Join(f.Warnings, "; "); (tt.warns == "") != (got == "") || !strings.Contains(got, tt.warns) {
				t.Errorf("warnings: %q", got)
			}
			if f.More == nil || *f.More != tt.more {
				t.Errorf("more: %v, want %d", f.More, tt.more)
			}
			if f.Todo[0].Command != tt.firstTodo {
				t.Errorf("todo %q", f.Todo)
			}
		})
	}
}

func TestFitDisk(t *testing.T) {
	h := host(512, 500, 30000, 30000, 0)
	h.Disk = &prover.DiskSpace{Path: "/var/lib/docker", Free: 100 * 1024}
	if f := FitGPUs(h, []GPUSeat{seat(0), seat(1)}); len(f.Short) != 0 {
		t.Error(f.Short)
	}
	h.Disk.Free--
	if f := FitGPUs(h, []GPUSeat{seat(0), seat(1)}); causes(f) != "/var/lib/docker has 99.9 GiB free; 100 GiB is needed for 2 nodes" {
		t.Errorf("%q", f.Short)
	}
}

func TestFitOtherDefaultSize(t *testing.T) {
	h := host(512, 500, 30000, 30000, 0)
	for _, kib := range []uint64{2048, 1 << 20} {
		h.DefaultPageKiB = &kib
		if f := FitGPUs(h, []GPUSeat{seat(0)}); (len(f.Short) > 0) != (kib != 2048) {
			t.Errorf("%d KiB: %q", kib, f.Short)
		}
	}
}

// What is not known is never taken for enough, and said.
func TestFitUnknown(t *testing.T) {
	f := FitGPUs(prover.Host{}, []GPUSeat{seat(0)})
	if f.Rows[0].PagesOK != nil || f.Rows[0].MemOK != nil || f.More != nil || f.Have != nil || len(f.Warnings) != 2 || len(f.Short) != 0 || f.Todo[0].Command != "sudo sysctl -w vm.nr_hugepages=15000" {
		t.Errorf("%+v", f)
	}
	if f := FitGPUs(host(1, 1, 0, 0, 0), nil); len(f.Todo)+len(f.Short)+len(f.Rows) != 0 {
		t.Errorf("nobody needs nothing: %+v", f)
	}
}

func TestFitNUMA(t *testing.T) {
	h := host(512, 500, 20000, 20000, 0)
	h.Hugepages[0].NUMA = []prover.NUMAPool{{Node: 0, Total: 10000, Free: 10000}, {Node: 1, Total: 10000, Free: 9000}}
	h.NUMA = []prover.NUMANode{{Node: 0, MemTotal: at(prover.MiB(256 * 1024))}, {Node: 1, MemTotal: at(prover.MiB(256 * 1024))}}
	a, b := seat(0), seat(1)
	a.NUMA, b.NUMA = at(0), at(1)
	f := FitGPUs(h, []GPUSeat{a, b})
	want := []NUMAPages{{Node: 0, Have: 10000, Want: 15000}, {Node: 1, Have: 10000, Want: 16000}}
	if d := cmp.Diff(want, f.NUMA); d != "" || len(f.Warnings) != 0 {
		t.Error(d, f.Warnings)
	}
	text := commands(f)
	for _, s := range []string{"echo 15000 | sudo tee /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "echo 16000 | sudo tee /sys/devices/system/node/node1/", "hugepages=0:15000,1:16000"} {
		if !strings.Contains(text, s) {
			t.Errorf("todo lacks %q:\n%s", s, text)
		}
	}
	// Both devices on one node whose memory is too small: the whole pool is set, and it is said.
	b.NUMA = at(0)
	h.NUMA[0].MemTotal = at(prover.MiB(128 * 1024))
	f = FitGPUs(h, []GPUSeat{a, b})
	if !f.NUMA[0].Short || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "far from them") || !strings.HasPrefix(f.Todo[0].Command, "sudo sysctl") {
		t.Errorf("%+v", f)
	}
	b.NUMA = nil
	if f = FitGPUs(h, []GPUSeat{a, b}); f.NUMA != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "not known") {
		t.Errorf("%+v", f)
	}
}

func TestKept(t *testing.T) {
	h := host(256, 200, 15000, 15000, 0)
	for _, tt := range []struct {
		kept *prover.KeptPages
		want string
	}{
		{nil, "echo vm.nr_hugepages=15000 | sudo tee /etc/sysctl.d/99-zz-provost-hugepages.conf"},
		{&prover.KeptPages{Pages: 8000, Where: "/etc/sysctl.conf"}, "vm.nr_hugepages=15000|' /etc/sysctl.conf"},
		{&prover.KeptPages{Pages: 8000, Where: "/etc/sysctl.d/it's mine; reboot.conf"}, `vm.nr_hugepages=15000|' '/etc/sysctl.d/it'\''s mine; reboot.conf'`},
		{&prover.KeptPages{Pages: 8000, Where: "kernel command line"}, "hugepages=15000"},
		{&prover.KeptPages{Pages: 15000, Where: "/etc/sysctl.conf"}, ""},
	} {
		h.Kept = tt.kept
		f := FitGPUs(h, []GPUSeat{seat(0)})
		if got := commands(f); !strings.Contains(got, tt.want) || (tt.want == "") != f.Kept {
			t.Errorf("%+v: %q", tt.kept, got)
		}
	}
}

func TestReadKept(t *testing.T) {
	for text, want := range map[string]int{
		"vm.nr_hugepages=15000\n": 15000, "# vm.nr_hugepages=1": -1, "vm/nr_hugepages = 7\nvm.nr_hugepages = 9": 9, "-vm.nr_hugepages=3": 3,
		"vm.nr_hugepages=many": -1, "": -1, "vm.nr_hugepages_mempolicy=4": -1, "vm.nr_hugepages=99999999999999999999": -1,
	} {
		if n, ok := SysctlPages([]byte(text)); ok != (want >= 0) || ok && int(n) != want {
			t.Errorf("%q: %d %v", text, n, ok)
		}
	}
	for text, want := range map[string]int{
		"ro quiet hugepages=15000": 15000, "hugepages=0:15000,1:16000": 31000, "hugepagesz=1G hugepages=4": -1, "hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=12": 12,
		"default_hugepagesz=1G hugepages=4": -1, "hugepages=x": -1, "ro": -1, "hugepages=": -1,
	} {
		if n, ok := BootPages(text); ok != (want >= 0) || ok && int(n) != want {
			t.Errorf("%q: %d %v", text, n, ok)
		}
	}
}
