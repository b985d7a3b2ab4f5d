// Package config is the one configuration of an engine: a documented key per
// setting, its default and its check beside it, and the answer to "who set this?".
//
// Strongest first: flag, PROVOST_* variable, cluster file, user file, system
// file, default. Files are YAML; an unknown key is an error that names the
// nearest one. The program never writes the operator's file. Loading reads the
// given files and nothing else; it starts nothing.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"

	"go.yaml.in/yaml/v3"
)

// Config of one engine. Paths are absolute after Load.
type Config struct {
	Name           string        // engine name, shown in the header
	StateDir       string        // store, blobs, logs; identifies the engine
	RuntimeDir     string        // sockets
	Socket         string        // for faces; empty: RuntimeDir/Name.sock
	Practice       string        // a label for every frame of an engine that is not for real work
	NodeDirs       []string      // distributed-validator node directories
	ClusterDir     string        // every node directory below it runs as a process of its own
	Beacons        []string      // beacon node endpoints, http(s)
	PeerListen     string        // host:port where a node listens for its peers
	Peers          []string      // NODE=HOST:PORT, static addresses of peers
	NeverSigned    bool          // no program ever signed with the keys of these nodes
	LooseModes     bool          // run keys that others can read, on mainnet and gnosis too
	Workers        int           // data workers on this machine; -1: one per core but one
	WorkerNice     int           // 0 to 19
	WorkerMemory   uint64        // bytes per worker; 0: no cap
	WorkerStop     time.Duration // how long a worker may take to end after SIGTERM
	MonitorAddress string        // host:port of /metrics; empty: off
	MonitorRemote  bool          // let MonitorAddress face others: nobody is asked who he is there
	Profiling      bool          // pprof on the monitor address
	LogLevel       string        // debug, info, warn, error
	LogFormat      string        // auto, text, json
	StatusEvery    time.Duration // status line of a headless engine; 0: off
	NTPServer      string        // asked for the clock offset; empty: the kernel's word only
	Lease          time.Duration // how long a silent worker keeps its job
	MaxAttempts    int           // per job, when the job says nothing
	KeepFinished   int           // finished jobs kept in the store
	KeepKeys       uint64        // bytes of proving keys kept beside those in use
	ClockLimit     time.Duration // offset that raises a finding
	Accessible     bool          // guided flows ask on plain lines
	// Keys are own keys of the dashboard, by the name of their binding. Which names and
	// keys there are is the dashboard's to say.
	Keys      map[string][]string
	MemoryLow float64 // per cent available below which a finding is raised
	DiskLow   float64 // per cent free below which a finding is raised
}

// Origin says who set a key.
type Origin string

const (
	FromDefault Origin = "default"
	FromSystem  Origin = "system file"
	FromUser    Origin = "user file"
	FromCluster Origin = "cluster file"
	FromEnv     Origin = "environment"
	FromFlag    Origin = "flag"
)

// SocketPath is where the engine of this configuration listens for faces.
func (c Config) SocketPath() string {
	if c.Socket != "" {
		return c.Socket
	}
	return filepath.Join(c.RuntimeDir, c.runtimeName()+".sock")
}

// WorkerSocketPath is where its workers report.
func (c Config) WorkerSocketPath() string {
	return filepath.Join(c.RuntimeDir, c.runtimeName()+".workers.sock")
}

// runtimeName is unique for a state directory, which is what identifies an engine:
// its name alone for the usual place of that name, else with a mark of the directory.
func (c Config) runtimeName() string {
	if c.StateDir == stateDirOf(c.Name) {
		return c.Name
	}
	sum := sha256.Sum256([]byte(filepath.Clean(c.StateDir)))
	return c.Name + "-" + hex.EncodeToString(sum[:4])
}

func stateDirOf(name string) string { return filepath.Join(stateHome(), name) }

// Key is one setting.
type Key struct {
	Name string // as in a file; dots are nesting
	Flag string // without dashes; "" when there is none
	Help string
	get  func(*Config) string
	set  func(*Config, string) error
}

// Env is the variable of a key: PROVOST_JOBS_LEASE for jobs.lease.
func (k Key) Env() string {
	return "PROVOST_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(k.Name))
}

// Default is the key's default as text.
func (k Key) Default() string { c := Default(); return k.get(&c) }

// Value is the key's value in a configuration as text.
func (k Key) Value(c Config) string { return k.get(&c) }

// Default is the configuration that nobody touched. StateDir and RuntimeDir
// follow the XDG rules for an ordinary user and the file system hierarchy for root
// without a home of its own.
func Default() Config {
	return Config{
		Name: "default", StateDir: stateDirOf("default"), RuntimeDir: runtimeHome(),
		Workers: -1, WorkerNice: 10, WorkerStop: 10 * time.Second,
		LogLevel: "info", LogFormat: "auto", StatusEvery: time.Minute,
		Lease: 30 * time.Second, MaxAttempts: 3, KeepFinished: 10_000, KeepKeys: 8 << 30,
		ClockLimit: 500 * time.Millisecond, MemoryLow: 5, DiskLow: 5,
	}
}

func stateHome() string {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "provost")
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "provost")
	}
	return "/var/lib/provost"
}

func runtimeHome() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "provost")
	}
	if os.Getuid() == 0 {
		return "/run/provost"
	}
	return filepath.Join(stateHome(), "run") // su and cron set no runtime directory
}

// Keys lists every setting in the order of the documentation.
func Keys() []Key { return slices.Clone(keys) }

var keys = []Key{
	text("name", "name", "name of the engine, shown in the header", func(c *Config) *string { return &c.Name }, oneWord),
	path("state-dir", "state-dir", "directory of the store, blobs and logs; it identifies the engine (usually that of its name)", func(c *Config) *string { return &c.StateDir }, true),
	path("runtime-dir", "runtime-dir", "directory of the sockets", func(c *Config) *string { return &c.RuntimeDir }, true),
	path("socket", "socket", "socket for screens and commands; empty: NAME.sock in the runtime directory", func(c *Config) *string { return &c.Socket }, false),
	text("practice", "practice", "label shown on every frame of an engine that is not for real work", func(c *Config) *string { return &c.Practice }, nil),
	pathList("node-dirs", "data-dir", "distributed-validator node directories, as made by create cluster or by Charon", func(c *Config) *[]string { return &c.NodeDirs }),
	path("cluster-dir", "cluster-dir", "cluster directory: every nodeN below it runs as a process of its own, shown together", func(c *Config) *string { return &c.ClusterDir }, false),
	list("beacon.endpoints", "beacon-node-endpoints", "beacon nodes, as in http://127.0.0.1:5052; without one, nodes are shown and do not sign", func(c *Config) *[]string { return &c.Beacons }),
	text("p2p.listen", "p2p-tcp-address", "host:port where a node listens for its peers", func(c *Config) *string { return &c.PeerListen }, hostPort),
	list("p2p.peers", "p2p-peers", "addresses of peers, as in node1=10.0.0.2:3610; others are found by those who know us", func(c *Config) *[]string { return &c.Peers }),
	boolean("node.keys-never-signed", "keys-never-signed", "no program ever signed with these keys: a new node need not wait two epochs first", func(c *Config) *bool { return &c.NeverSigned }),
	boolean("node.allow-loose-modes", "allow-loose-modes", "run keys that other users can read, on mainnet and gnosis too", func(c *Config) *bool { return &c.LooseModes }),
	{"workers.count", "workers", "data workers on this machine: a number, or auto for one per core but one",
		func(c *Config) string {
			if c.Workers < 0 {
				return "auto"
			}
			return strconv.Itoa(c.Workers)
		},
		func(c *Config, s string) error {
			if s == "auto" {
				c.Workers = -1
				return nil
			}
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || n > 4096 {
				return errors.New("want auto or a number from 0 to 4096")
			}
			c.Workers = n
			return nil
		}},
	number("workers.nice", "", "niceness of a worker, 0 to 19: proving must never starve signing", func(c *Config) *int { return &c.WorkerNice }, 0, 19),
	bytesKey("workers.memory", "", "memory cap of one worker, as in 2GiB; 0 for none", func(c *Config) *uint64 { return &c.WorkerMemory }),
	duration("workers.stop-grace", "", "time a worker gets to end after SIGTERM", func(c *Config) *time.Duration { return &c.WorkerStop }, time.Second, 10*time.Minute),
	text("monitor.address", "monitoring-address", "host:port for /metrics, /livez and /readyz; empty for none", func(c *Config) *string { return &c.MonitorAddress }, hostPort),
	boolean("monitor.allow-remote", "", "let the monitor address be other than loopback; whoever reaches it can read all numbers", func(c *Config) *bool { return &c.MonitorRemote }),
	boolean("monitor.profiling", "", "serve Go's profiles on the monitor address", func(c *Config) *bool { return &c.Profiling }),
	text("log.level", "log-level", "debug, info, warn or error", func(c *Config) *string { return &c.LogLevel }, oneOf("debug", "info", "warn", "error")),
	text("log.format", "log-format", "auto (text on a terminal, else json), text or json", func(c *Config) *string { return &c.LogFormat }, oneOf("auto", "text", "json")),
	duration("status-every", "status-every", "how often a headless engine prints its status line; 0 for never", func(c *Config) *time.Duration { return &c.StatusEvery }, 0, 24*time.Hour),
	text("clock.ntp-server", "", "NTP server asked for the clock offset; empty: only the kernel's word", func(c *Config) *string { return &c.NTPServer }, nil),
	duration("clock.limit", "", "clock offset that raises a finding", func(c *Config) *time.Duration { return &c.ClockLimit }, time.Millisecond, time.Hour),
	duration("jobs.lease", "", "how long a worker that is not heard keeps its job", func(c *Config) *time.Duration { return &c.Lease }, 5*time.Second, 24*time.Hour),
	number("jobs.max-attempts", "", "how often a job is handed out before it is failed", func(c *Config) *int { return &c.MaxAttempts }, 1, 100),
	number("jobs.keep-finished", "", "finished jobs kept with their proofs; 0 for all", func(c *Config) *int { return &c.KeepFinished }, 0, 10_000_000),
	bytesKey("jobs.keep-keys", "", "bytes of proving keys kept beside those that open jobs need", func(c *Config) *uint64 { return &c.KeepKeys }),
	boolean("accessible", "accessible", "guided flows ask line by line, without drawing: for screen readers and plain terminals", func(c *Config) *bool { return &c.Accessible }),
	percent("host.memory-low", "", "available memory, in per cent, below which a finding is raised", func(c *Config) *float64 { return &c.MemoryLow }),
	percent("host.disk-low", "", "free disk space, in per cent, below which a finding is raised", func(c *Config) *float64 { return &c.DiskLow }),
}

// Sources of a configuration.
type Sources struct {
	Flags map[string]string // by flag name, only those that were given
	Env   []string          // as os.Environ
	// Files from weakest to strongest, with who they belong to. A missing file is
	// passed over, but for one that was named by the operator (Must).
	Files []File
}

// File is one configuration file.
type File struct {
	Path   string
	Origin Origin
	Must   bool
}

// DefaultFiles are the files that are looked for: system, then user.
func DefaultFiles() []File {
	files := []File{{Path: "/etc/provost/provost.yaml", Origin: FromSystem}}
	if d, err := os.UserConfigDir(); err == nil {
		files = append(files, File{Path: filepath.Join(d, "provost", "provost.yaml"), Origin: FromUser})
	}
	return files
}

// Setting is one key as it was decided, with all that was said about it, weakest first.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
	Where  string `json:"where,omitempty"` // file path, variable or flag
	// Beaten lists weaker values that were given and did not win.
	Beaten []Setting `json:"beaten,omitempty"`
}

// Loaded is a configuration with where each value comes from.
type Loaded struct {
	Config
	Settings []Setting // in the order of Keys
}

// Load decides every key. All mistakes are told at once, in one *engine.Problem.
func Load(src Sources) (Loaded, error) {
	c := Default()
	said := map[string][]Setting{}
	var wrong []engine.Problem
	fault := func(field, cause, remedy string) {
		wrong = append(wrong, engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: "read configuration", Cause: cause, Remedy: remedy, Field: field})
	}
	say := func(k Key, value string, from Origin, where string) {
		if err := k.set(&c, value); err != nil {
			fault(k.Name, fmt.Sprintf("%s (%s): %q: %v", k.Name, where, value, err), "correct it or leave it out; the default is "+strconv.Quote(k.Default()))
			return
		}
		said[k.Name] = append(said[k.Name], Setting{Key: k.Name, Value: k.get(&c), Origin: from, Where: where})
	}
	for _, f := range src.Files {
		values, err := readFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) && !f.Must {
			continue
		}
		if err != nil {
			fault("config", fmt.Sprintf("%s: %v", f.Path, err), "mend the file or name another with --config")
			continue
		}
		for _, v := range values {
			if name, ok := strings.CutPrefix(v.name, keysPrefix); ok {
				where := fmt.Sprintf("%s:%d", f.Path, v.line)
				bound := strings.FieldsFunc(v.value, func(r rune) bool { return r == ',' })
				if len(bound) == 0 || name == "" {
					fault(v.name, fmt.Sprintf("%s (%s): no key is given", v.name, where), "give a key, a list of keys, or leave it out")
					continue
				}
				if c.Keys == nil {
					c.Keys = map[string][]string{}
				}
				for i := range bound {
					bound[i] = strings.TrimSpace(bound[i])
				}
				c.Keys[name] = bound
				said[v.name] = append(said[v.name], Setting{Key: v.name, Value: strings.Join(bound, ","), Origin: f.Origin, Where: where})
				continue
			}
			k, ok := find(v.name)
			if !ok {
				fault(v.name, fmt.Sprintf("%s line %d: unknown key %q", f.Path, v.line, v.name), "did you mean "+strconv.Quote(nearest(v.name))+"?")
				continue
			}
			say(k, v.value, f.Origin, fmt.Sprintf("%s:%d", f.Path, v.line))
		}
	}
	for _, kv := range src.Env {
		name, value, _ := strings.Cut(kv, "=")
		for _, k := range keys {
			if name == k.Env() && value != "" {
				say(k, value, FromEnv, name)
			}
		}
	}
	for _, k := range keys {
		if v, ok := src.Flags[k.Flag]; ok && k.Flag != "" {
			say(k, v, FromFlag, "--"+k.Flag)
		}
	}
	if len(wrong) > 0 {
		p := wrong[0]
		p.More = wrong[1:]
		return Loaded{}, &p
	}
	if len(said["state-dir"]) == 0 {
		c.StateDir = stateDirOf(c.Name) // each name has a place of its own
	}
	out := Loaded{Config: c}
	for _, k := range keys {
		s := Setting{Key: k.Name, Value: k.get(&c), Origin: FromDefault}
		if all := said[k.Name]; len(all) > 0 {
			last := all[len(all)-1]
			s.Origin, s.Where, s.Beaten = last.Origin, last.Where, all[:len(all)-1]
		}
		out.Settings = append(out.Settings, s)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		all := said[keysPrefix+name]
		s := all[len(all)-1]
		s.Beaten = all[:len(all)-1]
		out.Settings = append(out.Settings, s)
	}
	return out, nil
}

// keysPrefix begins the names of own keys in a file: "keys: {worker.pause: p}".
const keysPrefix = "keys."

type fileValue struct {
	name, value string
	line        int
}

// readFile flattens a YAML file into keys with dots. Lists become comma texts.
func readFile(path string) ([]fileValue, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) > 1<<20 {
		return nil, errors.New("larger than 1 MiB: this is not a configuration file")
	}
	return parse(b)
}

func parse(b []byte) ([]fileValue, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	var out []fileValue
	var walk func(prefix string, n *yaml.Node, depth int) error
	walk = func(prefix string, n *yaml.Node, depth int) error {
		if depth > 8 {
			return fmt.Errorf("line %d: nested too deep", n.Line)
		}
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				name := n.Content[i].Value
				if name == "" {
					return fmt.Errorf("line %d: want a key before the colon", n.Content[i].Line)
				}
				if prefix != "" {
					name = prefix + "." + name
				}
				if err := walk(name, n.Content[i+1], depth+1); err != nil {
					return err
				}
			}
		case yaml.SequenceNode:
			var parts []string
			for _, e := range n.Content {
				if e.Kind != yaml.ScalarNode || strings.Contains(e.Value, ",") {
					return fmt.Errorf("line %d: %s: want a list of plain values without commas", e.Line, prefix)
				}
				parts = append(parts, e.Value)
			}
			out = append(out, fileValue{prefix, strings.Join(parts, ","), n.Line})
		case yaml.ScalarNode:
			out = append(out, fileValue{prefix, n.Value, n.Line})
		default:
			return fmt.Errorf("line %d: anchors and aliases are not supported", n.Line)
		}
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want key: value", top.Line)
	}
	err := walk("", top, 0)
	return out, err
}

func find(name string) (Key, bool) {
	for _, k := range keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// nearest is the known key that begins with the name, else the one with the least edit distance.
func nearest(name string) string {
	best, dist := "", 1<<30
	for _, k := range keys {
		if name != "" && strings.HasPrefix(k.Name, name) {
			return k.Name
		}
	}
	for _, k := range keys {
		if d := distance(name, k.Name); d < dist {
			best, dist = k.Name, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := prev
			if a[i-1] != b[j-1] {
				cost = 1 + min(prev, row[j], row[j-1])
			}
			prev, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}

func text(name, flag, help string, at func(*Config) *string, check func(string) error) Key {
	return Key{name, flag, help, func(c *Config) string { return *at(c) }, func(c *Config, s string) error {
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*at(c) = s
		return nil
	}}
}

func list(name, flag, help string, at func(*Config) *[]string) Key {
	return Key{name, flag, help, func(c *Config) string { return strings.Join(*at(c), ",") }, func(c *Config, s string) error {
		*at(c) = nil
		for p := range strings.SplitSeq(s, ",") {
			if p = strings.TrimSpace(p); p != "" {
				*at(c) = append(*at(c), p)
			}
		}
		return nil
	}}
}

func number(name, flag, help string, at func(*Config) *int, lo, hi int) Key {
	return Key{name, flag, help, func(c *Config) string { return strconv.Itoa(*at(c)) }, func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("want a number from %d to %d", lo, hi)
		}
		*at(c) = n
		return nil
	}}
}

func percent(name, flag, help string, at func(*Config) *float64) Key {
	return Key{name, flag, help, func(c *Config) string { return strconv.FormatFloat(*at(c), 'g', -1, 64) }, func(c *Config, s string) error {
		n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil || !(n >= 0 && n <= 100) {
			return errors.New("want per cent from 0 to 100")
		}
		*at(c) = n
		return nil
	}}
}

func boolean(name, flag, help string, at func(*Config) *bool) Key {
	return Key{name, flag, help, func(c *Config) string { return strconv.FormatBool(*at(c)) }, func(c *Config, s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		*at(c) = v
		return nil
	}}
}

func duration(name, flag, help string, at func(*Config) *time.Duration, lo, hi time.Duration) Key {
	return Key{name, flag, help, func(c *Config) string { return engine.Duration(*at(c)).String() }, func(c *Config, s string) error {
		d, err := time.ParseDuration(s)
		if s == "0" {
			d, err = 0, nil
		}
		if err != nil || d < lo || d > hi {
			return fmt.Errorf("want a duration from %s to %s, as in 45s", engine.Duration(lo), engine.Duration(hi))
		}
		*at(c) = d
		return nil
	}}
}

func bytesKey(name, flag, help string, at func(*Config) *uint64) Key {
	return Key{name, flag, help, func(c *Config) string { return formatBytes(*at(c)) }, func(c *Config, s string) error {
		n, err := parseBytes(s)
		if err != nil {
			return err
		}
		*at(c) = n
		return nil
	}}
}

var units = []struct {
	suffix string
	size   uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func parseBytes(s string) (uint64, error) {
	for _, u := range units {
		num, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(num), 10, 64)
		if err != nil || n > (1<<63)/u.size {
			break
		}
		return n * u.size, nil
	}
	return 0, errors.New("want a whole number of bytes, KiB, MiB, GiB or TiB, as in 2GiB")
}

func formatBytes(n uint64) string {
	for _, u := range units {
		if n > 0 && n%u.size == 0 && u.size > 1 {
			return strconv.FormatUint(n/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatUint(n, 10)
}

// path makes what was given absolute, from the working directory: an engine in a
// session of its own has another one.
func path(name, flag, help string, at func(*Config) *string, needed bool) Key {
	return Key{name, flag, help, func(c *Config) string { return *at(c) }, func(c *Config, s string) error {
		if s == "" {
			if needed {
				return errors.New("want a path")
			}
			*at(c) = ""
			return nil
		}
		abs, err := filepath.Abs(s)
		if err != nil {
			return err
		}
		*at(c) = abs
		return nil
	}}
}

func pathList(name, flag, help string, at func(*Config) *[]string) Key {
	k := list(name, flag, help, at)
	set := k.set
	k.set = func(c *Config, s string) error {
		if err := set(c, s); err != nil {
			return err
		}
		for i, p := range *at(c) {
			abs, err := filepath.Abs(p)
			if err != nil {
				return err
			}
			(*at(c))[i] = abs
		}
		return nil
	}
	return k
}

func oneWord(s string) error {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		return errors.New("want 1 to 64 letters, digits, dashes, dots or underscores")
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		return errors.New("want one of " + strings.Join(words, ", "))
	}
}

func hostPort(s string) error {
	if s == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		return errors.New("want host:port, as in 127.0.0.1:3620")
	}
	return nil
}
