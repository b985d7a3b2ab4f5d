package quil

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Schema names the format of eras.yml. A number after the slash that this build does not know is refused.
const Schema = "provost.quil/1"

// EraID names an era: a stretch of node versions that one set of rules describes.
type EraID string

// How says in what way a rule is known. The zero value is not valid in eras.yml.
type How string

const (
	HowRead     How = "read"     // read in the node's public behaviour or source, and told as a fact
	HowDoc      How = "doc"      // the project's or the community's documentation says so
	HowObserved How = "observed" // seen on the network at the date of the note
	HowOwn      How = "own"      // our own conclusion; the note says from what
	HowUnknown  How = "unknown"  // nobody has told; Value is nil
)

// Rule is one fact of an era. Value nil: not known.
type Rule[T any] struct {
	Value  *T     `yaml:"value" json:"value"`
	How    How    `yaml:"how" json:"how"`
	Source string `yaml:"source" json:"source"` // a public repository or page
	Note   string `yaml:"note,omitempty" json:"note,omitempty"`
}

// Known gives the value, or ok false when it is not known.
func (r Rule[T]) Known() (v T, ok bool) {
	if r.Value == nil {
		return v, false
	}
	return *r.Value, true
}

// Era is what is known of a stretch of node versions.
type Era struct {
	ID    EraID  `yaml:"id" json:"id"`
	Title string `yaml:"title" json:"title"`
	// First and Last bound the versions, both inside; a missing fourth number admits every one. Last nil: open.
	First Version  `yaml:"first" json:"first"`
	Last  *Version `yaml:"last" json:"last"`
	// Since and Until are the months (2006-01) in which these versions were the network's; nil: not known, or still.
	Since *string `yaml:"since" json:"since"`
	Until *string `yaml:"until" json:"until"`
	// Looked is the version that the facts were looked up in.
	Looked string `yaml:"looked" json:"looked"`
	// Warning is what an operator must hear before a cluster of this era is planned; "" for none.
	Warning string `yaml:"warning" json:"warning,omitempty"`

	Call    Call    `yaml:"call" json:"call"`
	Address Address `yaml:"address" json:"address"`
	Limits  Limits  `yaml:"limits" json:"limits"`
	Secrets Secrets `yaml:"secrets" json:"secrets"`
	// Keys are the keys of config.yml that a manager reads or writes.
	Keys []Key `yaml:"-" json:"keys"`
	// Misspelt are spellings of keys that are met in the field and that the node ignores.
	Misspelt []Misspelt `yaml:"-" json:"misspelt"`
	// Files are those of the config directory.
	Files []File `yaml:"-" json:"files"`
	// Ports are the control process's own.
	Ports []Listen `yaml:"-" json:"ports"`
	// Traps are what the node does that a manager must know.
	Traps []Note `yaml:"-" json:"traps"`
	// Unknown are the questions that no source answers.
	Unknown []string `yaml:"-" json:"unknown"`
	// Logs are the lines that tell state.
	Logs []LogLine `yaml:"-" json:"logs"`
	// Timings are figures that the lines give.
	Timings []Timing `yaml:"-" json:"timings"`
}

// Call says how the binary is called. Placeholders: {config} the config directory, {core} the core's number.
type Call struct {
	Control Rule[[]string] `yaml:"control" json:"control"`
	Worker  Rule[[]string] `yaml:"worker" json:"worker"`
	// StopSignal and StopSeconds: how the control process is asked to end, and how long it may take.
	StopSignal  Rule[string] `yaml:"stop_signal" json:"stop_signal"`
	StopSeconds Rule[int]    `yaml:"stop_s" json:"stop_s"`
	// WorkersFirst: every worker must listen before the control process starts; it stops first.
	WorkersFirst Rule[bool] `yaml:"workers_first" json:"workers_first"`
	// Env are variables that the node reads.
	Env []Note `yaml:"env" json:"env"`
}

// Exposure says from where a worker's port must be reachable.
type Exposure string

const (
	FromControl Exposure = "control" // from the control process only; never public
	FromAny     Exposure = "any"     // from the internet
)

// Holes says what a core without a machine costs.
type Holes string

const (
	HolesFatal  Holes = "fatal"  // the control process ends: numbers must have no gap
	HolesCostly Holes = "costly" // work is lost while a listed worker is missing
	HolesBorne  Holes = "borne"  // only the missing worker's own work is lost
)

// Address says how workers are listed in config.yml.
type Address struct {
	// Lists are the keys of the lists, whose entry i belongs to core i+1; all have the same length.
	Lists []List `yaml:"lists" json:"lists"`
	// Families are the address families that are known to work ("ip4").
	Families Rule[[]string] `yaml:"families" json:"families"`
	// Exposure of a worker's ports.
	Exposure Rule[Exposure] `yaml:"exposure" json:"exposure"`
	// Authenticated: the port tells its own control process from a stranger.
	Authenticated Rule[bool]  `yaml:"authenticated" json:"authenticated"`
	Holes         Rule[Holes] `yaml:"holes" json:"holes"`
	// WorkerStream: a worker's copy of p2p.streamListenMultiaddr names the control machine, so that configs differ.
	WorkerStream Rule[bool] `yaml:"worker_stream" json:"worker_stream"`
}

// ListUse says what a list of addresses is for.
type ListUse string

const (
	UseWork           ListUse = "work"   // the control process sends work there
	UseP2P            ListUse = "p2p"    // peer-to-peer
	UseStream         ListUse = "stream" // gRPC between control process and worker
	UseAnnounceP2P    ListUse = "announce-p2p"
	UseAnnounceStream ListUse = "announce-stream"
)

// List is one list of worker addresses.
type List struct {
	Key  string  `yaml:"key" json:"key"` // as "engine.dataWorkerMultiaddrs"
	Use  ListUse `yaml:"use" json:"use"`
	Base Port    `yaml:"base" json:"base"` // slot s of a machine listens on base + s
	// Transports that an entry may have, the first is taken unless the plan says otherwise: "tcp" or "quic".
	Transports []Transport `yaml:"transports" json:"transports"`
	How        How         `yaml:"how" json:"how"`
	Source     string      `yaml:"source" json:"source"`
	Note       string      `yaml:"note,omitempty" json:"note,omitempty"`
}

// Keep says how many threads stay free on the control machine when it has at most Threads; Threads 0: any number.
type Keep struct {
	Threads int `yaml:"threads" json:"threads"`
	Keep    int `yaml:"keep" json:"keep"`
}

// Size is a step in the cost of a number of workers.
type Size struct {
	Workers int    `yaml:"workers" json:"workers"` // up to this many cost the same
	Cost    string `yaml:"cost" json:"cost"`
}

// Limits are the hardware rules.
type Limits struct {
	RAMPerWorkerBytes  Rule[uint64] `yaml:"ram_per_worker_bytes" json:"ram_per_worker_bytes"`
	DiskPerWorkerBytes Rule[uint64] `yaml:"disk_per_worker_bytes" json:"disk_per_worker_bytes"`
	MinThreads         Rule[int]    `yaml:"min_threads" json:"min_threads"`
	MinWorkers         Rule[int]    `yaml:"min_workers" json:"min_workers"`
	// ControlFreeBytes: the node warns when less than this is left to the control process.
	ControlFreeBytes Rule[uint64] `yaml:"control_free_bytes" json:"control_free_bytes"`
	Keep             Rule[[]Keep] `yaml:"keep" json:"keep"`
	// Sizes, ascending: just below a step is better than just above it.
	Sizes Rule[[]Size] `yaml:"sizes" json:"sizes"`
	// Equal: the slowest worker sets the pace of all, so machines should be alike.
	Equal       Rule[bool] `yaml:"equal" json:"equal"`
	OpenFiles   Rule[int]  `yaml:"open_files" json:"open_files"`
	PauseFrames Rule[int]  `yaml:"pause_frames" json:"pause_frames"`
	EpochFrames Rule[int]  `yaml:"epoch_frames" json:"epoch_frames"`
	// CountByConfig: the number of local workers can be set in config.yml.
	CountByConfig Rule[bool] `yaml:"count_by_config" json:"count_by_config"`
	// MemoryByConfig: the memory that a worker aims at can be set in config.yml; no cap.
	MemoryByConfig Rule[bool] `yaml:"memory_by_config" json:"memory_by_config"`
	// DiskStopPercent: at this use of the disk the process ends itself.
	DiskStopPercent Rule[int] `yaml:"disk_stop_percent" json:"disk_stop_percent"`
}

// Secrets says which secrets of config.yml a machine with workers only must have. All others are left out of its copy.
type Secrets struct {
	Worker Rule[[]string] `yaml:"worker" json:"worker"`
}

// KeyType says what a key of config.yml holds.
type KeyType string

const (
	TypeAddress   KeyType = "multiaddr"
	TypeAddresses KeyType = "multiaddrs"
	TypeFormat    KeyType = "format"      // an address with one %d
	TypePaths     KeyType = "path-format" // a path with one %d, which becomes the core's number
	TypePort      KeyType = "port"
	TypeInt       KeyType = "int"
	TypeBool      KeyType = "bool"
	TypeString    KeyType = "string"
	TypeStrings   KeyType = "strings"
	TypeSecret    KeyType = "secret" // never printed
)

// Key is one key of config.yml.
type Key struct {
	Path    string       `yaml:"path" json:"path"` // as "engine.dataWorkerCount"
	Type    KeyType      `yaml:"type" json:"type"`
	Default Rule[string] `yaml:"default" json:"default"` // as YAML; nil: not known
	Note    string       `yaml:"note,omitempty" json:"note,omitempty"`
}

// Need says whether a machine must have a file.
type Need string

const (
	NeedYes   Need = "yes"   // it does not work without
	NeedNever Need = "never" // it must not be there: not needed, and a secret or another's state
	NeedMade  Need = "made"  // the node makes it; it is not copied
)

// File is a file of the config directory.
type File struct {
	Name    string `yaml:"name" json:"name"` // relative to the config directory; "worker-store/" is a directory
	Control Need   `yaml:"control" json:"control"`
	Workers Need   `yaml:"workers" json:"workers"`
	Secret  bool   `yaml:"secret" json:"secret"`
	How     How    `yaml:"how" json:"how"`
	Source  string `yaml:"source" json:"source"`
	Why     string `yaml:"why" json:"why"`
}

// Listen is a port of the control process.
type Listen struct {
	Name  string     `yaml:"name" json:"name"`
	Key   string     `yaml:"key" json:"key"`   // of config.yml, where it can be changed
	Port  Port       `yaml:"port" json:"port"` // where nothing else is set
	Proto []string   `yaml:"proto" json:"proto"`
	Open  Rule[bool] `yaml:"open" json:"open"`   // to the internet; nil: not known to be needed
	On    Rule[bool] `yaml:"on" json:"on"`       // listens without being asked to
	Write bool       `yaml:"write" json:"write"` // takes orders from whoever reaches it
}

// Misspelt is a wrong spelling of a key.
type Misspelt struct {
	Path   string `yaml:"path" json:"path"`
	Means  string `yaml:"means" json:"means"`
	Source string `yaml:"source" json:"source"`
	Note   string `yaml:"note,omitempty" json:"note,omitempty"`
}

// Note is a sentence with its source.
type Note struct {
	Text   string `yaml:"text" json:"text"`
	How    How    `yaml:"how" json:"how"`
	Source string `yaml:"source" json:"source"`
}

//go:embed eras.yml
var erasYML []byte

// of is the part of a row of eras.yml that says for which eras it counts; none named: for all.
type of struct {
	Eras []EraID `yaml:"eras"`
}

func (o of) counts(id EraID) bool { return len(o.Eras) == 0 || slices.Contains(o.Eras, id) }

type erasFile struct {
	Schema string `yaml:"schema"`
	Eras   []Era  `yaml:"eras"`
	Keys   []struct {
		of  `yaml:",inline"`
		Key `yaml:",inline"`
	} `yaml:"keys"`
	Misspelt []struct {
		of       `yaml:",inline"`
		Misspelt `yaml:",inline"`
	} `yaml:"misspelt"`
	Files []struct {
		of   `yaml:",inline"`
		File `yaml:",inline"`
	} `yaml:"files"`
	Ports []struct {
		of     `yaml:",inline"`
		Listen `yaml:",inline"`
	} `yaml:"ports"`
	Traps []struct {
		of   `yaml:",inline"`
		Note `yaml:",inline"`
	} `yaml:"traps"`
	Unknown []struct {
		of   `yaml:",inline"`
		Text string `yaml:"text"`
	} `yaml:"unknown"`
	Logs []struct {
		of      `yaml:",inline"`
		LogLine `yaml:",inline"`
	} `yaml:"logs"`
	Timings []struct {
		of     `yaml:",inline"`
		Timing `yaml:",inline"`
	} `yaml:"timings"`
}

// decodeEras reads the data of the eras.
func decodeEras(b []byte) ([]Era, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var f erasFile
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("read eras: %w", err)
	}
	if f.Schema != Schema {
		return nil, fmt.Errorf("read eras: schema %q is not %q", cut(f.Schema), Schema)
	}
	for i := range f.Eras {
		e := &f.Eras[i]
		for _, r := range f.Keys {
			if r.counts(e.ID) {
				e.Keys = append(e.Keys, r.Key)
			}
		}
		for _, r := range f.Misspelt {
			if r.counts(e.ID) {
				e.Misspelt = append(e.Misspelt, r.Misspelt)
			}
		}
		for _, r := range f.Files {
			if r.counts(e.ID) {
				e.Files = append(e.Files, r.File)
			}
		}
		for _, r := range f.Ports {
			if r.counts(e.ID) {
				e.Ports = append(e.Ports, r.Listen)
			}
		}
		for _, r := range f.Traps {
			if r.counts(e.ID) {
				e.Traps = append(e.Traps, r.Note)
			}
		}
		for _, r := range f.Unknown {
			if r.counts(e.ID) {
				e.Unknown = append(e.Unknown, r.Text)
			}
		}
		for _, r := range f.Logs {
			if r.counts(e.ID) {
				e.Logs = append(e.Logs, r.LogLine)
			}
		}
		for _, r := range f.Timings {
			if r.counts(e.ID) {
				e.Timings = append(e.Timings, r.Timing)
			}
		}
	}
	return f.Eras, nil
}

// Eras gives all eras, oldest first. What they hold is shared: whoever asks changes nothing in it.
func Eras() []Era { return slices.Clone(embedded()) }

var embedded = sync.OnceValue(func() []Era {
	all, err := decodeEras(erasYML)
	if err != nil {
		return nil // the embedded file is read by a test; it cannot fail here
	}
	return all
})

// ErrNoEra says that no era has this name or describes this version.
var ErrNoEra = errors.New("no era of the node is known by this name or version")

// EraByID gives the era of that name.
func EraByID(id EraID) (Era, error) {
	all := Eras()
	names := make([]string, len(all))
	for i, e := range all {
		if e.ID == id {
			return e, nil
		}
		names[i] = string(e.ID)
	}
	return Era{}, fmt.Errorf("%w: %q is none of %s", ErrNoEra, cut(string(id)), strings.Join(names, ", "))
}

// EraOf gives the era that describes a version. Versions between two eras are described by none: the error names both
// neighbours, for the operator to choose one.
func EraOf(v Version) (Era, error) {
	var before, after *Era
	all := Eras()
	for i := range all {
		e := &all[i]
		switch {
		case v.compare(e.First) < 0:
			if after == nil {
				after = e
			}
		case e.Last != nil && v.compare(*e.Last) > 0:
			before = e
		default:
			return *e, nil
		}
	}
	near := ""
	switch {
	case before != nil && after != nil:
		near = fmt.Sprintf("; it lies between %q and %q: name one of them if you know that it behaves so", before.ID, after.ID)
	case after != nil:
		near = fmt.Sprintf("; the oldest that is described is %q", after.ID)
	}
	return Era{}, fmt.Errorf("%w: version %s was not looked at%s", ErrNoEra, v, near)
}
