package monitor

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"

	"github.com/prometheus/client_golang/prometheus"
)

// emit gives one value of a metric with its label values, in the metric's order.
type emit func(v float64, labels ...string)

// metric is one metric family and how it is read off a snapshot. An unknown
// value is not emitted: absent is not zero.
type metric struct {
	name   string
	help   string
	kind   prometheus.ValueType
	labels []string
	read   func(s *engine.Snapshot, out emit)
	desc   *prometheus.Desc
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

var (
	where  = []string{"machine", "cluster", "node"}
	worker = []string{"machine", "cluster", "node", "worker"}
	card   = []string{"machine", "gpu"}
)

// up is the only one that is there without a snapshot.
var up = prometheus.NewDesc("provost_up", "1 when the engine gave a snapshot for this scrape, else 0 and no other provost metric but the tasks is there.", nil, nil)

// metrics is every family that comes from the snapshot, in the order of the page.
var metrics = func() []*metric {
	m := []*metric{
		{"provost_snapshot_timestamp_seconds", "When the snapshot of this scrape was made, in Unix time.", gauge, nil, func(s *engine.Snapshot, out emit) { out(unix(s.At)) }, nil},
		{"provost_snapshot_generation", "Number of the snapshot in this run of the engine.", gauge, nil, func(s *engine.Snapshot, out emit) { out(float64(s.Gen)) }, nil},

		{"provost_engine_info", "The engine: always 1. Practice says what is simulated, empty for nothing.", gauge, []string{"id", "name", "machine", "version", "practice"}, ofEngine(func(i engine.Info, out emit) {
			out(1, i.ID, i.Name, i.Machine, i.Version, i.Practice)
		}), nil},
		{"provost_engine_start_timestamp_seconds", "When the engine started, in Unix time.", gauge, nil, ofEngine(func(i engine.Info, out emit) { out(unix(i.StartedAt)) }), nil},
		{"provost_engine_rss_bytes", "Resident memory of the engine itself.", gauge, nil, ofEngine(func(i engine.Info, out emit) { maybe(out, i.RSSBytes) }), nil},
		{"provost_engine_viewers", "Screens that are attached and gave a name.", gauge, nil, ofEngine(func(i engine.Info, out emit) { out(float64(len(i.Viewers))) }), nil},
		{"provost_engine_unlocked", "1 while screens may act, else 0.", gauge, nil, ofEngine(func(i engine.Info, out emit) { out(yes(i.Unlocked != nil)) }), nil},
		{"provost_engine_stopping", "1 while the engine stops, else 0.", gauge, nil, ofEngine(func(i engine.Info, out emit) { out(yes(i.Stopping != "")) }), nil},

		{"provost_verdict", "1 for the verdict on the first line, 0 for the others.", gauge, []string{"verdict"}, func(s *engine.Snapshot, out emit) {
			if s.Verdict == nil {
				return
			}
			for _, w := range []engine.VerdictWord{engine.VerdictUnknown, engine.VerdictOK, engine.VerdictDegraded, engine.VerdictCritical} {
				out(yes(s.Verdict.Value.Word == w), string(w))
			}
		}, nil},
		{"provost_restart_safe", "1 when the engine may be restarted now, 0 when not; absent when not known.", gauge, nil, func(s *engine.Snapshot, out emit) {
			if s.Verdict != nil && s.Verdict.Value.Restart.Safe != nil {
				out(yes(*s.Verdict.Value.Restart.Safe))
			}
		}, nil},

		{"provost_reading_timestamp_seconds", "When a reading of a machine was last good, in Unix time; absent when never.", gauge, []string{"machine", "reading"}, func(s *engine.Snapshot, out emit) {
			readings(s, func(machine, name string, at *time.Time, _ string) {
				if at != nil {
					out(unix(*at), machine, name)
				}
			})
		}, nil},
		{"provost_reading_failing", "1 while a reading of a machine has a problem, else 0.", gauge, []string{"machine", "reading"}, func(s *engine.Snapshot, out emit) {
			readings(s, func(machine, name string, _ *time.Time, problem string) { out(yes(problem != ""), machine, name) })
		}, nil},

		{"provost_machine_cpus", "Logical processors.", gauge, []string{"machine"}, ofCPU(func(m string, v engine.CPUStat, out emit) { out(float64(v.LogicalCPUs), m) }), nil},
		{"provost_machine_cpu_use_percent", "Use of all processors together, 0 to 100.", gauge, []string{"machine"}, ofCPU(func(m string, v engine.CPUStat, out emit) { maybe(out, v.UsePercent, m) }), nil},
		{"provost_machine_cpu_steal_percent", "Time that the hypervisor gave to others, 0 to 100.", gauge, []string{"machine"}, ofCPU(func(m string, v engine.CPUStat, out emit) { maybe(out, v.StealPercent, m) }), nil},
		{"provost_machine_load", "Load average over 1, 5 and 15 minutes.", gauge, []string{"machine", "minutes"}, ofCPU(func(m string, v engine.CPUStat, out emit) {
			out(v.Load1, m, "1")
			out(v.Load5, m, "5")
			out(v.Load15, m, "15")
		}), nil},
		{"provost_machine_memory_total_bytes", "Memory.", gauge, []string{"machine"}, ofMemory(func(m string, v engine.MemoryStat, out emit) { out(float64(v.TotalBytes), m) }), nil},
		{"provost_machine_memory_available_bytes", "The kernel's estimate of what new processes can take.", gauge, []string{"machine"}, ofMemory(func(m string, v engine.MemoryStat, out emit) { out(float64(v.AvailableBytes), m) }), nil},
		{"provost_machine_memory_limit_bytes", "Limit of the engine's control group; absent for none.", gauge, []string{"machine"}, ofMemory(func(m string, v engine.MemoryStat, out emit) { maybe(out, v.LimitBytes, m) }), nil},
		{"provost_machine_swap_total_bytes", "Swap.", gauge, []string{"machine"}, ofMemory(func(m string, v engine.MemoryStat, out emit) { out(float64(v.SwapTotalBytes), m) }), nil},
		{"provost_machine_swap_used_bytes", "Swap in use.", gauge, []string{"machine"}, ofMemory(func(m string, v engine.MemoryStat, out emit) { out(float64(v.SwapUsedBytes), m) }), nil},
		{"provost_machine_disk_total_bytes", "Size of a filesystem that Provost writes to.", gauge, []string{"machine", "path", "what"}, ofDisks(func(m string, d engine.DiskStat, out emit) { out(float64(d.TotalBytes), m, d.Path, d.What) }), nil},
		{"provost_machine_disk_free_bytes", "What the engine's user can still write there.", gauge, []string{"machine", "path", "what"}, ofDisks(func(m string, d engine.DiskStat, out emit) { out(float64(d.FreeBytes), m, d.Path, d.What) }), nil},
		{"provost_machine_disk_inodes", "Inodes of that filesystem.", gauge, []string{"machine", "path", "what"}, ofDisks(func(m string, d engine.DiskStat, out emit) { maybe(out, d.InodesTotal, m, d.Path, d.What) }), nil},
		{"provost_machine_disk_inodes_free", "Free inodes of that filesystem.", gauge, []string{"machine", "path", "what"}, ofDisks(func(m string, d engine.DiskStat, out emit) { maybe(out, d.InodesFree, m, d.Path, d.What) }), nil},
		{"provost_machine_clock_offset_seconds", "How far the clock is ahead of its reference; absent without one.", gauge, []string{"machine"}, ofClock(func(m string, v engine.ClockStat, out emit) { scaled(out, v.OffsetMS, 1e-3, m) }), nil},
		{"provost_machine_clock_error_seconds", "Bound of the clock's offset, as its source states it.", gauge, []string{"machine"}, ofClock(func(m string, v engine.ClockStat, out emit) { scaled(out, v.ErrorMS, 1e-3, m) }), nil},
		{"provost_machine_clock_synced", "1 when the kernel's clock is disciplined, else 0.", gauge, []string{"machine"}, ofClock(func(m string, v engine.ClockStat, out emit) {
			if v.Synced != nil {
				out(yes(*v.Synced), m)
			}
		}), nil},
		{"provost_machine_hugepages", "Pages of a hugepage pool by state: total, free, reserved, surplus.", gauge, []string{"machine", "page_kib", "state"}, ofPools(func(m string, p prover.HugePool, out emit) {
			size := strconv.FormatUint(p.PageKiB, 10)
			out(float64(p.Total), m, size, "total")
			out(float64(p.Free), m, size, "free")
			out(float64(p.Reserved), m, size, "reserved")
			out(float64(p.Surplus), m, size, "surplus")
		}), nil},
		{"provost_machine_numa_hugepages", "Pages of a NUMA node's part of a pool by state: total, free, surplus.", gauge, []string{"machine", "numa", "page_kib", "state"}, ofPools(func(m string, p prover.HugePool, out emit) {
			size := strconv.FormatUint(p.PageKiB, 10)
			for _, n := range p.NUMA {
				node := strconv.Itoa(n.Node)
				out(float64(n.Total), m, node, size, "total")
				out(float64(n.Free), m, node, size, "free")
				out(float64(n.Surplus), m, node, size, "surplus")
			}
		}), nil},
		{"provost_machine_boot_timestamp_seconds", "When the machine started, in Unix time.", gauge, []string{"machine"}, ofMachine(func(r engine.MachineRow, out emit) {
			if v := r.System.Value; v != nil {
				out(unix(v.BootedAt), r.Key.Machine)
			}
		}), nil},
		{"provost_machine_gpu_driver", "1 when an NVIDIA driver answers, 0 when there is none; absent when not known.", gauge, []string{"machine", "version"}, ofMachine(func(r engine.MachineRow, out emit) {
			if v := r.GPUDriver.Value; v != nil {
				out(yes(v.Version != ""), r.Key.Machine, v.Version)
			}
		}), nil},
		{"provost_machine_gpu_driver_answer_seconds", "How long the NVIDIA driver took to answer.", gauge, []string{"machine"}, ofMachine(func(r engine.MachineRow, out emit) {
			if v := r.GPUDriver.Value; v != nil && v.Version != "" {
				out(v.TookMS/1000, r.Key.Machine)
			}
		}), nil},

		{"provost_workers", "Data workers by state.", gauge, append(where[:3:3], "state"), countWorkers, nil},
		{"provost_worker_state", "1 for the state that a data worker is seen in.", gauge, append(worker[:4:4], "state", "desired"), ofWorker(func(w engine.WorkerRow, out emit, l []string) {
			out(1, append(l, string(w.State), string(w.Desired))...)
		}), nil},
		{"provost_worker_cpu_percent", "Use of one core by a worker's process.", gauge, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { maybe(out, w.CPUPercent, l...) }), nil},
		{"provost_worker_rss_bytes", "Resident memory of a worker's process.", gauge, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { maybe(out, w.RSSBytes, l...) }), nil},
		{"provost_worker_progress_ratio", "How far the job in hand is, 0 to 1; absent without a job.", gauge, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { maybe(out, w.Progress, l...) }), nil},
		{"provost_worker_heard_timestamp_seconds", "When a worker was last heard, in Unix time.", gauge, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) {
			if w.HeardAt != nil {
				out(unix(*w.HeardAt), l...)
			}
		}), nil},
		{"provost_worker_latency_seconds", "Round trip of a worker's last heartbeat.", gauge, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { scaled(out, w.LatencyMS, 1e-3, l...) }), nil},
		{"provost_worker_jobs_verified_total", "Jobs of a worker that were verified, since it first started.", counter, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { out(float64(w.JobsDone), l...) }), nil},
		{"provost_worker_restarts_total", "Restarts of a worker by the policy, not on request.", counter, worker, ofWorker(func(w engine.WorkerRow, out emit, l []string) { out(float64(w.Restarts), l...) }), nil},

		{"provost_gpu_info", "A GPU: always 1.", gauge, append(card[:2:2], "index", "model", "state"), ofGPU(func(r engine.GPURow, out emit, l []string) {
			out(1, append(l, strconv.Itoa(r.GPU.Index), r.GPU.Model, r.State)...)
		}), nil},
		{"provost_gpu_lost", "1 when a GPU answered once and does not any more, else 0.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { out(yes(r.GPU.Lost != ""), l...) }), nil},
		{"provost_gpu_use_percent", "Time in which a kernel ran on a GPU, 0 to 100.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.UtilPercent, l...) }), nil},
		{"provost_gpu_memory_used_bytes", "Memory of a GPU in use.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { scaled(out, r.GPU.MemUsed, 1<<20, l...) }), nil},
		{"provost_gpu_memory_total_bytes", "Memory of a GPU.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { scaled(out, r.GPU.MemTotal, 1<<20, l...) }), nil},
		{"provost_gpu_temperature_celsius", "Temperature of a GPU.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.TempC, l...) }), nil},
		{"provost_gpu_power_watts", "Power that a GPU draws.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.PowerW, l...) }), nil},
		{"provost_gpu_power_limit_watts", "Power limit of a GPU.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.PowerLimitW, l...) }), nil},
		{"provost_gpu_clock_hertz", "Clock of a GPU's multiprocessors.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { scaled(out, r.GPU.ClockMHz, 1e6, l...) }), nil},
		{"provost_gpu_fan_percent", "Fan of a GPU; absent without one.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.FanPercent, l...) }), nil},
		{"provost_gpu_ecc_errors_total", "Uncorrected memory errors since the driver was loaded.", counter, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.ECCErrors, l...) }), nil},
		{"provost_gpu_xid", "Number of the last critical error that the driver told, 0 for none.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.XID, l...) }), nil},
		{"provost_gpu_throttled", "1 for each reason that holds the clocks of a GPU back.", gauge, append(card[:2:2], "reason"), ofGPU(func(r engine.GPURow, out emit, l []string) {
			for _, why := range r.GPU.Throttle {
				out(1, append(l[:2:2], why)...)
			}
		}), nil},
		{"provost_gpu_pcie_generation", "Generation of a GPU's PCIe link as it is now; idle GPUs lower it.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.PCIEGen, l...) }), nil},
		{"provost_gpu_pcie_lanes", "Lanes of a GPU's PCIe link as it is now.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) { maybe(out, r.GPU.PCIEWidth, l...) }), nil},
		{"provost_gpu_processes", "Processes on a GPU.", gauge, card, ofGPU(func(r engine.GPURow, out emit, l []string) {
			if r.GPU.PIDs != nil {
				out(float64(len(r.GPU.PIDs)), l...)
			}
		}), nil},

		{"provost_jobs", "Jobs that are not at their end, by state.", gauge, []string{"state"}, ofJobs(func(t engine.JobTotals, out emit) {
			out(float64(t.Queued), string(prover.JobQueued))
			out(float64(t.Leased), string(prover.JobLeased))
			out(float64(t.Proved), string(prover.JobProved))
		}), nil},
		{"provost_jobs_submitted_total", "Jobs submitted since the store was made.", counter, nil, ofJobs(func(t engine.JobTotals, out emit) { out(float64(t.Submitted)) }), nil},
		{"provost_jobs_ended_total", "Jobs at their end, by how: verified is the only success.", counter, []string{"state"}, ofJobs(func(t engine.JobTotals, out emit) {
			out(float64(t.Verified), string(prover.JobVerified))
			out(float64(t.Failed), string(prover.JobFailed))
			out(float64(t.Cancelled), string(prover.JobCancelled))
		}), nil},
		{"provost_jobs_verified_per_minute", "Jobs verified in the last minute; absent in the first.", gauge, nil, ofJobs(func(t engine.JobTotals, out emit) { maybe(out, t.PerMinute) }), nil},

		{"provost_node_state", "1 for the state of a node directory: read or broken.", gauge, append(where[:3:3], "state", "network"), func(s *engine.Snapshot, out emit) {
			for _, n := range s.Nodes.List() {
				out(1, n.Key.Machine, n.Key.Cluster, n.Key.Node, n.State, n.Network)
			}
		}, nil},
		{"provost_node_validators", "Validators of a node's cluster.", gauge, where, func(s *engine.Snapshot, out emit) {
			for _, n := range s.Nodes.List() {
				out(float64(n.Validators), n.Key.Machine, n.Key.Cluster, n.Key.Node)
			}
		}, nil},

		{"provost_acts_open", "Acts under way, by kind.", gauge, []string{"kind"}, func(s *engine.Snapshot, out emit) {
			if s.Acts == nil {
				return
			}
			n := map[engine.ActionKind]int{}
			for _, a := range s.Acts.Rows {
				if a.State.Open() {
					n[a.Kind]++
				}
			}
			for kind, v := range n {
				out(float64(v), string(kind))
			}
		}, nil},
		{"provost_alerts_open", "Open findings, by code and level; acknowledged and muted ones too.", gauge, []string{"code", "level"}, func(s *engine.Snapshot, out emit) {
			n := map[[2]string]int{}
			for _, f := range s.Alerts.List() {
				if f.ClosedAt == nil {
					n[[2]string{string(f.Code), string(f.Level)}]++
				}
			}
			for k, v := range n {
				out(float64(v), k[0], k[1])
			}
		}, nil},
		{"provost_source_timestamp_seconds", "When a source was last heard, in Unix time; absent when never.", gauge, []string{"machine", "source"}, func(s *engine.Snapshot, out emit) {
			for _, r := range s.Sources.List() {
				if r.At != nil {
					out(unix(*r.At), r.Key.Machine, r.Name)
				}
			}
		}, nil},
	}
	for _, x := range m {
		x.desc = prometheus.NewDesc(x.name, x.help, x.labels, nil)
	}
	return m
}()

// collector reads one snapshot per scrape and turns it into metrics.
type collector struct {
	snapshot func(context.Context) (*engine.Snapshot, error)
}

// Describe tells all families, so that two of one name cannot be registered.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- up
	for _, m := range slices.Concat(metrics, charon) {
		ch <- m.desc
	}
	for _, x := range spreads {
		ch <- x.desc
	}
}

// Collect is called once per scrape.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s, err := c.snapshot(context.Background())
	if err != nil {
		ch <- prometheus.MustNewConstMetric(up, gauge, 0)
		return
	}
	ch <- prometheus.MustNewConstMetric(up, gauge, 1)
	for _, m := range slices.Concat(metrics, charon) {
		seen := map[string]bool{}
		m.read(s, func(v float64, labels ...string) {
			if repeated(seen, labels) {
				return
			}
			got, err := prometheus.NewConstMetric(m.desc, m.kind, v, labels...)
			if err != nil {
				got = prometheus.NewInvalidMetric(m.desc, err)
			}
			ch <- got
		})
	}
	for _, x := range spreads {
		x.collect(s, ch)
	}
}

// repeated makes labels readable and tells whether they were seen: the same ones twice would make
// the whole scrape fail, so the first count.
func repeated(seen map[string]bool, labels []string) bool {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	key := strings.Join(labels, "\x00")
	again := seen[key]
	seen[key] = true
	return again
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type amount interface {
	~float64 | ~uint64 | ~int
}

// maybe emits what is known.
func maybe[T amount](out emit, v *T, labels ...string) { scaled(out, v, 1, labels...) }

func scaled[T amount](out emit, v *T, by float64, labels ...string) {
	if v != nil {
		out(float64(*v)*by, labels...)
	}
}

func ofEngine(f func(engine.Info, emit)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		if s.Engine != nil {
			f(s.Engine.Value, out)
		}
	}
}

func ofMachine(f func(engine.MachineRow, emit)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		for _, r := range s.Machines.List() {
			f(r, out)
		}
	}
}

func ofCPU(f func(string, engine.CPUStat, emit)) func(*engine.Snapshot, emit) {
	return ofMachine(func(r engine.MachineRow, out emit) {
		if r.CPU.Value != nil {
			f(r.Key.Machine, *r.CPU.Value, out)
		}
	})
}

func ofMemory(f func(string, engine.MemoryStat, emit)) func(*engine.Snapshot, emit) {
	return ofMachine(func(r engine.MachineRow, out emit) {
		if r.Memory.Value != nil {
			f(r.Key.Machine, *r.Memory.Value, out)
		}
	})
}

func ofClock(f func(string, engine.ClockStat, emit)) func(*engine.Snapshot, emit) {
	return ofMachine(func(r engine.MachineRow, out emit) {
		if r.Clock.Value != nil {
			f(r.Key.Machine, *r.Clock.Value, out)
		}
	})
}

func ofDisks(f func(string, engine.DiskStat, emit)) func(*engine.Snapshot, emit) {
	return ofMachine(func(r engine.MachineRow, out emit) {
		if r.Disks.Value != nil {
			for _, d := range *r.Disks.Value {
				f(r.Key.Machine, d, out)
			}
		}
	})
}

func ofPools(f func(string, prover.HugePool, emit)) func(*engine.Snapshot, emit) {
	return ofMachine(func(r engine.MachineRow, out emit) {
		if r.Hugepages.Value != nil {
			for _, p := range *r.Hugepages.Value {
				f(r.Key.Machine, p, out)
			}
		}
	})
}

func readings(s *engine.Snapshot, f func(machine, name string, at *time.Time, problem string)) {
	for _, r := range s.Machines.List() {
		m := r.Key.Machine
		f(m, "cpu", r.CPU.At, r.CPU.Problem)
		f(m, "memory", r.Memory.At, r.Memory.Problem)
		f(m, "disks", r.Disks.At, r.Disks.Problem)
		f(m, "clock", r.Clock.At, r.Clock.Problem)
		f(m, "hugepages", r.Hugepages.At, r.Hugepages.Problem)
		f(m, "gpu_driver", r.GPUDriver.At, r.GPUDriver.Problem)
		f(m, "system", r.System.At, r.System.Problem)
	}
}

func ofWorker(f func(w engine.WorkerRow, out emit, labels []string)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		for _, w := range s.Workers.List() {
			f(w, out, []string{w.Key.Machine, w.Key.Cluster, w.Key.Node, string(w.ID)})
		}
	}
}

func countWorkers(s *engine.Snapshot, out emit) {
	n := map[[4]string]int{}
	for _, w := range s.Workers.List() {
		n[[4]string{w.Key.Machine, w.Key.Cluster, w.Key.Node, string(w.State)}]++
	}
	for k, v := range n {
		out(float64(v), k[0], k[1], k[2], k[3])
	}
}

func ofGPU(f func(r engine.GPURow, out emit, labels []string)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		for _, r := range s.GPUs.List() {
			f(r, out, []string{r.Key.Machine, r.GPU.UUID})
		}
	}
}

func ofJobs(f func(engine.JobTotals, emit)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		if s.Jobs != nil {
			f(s.Jobs.Totals, out)
		}
	}
}
