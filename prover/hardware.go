package prover

import "time"

// MiB counts mebibytes (1024² bytes).
type MiB uint64

// Pages counts hugepages of 2 MiB.
type Pages uint64

// MiB is the memory that the pages take.
func (p Pages) MiB() MiB { return MiB(p) * 2 }

// PagesOf are the pages that hold so much memory, rounded up.
func PagesOf(m MiB) Pages { return Pages((m + 1) / 2) }

// GPU is one reading of one device. Unknown values are nil: an older card, a
// driver without the call or a virtual device is normal and never shown as 0.
type GPU struct {
	Index       int      `json:"index"` // the driver's index; changes over reboots, so never a key
	UUID        string   `json:"uuid"`  // stable: "GPU-…"
	Model       string   `json:"model"`
	UtilPercent *float64 `json:"util_percent"`
	MemUsed     *MiB     `json:"mem_used_mib"`
	MemTotal    *MiB     `json:"mem_total_mib"`
	TempC       *float64 `json:"temp_c"`
	PowerW      *float64 `json:"power_w"`
	PowerLimitW *float64 `json:"power_limit_w"`
	ClockMHz    *float64 `json:"clock_mhz"`
	FanPercent  *float64 `json:"fan_percent"`
	ECCErrors   *uint64  `json:"ecc_errors"` // uncorrected, since the driver loaded
	XID         *uint64  `json:"xid"`        // last critical error number of the driver, 0 for none
	Throttle    []string `json:"throttle"`   // reasons in words; empty: none; nil: not known
	PCIEGen     *int     `json:"pcie_gen"`
	PCIEWidth   *int     `json:"pcie_width"`
	NUMA        *int     `json:"numa"`
	MIG         *bool    `json:"mig"`
	Compute     *string  `json:"compute"` // CUDA compute capability, as in "8.9"
	Display     *bool    `json:"display"` // a display is set up on it
	// Processes on the device, by process id.
	PIDs []int `json:"pids"`
	// Lost says that the device answered once and does not any more, in words.
	Lost string `json:"lost,omitempty"`
}

// GPUReading is one look at all devices of a machine. No driver is a normal
// answer (Driver == "" with Why in words), not an error.
type GPUReading struct {
	At     time.Time `json:"at"`
	Driver string    `json:"driver"` // driver version; "" when there is none
	CUDA   string    `json:"cuda"`   // newest CUDA version that the driver serves
	Why    string    `json:"why,omitempty"`
	GPUs   []GPU     `json:"gpus"`
	// Took is how long the driver needed to answer.
	Took time.Duration `json:"took_ns"`
}

// HugePool is the pool of one hugepage size. Used pages are Total - Free;
// Reserved pages are promised to a process and not touched yet, so they are
// counted in Free but cannot be taken: Available = Free - Reserved.
type HugePool struct {
	PageKiB  uint64     `json:"page_kib"`
	Total    uint64     `json:"total"`
	Free     uint64     `json:"free"`
	Reserved uint64     `json:"reserved"`
	Surplus  uint64     `json:"surplus"`
	NUMA     []NUMAPool `json:"numa"`
}

// Used counts pages in use.
func (p HugePool) Used() uint64 {
	if p.Free > p.Total {
		return 0
	}
	return p.Total - p.Free
}

// Available counts pages that a new process could take.
func (p HugePool) Available() uint64 {
	if p.Reserved > p.Free {
		return 0
	}
	return p.Free - p.Reserved
}

// NUMAPool is one NUMA node's part of a pool. The kernel keeps no reservation per node.
type NUMAPool struct {
	Node    int    `json:"node"` // the kernel's node number, from 0
	Total   uint64 `json:"total"`
	Free    uint64 `json:"free"`
	Surplus uint64 `json:"surplus"`
}
