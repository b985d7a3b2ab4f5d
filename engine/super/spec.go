package super

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"app.provost/prover"
)

// Spec says what to run and how. Secrets never go in here: argv and environment
// of a process can be read by others, so pass the path of a 0600 file instead.
type Spec struct {
	// ID names the process for ever: "w1", "verifier". Lower-case letters, digits and dashes.
	ID string `json:"id"`
	// Argv is the command of the child. An empty Argv[0] means this binary.
	Argv []string `json:"argv"`
	// Env adds NAME=value to what EnvAllow lets through.
	Env []string `json:"env,omitempty"`
	// EnvAllow names variables of the engine's environment that the child gets,
	// besides those of DefaultEnvAllow. Everything else is kept from it.
	EnvAllow []string `json:"env_allow,omitempty"`
	// Dir is the process's own directory, absolute. It is made with mode 0700 and is
	// the child's working directory. No two ids share one.
	Dir string `json:"dir"`
	// LogFile takes the child's stdout and stderr, absolute; made with mode 0600.
	LogFile string `json:"log_file"`
	// LogMaxBytes is the size at which the log is rotated; 0 means 16 MiB. Two such files are kept.
	LogMaxBytes int64 `json:"log_max_bytes,omitempty"`
	// CPUs that the child may run on; empty: all. They are reserved machine-wide while it runs.
	CPUs []prover.CPU `json:"cpus,omitempty"`
	// ShareCPUs runs the child also when a CPU is reserved by another process;
	// Status.Shared tells. Without it the start fails and is tried again by the policy.
	ShareCPUs bool `json:"share_cpus,omitempty"`
	// Nice is the child's niceness, 0 to 19. It is added to nothing: 10 means 10.
	Nice int `json:"nice,omitempty"`
	// MemoryMaxBytes caps the child; 0: no cap. A control group is used where one can
	// be made, else the stub looks four times a second and ends a child that is over.
	MemoryMaxBytes uint64 `json:"memory_max_bytes,omitempty"`
	// OOMScoreAdj of the child, 0 to 1000: the higher, the sooner the kernel chooses it when memory is out.
	// Nil means 500.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// StopGrace is how long the child has between SIGTERM and SIGKILL; 0 means 10 s.
	StopGrace time.Duration `json:"stop_grace_ns,omitempty"`
}

// DefaultEnvAllow are the variables that every child gets from the engine's environment, if set.
var DefaultEnvAllow = []string{
	"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
	"GOTRACEBACK", "GOGC", "GOMEMLIMIT", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
}

const (
	defaultLogMax   = 16 << 20
	defaultGrace    = 10 * time.Second
	defaultOOMScore = 500
	// runVar marks the child and what it starts: "<id>.<run>". Stragglers are known by it.
	runVar = "PROVOST_RUN"
	// LifelineVar names the file descriptor of the lifeline in the child's environment, if there is one.
	LifelineVar = "PROVOST_LIFELINE_FD"
)

var (
	idForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,47}$`)
	secretLike = regexp.MustCompile(`(?i)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|MNEMONIC|PRIVATE|API_?KEY)`)
)

// check refuses what cannot be run, and says which field is wrong.
func (s Spec) check() error {
	bad := func(field, format string, a ...any) error {
		return fmt.Errorf("process %s: %s: %s", s.ID, field, fmt.Sprintf(format, a...))
	}
	if !idForm.MatchString(s.ID) {
		return fmt.Errorf("process id %q: want lower-case letters, digits and dashes, at most 48", s.ID)
	}
	if len(s.Argv) == 0 {
		return bad("argv", "is empty; name the command, or \"\" for this binary")
	}
	if !filepath.IsAbs(s.Dir) {
		return bad("dir", "%q is not absolute", s.Dir)
	}
	if !filepath.IsAbs(s.LogFile) {
		return bad("log file", "%q is not absolute", s.LogFile)
	}
	if s.LogMaxBytes < 0 || s.LogMaxBytes > 0 && s.LogMaxBytes < 4096 {
		return bad("log size", "%d bytes; want 4096 or more, or 0 for the default", s.LogMaxBytes)
	}
	if s.Nice < 0 || s.Nice > 19 {
		return bad("nice", "%d; want 0 to 19", s.Nice)
	}
	if s.OOMScoreAdj != nil && (*s.OOMScoreAdj < 0 || *s.OOMScoreAdj > 1000) {
		return bad("oom score", "%d; want 0 to 1000", *s.OOMScoreAdj)
	}
	if s.StopGrace < 0 {
		return bad("stop grace", "%s is negative", s.StopGrace)
	}
	for i, c := range s.CPUs {
		if c < 0 || c >= maxCPUs || slices.Contains(s.CPUs[:i], c) {
			return bad("cpus", "%d is listed twice or not a CPU number", c)
		}
	}
	for _, a := range s.Argv {
		if strings.IndexByte(a, 0) >= 0 {
			return bad("argv", "a word contains a NUL byte")
		}
	}
	for _, e := range s.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || strings.IndexByte(e, 0) >= 0 {
			return bad("env", "want NAME=value")
		}
		if err := s.checkName(name); err != nil {
			return err
		}
	}
	for _, name := range s.EnvAllow {
		if err := s.checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// checkName keeps secrets out of environments: anybody of the same user can list them.
func (s Spec) checkName(name string) error {
	if secretLike.MatchString(name) && !strings.HasSuffix(name, "_FILE") {
		return fmt.Errorf("process %s: env: %s looks like a secret; write it to a 0600 file and pass the path in %s_FILE", s.ID, name, name)
	}
	return nil
}

func (s Spec) logMax() int64 {
	if s.LogMaxBytes == 0 {
		return defaultLogMax
	}
	return s.LogMaxBytes
}

func (s Spec) grace() time.Duration {
	if s.StopGrace == 0 {
		return defaultGrace
	}
	return s.StopGrace
}

// hash names the spec by its content: the same hash, the same process.
func (s Spec) hash() string {
	b, err := json.Marshal(s)
	if err != nil { // no field can fail to encode
		return ""
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// environ is what the child gets: allowed variables of environ, then Env.
func (s Spec) environ(environ []string) []string {
	var out []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if slices.Contains(DefaultEnvAllow, name) || slices.Contains(s.EnvAllow, name) {
			out = append(out, e)
		}
	}
	return append(out, s.Env...)
}

// clone makes s independent of the caller's slices.
func (s Spec) clone() Spec {
	s.Argv, s.Env, s.EnvAllow, s.CPUs = slices.Clone(s.Argv), slices.Clone(s.Env), slices.Clone(s.EnvAllow), slices.Clone(s.CPUs)
	if s.OOMScoreAdj != nil {
		n := *s.OOMScoreAdj
		s.OOMScoreAdj = &n
	}
	return s
}

// ownBinary is the path of this binary. After an upgrade in place it is the new one.
func ownBinary() (string, error) {
	p, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this binary: %w", err)
	}
	return p, nil
}
