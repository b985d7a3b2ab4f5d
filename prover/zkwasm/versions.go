package zkwasm

import (
	"slices"
	"strconv"
	"strings"

	"app.provost/prover"
)

// Store is where a version keeps its merkle data.
type Store string

const (
	// StoreMongo is a MongoDB server beside the node, reached on a port of the host.
	StoreMongo Store = "mongodb"
	// StoreFilled is a RocksDB volume that another container fills before the node starts.
	StoreFilled Store = "rocksdb, filled by a container"
	// StoreOwn is a RocksDB volume that the node fills itself.
	StoreOwn Store = "rocksdb"
)

// Version is one version of the node, as its public repository ships it at Commit.
type Version struct {
	Name   string // "0.0.14"
	From   string // the month it came out, "2025-07"
	Commit string // of github.com/DelphinusLab/prover-node-docker
	Image  string // what the compose file runs
	// Built is the tag that building the image by the repository's script gives, "" for an image that is pulled.
	Built string
	Needs Needs

	Store Store
	// StoreImage brings the merkle data; "" for StoreOwn.
	StoreImage string
	// ParamsFTP is set where the node loads its parameters from an FTP server beside it at each start.
	ParamsFTP bool
	// DryRun is set where a second process runs each task before it is proved. It starts before the
	// node, with the same server and the same key.
	DryRun bool
	// SystemConfig is set where the node reads prover_system_config.json too.
	SystemConfig bool
	// Monitor is set where the repository has a monitor container.
	Monitor bool
	// MonitorFile is set where the monitor's settings have a file beside scripts/.env.
	MonitorFile bool
	// Ports are what its containers listen on: they use the host's network, so that a second
	// node of such a version on the same machine would find them taken.
	Ports []PortRange
}

// PortRange is a range of TCP ports with what listens there.
type PortRange struct {
	First, Last prover.TCPPort
	What        string
}

// Needs are what a version asks of its machine.
type Needs struct {
	Pages     prover.Pages // free 2 MiB hugepages: the start script refuses below
	Memory    prover.MiB   // available memory beside them: the same
	Disk      prover.MiB   // the repository's own check of the host
	GPUMemory prover.MiB   // what an RTX 4090 has, which the project names as the least card
	Compute   string       // its compute capability
	Model     string       // in words
	CUDA      string       // of the image; its start is refused by the container toolkit below
	Driver    string       // the first driver that serves it
	Docker    string
	Compose   string
	Toolkit   string // the container toolkit that the project pins
	ToolkitNo string // the first that it names as unfit
}

// The figures are the same for all versions so far.
var needs = Needs{
	Pages: 15000, Memory: 80 << 10, Disk: 50 << 10,
	GPUMemory: 24000, Compute: "8.9", Model: "RTX 4090", // 24 GB cards report between 24,082 and 24,576 MiB
	CUDA: "12.2", Driver: "535.54.03", Docker: "19.03", Compose: "2.0.0",
	Toolkit: "1.14.3", ToolkitNo: "1.17.8",
}

var ftpPorts = []PortRange{{21, 21, "parameter server (FTP)"}, {30000, 30009, "parameter server (FTP data)"}}

// versions, oldest first. 0.0.11 changed no file that is described here.
var versions = []Version{
	{Name: "0.0.10", From: "2025-01", Commit: "24b14d641983f6a1dc2c3e3122373b635d4199bb", Image: "zkwasm:0.0.10", Built: "zkwasm:latest", Needs: needs,
		Store: StoreMongo, StoreImage: "zkwasm/zkwasm-mongo-merkle:6785eb1c7893e0306e5b07bb", ParamsFTP: true, DryRun: true,
		Ports: append(slices.Clone(ftpPorts), PortRange{27017, 27017, "MongoDB"})},
	{Name: "0.0.12", From: "2025-03", Commit: "31afec2422e3f900d67ab6f40e58c2c001babbfe", Image: "zkwasm:0.0.12", Built: "zkwasm:latest", Needs: needs,
		Store: StoreFilled, StoreImage: "zkwasm/zkwasm-rocksdb:67db32a861a5ffd0ce1fab45", ParamsFTP: true, DryRun: true, Ports: ftpPorts},
	{Name: "0.0.13", From: "2025-04", Commit: "65ef46e5e66238f6758fb513114503a006f0ab11", Image: "zkwasm:0.0.13", Built: "zkwasm:latest", Needs: needs,
		Store: StoreOwn, ParamsFTP: true, SystemConfig: true, Monitor: true, Ports: ftpPorts},
	{Name: "0.0.14", From: "2025-07", Commit: "4e42e7af3d9fe18600ffafd27cb0c2e1421cf46d", Image: "zkwasm/prover-node:0.0.14", Needs: needs,
		Store: StoreOwn, SystemConfig: true, Monitor: true, MonitorFile: true},
}

// Versions lists all, oldest first.
func Versions() []Version { return slices.Clone(versions) }

// Newest is the version that new nodes should have.
func Newest() Version { return versions[len(versions)-1] }

// VersionByName finds "0.0.14".
func VersionByName(name string) (Version, bool) {
	i := slices.IndexFunc(versions, func(v Version) bool { return v.Name == name })
	if i < 0 {
		return Version{}, false
	}
	return versions[i], true
}

// Alone tells whether only one node of the version can run on a machine, and why.
func (v Version) Alone() (string, bool) {
	if len(v.Ports) == 0 {
		return "", false
	}
	parts := make([]string, len(v.Ports))
	for i, p := range v.Ports {
		parts[i] = p.String()
	}
	return strings.Join(parts, ", "), true
}

// String is "21 (FTP)" or "30000-30009 (FTP data)".
func (p PortRange) String() string {
	s := strconv.Itoa(int(p.First))
	if p.Last != p.First {
		s += "-" + strconv.Itoa(int(p.Last))
	}
	return s + " (" + p.What + ")"
}

// older tells whether dotted version a is older than b. Parts count as numbers as
// far as they begin with digits: 1.14.3-1 is 1.14.3, 24.0.7+dfsg is 24.0.7. What has no
// number at all is older than everything.
func older(a, b string) bool { return slices.Compare(parts(a), parts(b)) < 0 }

func parts(s string) []int {
	s = strings.TrimPrefix(strings.TrimSpace(s), "v")
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		s = s[:i]
	}
	var out []int
	for p := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(p)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	for len(out) > 0 && out[len(out)-1] == 0 { // 20.10 and 20.10.0 are the same
		out = out[:len(out)-1]
	}
	return out
}
