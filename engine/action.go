package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ActionKind names an action on the wire, in the ledger and in the journal.
type ActionKind string

// Action is something that can be asked of an engine. The set is closed: it is
// the table below. An action is a plain value; CommandLine is the shell command
// that asks for the same, and parsing that command gives the same action back
// (held by a test), so screen, command line and HTTP cannot drift apart.
type Action interface {
	Kind() ActionKind
	// CommandLine gives the words after "provost".
	CommandLine() []string
	// Doing says in words what is being tried, for the head of an error: "pause worker".
	Doing() string
}

// Selector chooses workers or jobs: a filter expression (Filter) or ids joined
// by commas. Empty matches nothing when acting; "all" must be written out.
type Selector string

// Duration is a time.Duration that travels as text, as in "45m0s".
type Duration time.Duration

// MarshalText writes Go's form of a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's form of a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("read duration %q: want a form like 45m or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// String is Go's form without needless zero parts: 45m, 1h30m.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// PauseWorkers drains workers: each finishes its job, takes no other, and goes on by itself after For.
type PauseWorkers struct {
	Workers Selector `json:"workers"`
	For     Duration `json:"for"`
	Reason  string   `json:"reason"`
	// Stop ends the processes too, once they have drained.
	Stop bool `json:"stop,omitempty"`
}

// ResumeWorkers ends a pause.
type ResumeWorkers struct {
	Workers Selector `json:"workers"`
	Reason  string   `json:"reason,omitempty"`
}

// RestartWorkers drains each worker, stops its process and starts it again.
type RestartWorkers struct {
	Workers Selector `json:"workers"`
	Reason  string   `json:"reason,omitempty"`
}

// SubmitJob asks for one proof of each witness. Paths are absolute and are read by the engine.
type SubmitJob struct {
	Zkey      string   `json:"zkey"`
	Witnesses []string `json:"witnesses"`
	Name      string   `json:"name,omitempty"`
	// MaxAttempts is how often a job may be handed out; 0 means the engine's default (3).
	MaxAttempts int `json:"max_attempts,omitempty"`
}

// CancelJobs withdraws jobs that are not verified yet.
type CancelJobs struct {
	Jobs   Selector `json:"jobs"`
	Reason string   `json:"reason,omitempty"`
}

// FetchJob brings proof.json and public.json of a verified job. Read-only.
type FetchJob struct {
	Job string `json:"job"`
}

// CreateCluster splits new validator keys over nodes and writes their directories.
type CreateCluster struct {
	Name                  string   `json:"name,omitempty"`
	Dir                   string   `json:"dir"` // absolute
	Nodes                 int      `json:"nodes"`
	Threshold             int      `json:"threshold,omitempty"` // 0: ceil(2n/3)
	NumValidators         int      `json:"num_validators"`
	WithdrawalAddresses   []string `json:"withdrawal_addresses"`
	FeeRecipientAddresses []string `json:"fee_recipient_addresses"`
	Network               string   `json:"network"`
	DepositAmounts        []uint64 `json:"deposit_amounts,omitempty"` // ETH
	Compounding           bool     `json:"compounding,omitempty"`
	TargetGasLimit        uint64   `json:"target_gas_limit,omitempty"` // 0: the default
	ConsensusProtocol     string   `json:"consensus_protocol,omitempty"`
	AllowLowThreshold     bool     `json:"allow_low_threshold,omitempty"`
	InsecureKeys          bool     `json:"insecure_keys,omitempty"`
	LockVersion           string   `json:"lock_version,omitempty"` // v1.10.0 or v1.11.0
	// A test network without a name here: all four or none, and then Network is empty.
	TestnetName             string `json:"testnet_name,omitempty"`
	TestnetForkVersion      string `json:"testnet_fork_version,omitempty"`
	TestnetChainID          uint64 `json:"testnet_chain_id,omitempty"`
	TestnetGenesisTimestamp int64  `json:"testnet_genesis_timestamp,omitempty"` // unix seconds
	// With a definition file or existing keys what they say is left empty here. Paths are absolute.
	DefinitionFile     string `json:"definition_file,omitempty"` // path or URL
	DefinitionOut      string `json:"definition_out,omitempty"`
	SplitExistingKeys  bool   `json:"split_existing_keys,omitempty"`
	SplitKeysDir       string `json:"split_keys_dir,omitempty"`
	SplitPasswordsFile string `json:"split_passwords_file,omitempty"`
	SlashingHistory    string `json:"slashing_history,omitempty"`
	NoSlashingHistory  string `json:"no_slashing_history,omitempty"` // the phrase that confirms it
	// One keymanager for each node; the file has their tokens.
	KeymanagerAddresses  []string `json:"keymanager_addresses,omitempty"`
	KeymanagerTokensFile string   `json:"keymanager_auth_tokens_file,omitempty"`
	Zipped               bool     `json:"zipped,omitempty"`
}

// VerifyCluster checks every hash, signature, key, share and deposit below a directory. Read-only.
type VerifyCluster struct {
	Dir string `json:"dir"` // absolute; a cluster, one node, a lock, a definition or a cluster.tar.gz
}

// UnlockScreens lets screens act for a while.
type UnlockScreens struct {
	For    Duration `json:"for"`
	Reason string   `json:"reason"`
}

// LockScreens takes that back at once.
type LockScreens struct{}

// AckAlerts marks open findings as seen. IDs are Finding.ID; "all" means every open one.
type AckAlerts struct {
	IDs []string `json:"ids"`
}

// MuteAlerts hides findings for a while. They stay open.
type MuteAlerts struct {
	IDs []string `json:"ids"`
	For Duration `json:"for"`
}

// CancelAct ends an act that is under way. A pause's workers are resumed.
type CancelAct struct {
	ID string `json:"id"`
}

// StopEngine stops the engine in order. Workers go on unless Workers is set.
type StopEngine struct {
	Workers bool `json:"workers,omitempty"`
}

const (
	KindPauseWorkers   ActionKind = "pause_workers"
	KindResumeWorkers  ActionKind = "resume_workers"
	KindRestartWorkers ActionKind = "restart_workers"
	KindSubmitJob      ActionKind = "submit_job"
	KindCancelJobs     ActionKind = "cancel_jobs"
	KindFetchJob       ActionKind = "fetch_job"
	KindCreateCluster  ActionKind = "create_cluster"
	KindVerifyCluster  ActionKind = "verify_cluster"
	KindUnlockScreens  ActionKind = "unlock_screens"
	KindLockScreens    ActionKind = "lock_screens"
	KindAckAlerts      ActionKind = "ack_alerts"
	KindMuteAlerts     ActionKind = "mute_alerts"
	KindCancelAct      ActionKind = "cancel_act"
	KindStopEngine     ActionKind = "stop_engine"
)

// actions is the closed set: kind to an empty value of its type.
var actions = map[ActionKind]Action{
	KindPauseWorkers:   PauseWorkers{},
	KindResumeWorkers:  ResumeWorkers{},
	KindRestartWorkers: RestartWorkers{},
	KindSubmitJob:      SubmitJob{},
	KindCancelJobs:     CancelJobs{},
	KindFetchJob:       FetchJob{},
	KindCreateCluster:  CreateCluster{},
	KindVerifyCluster:  VerifyCluster{},
	KindCombineCluster: CombineCluster{},
	KindExportNode:     ExportNode{},
	KindImportNode:     ImportNode{},
	KindShowCluster:    ShowCluster{},
	KindShowENR:        ShowENR{},
	KindCreateWorkers:  CreateWorkers{},
	KindCreateProver:   CreateProver{},
	KindUnlockScreens:  UnlockScreens{},
	KindLockScreens:    LockScreens{},
	KindAckAlerts:      AckAlerts{},
	KindMuteAlerts:     MuteAlerts{},
	KindCancelAct:      CancelAct{},
	KindStopEngine:     StopEngine{},
}

// ActionKinds lists the closed set, sorted.
func ActionKinds() []ActionKind {
	var out []ActionKind
	for k := range actions {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// MarshalAction writes {"kind": …, "args": {…}}. The same action gives the same bytes.
func MarshalAction(a Action) ([]byte, error) {
	if a == nil {
		return nil, fmt.Errorf("encode action: there is none")
	}
	if _, ok := actions[a.Kind()]; !ok {
		return nil, fmt.Errorf("encode action: unknown kind %q", a.Kind())
	}
	return json.Marshal(struct {
		Kind ActionKind `json:"kind"`
		Args Action     `json:"args"`
	}{a.Kind(), a})
}

// UnmarshalAction reads what MarshalAction wrote. Unknown kinds and unknown
// fields are errors: an action that is understood in part must not be done.
func UnmarshalAction(b []byte) (Action, error) {
	var head struct {
		Kind ActionKind      `json:"kind"`
		Args json.RawMessage `json:"args"`
	}
	if err := strict(b, &head); err != nil {
		return nil, fmt.Errorf("read action: %w", err)
	}
	zero, ok := actions[head.Kind]
	if !ok {
		return nil, fmt.Errorf("read action: unknown kind %q (this side may be older)", head.Kind)
	}
	v := reflect.New(reflect.TypeOf(zero))
	if len(head.Args) > 0 {
		if err := strict(head.Args, v.Interface()); err != nil {
			return nil, fmt.Errorf("read action %s: %w", head.Kind, err)
		}
	}
	return v.Elem().Interface().(Action), nil
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("more follows the value")
	}
	return nil
}

// words builds a command line: flags with empty values are left out.
type words []string

func (w words) flag(name, value string) words {
	if value == "" {
		return w
	}
	return append(w, "--"+name+"="+value)
}

func (w words) bool(name string, on bool) words {
	if !on {
		return w
	}
	return append(w, "--"+name)
}

func (w words) num(name string, n int) words {
	if n == 0 {
		return w
	}
	return w.flag(name, strconv.Itoa(n))
}

func (PauseWorkers) Kind() ActionKind { return KindPauseWorkers }
func (PauseWorkers) Doing() string    { return "pause worker" }
func (a PauseWorkers) CommandLine() []string {
	return words{"pause", "worker", string(a.Workers)}.flag("for", a.For.String()).flag("reason", a.Reason).bool("stop", a.Stop)
}

func (ResumeWorkers) Kind() ActionKind { return KindResumeWorkers }
func (ResumeWorkers) Doing() string    { return "resume worker" }
func (a ResumeWorkers) CommandLine() []string {
	return words{"resume", "worker", string(a.Workers)}.flag("reason", a.Reason)
}

func (RestartWorkers) Kind() ActionKind { return KindRestartWorkers }
func (RestartWorkers) Doing() string    { return "restart worker" }
func (a RestartWorkers) CommandLine() []string {
	return words{"restart", "worker", string(a.Workers)}.flag("reason", a.Reason)
}

func (SubmitJob) Kind() ActionKind { return KindSubmitJob }
func (SubmitJob) Doing() string    { return "submit job" }
func (a SubmitJob) CommandLine() []string {
	w := words{"submit", "job"}.flag("zkey", a.Zkey)
	for _, f := range a.Witnesses {
		w = w.flag("witness", f)
	}
	return w.flag("name", a.Name).num("max-attempts", a.MaxAttempts)
}

func (CancelJobs) Kind() ActionKind { return KindCancelJobs }
func (CancelJobs) Doing() string    { return "cancel job" }
func (a CancelJobs) CommandLine() []string {
	return words{"cancel", "job", string(a.Jobs)}.flag("reason", a.Reason)
}

func (FetchJob) Kind() ActionKind        { return KindFetchJob }
func (FetchJob) Doing() string           { return "fetch job" }
func (a FetchJob) CommandLine() []string { return []string{"fetch", "job", a.Job} }

func (CreateCluster) Kind() ActionKind { return KindCreateCluster }
func (CreateCluster) Doing() string    { return "create cluster" }
func (a CreateCluster) CommandLine() []string {
	w := words{"create", "cluster"}.flag("name", a.Name).flag("cluster-dir", a.Dir).
		num("nodes", a.Nodes).num("threshold", a.Threshold).num("num-validators", a.NumValidators).
		flag("withdrawal-addresses", strings.Join(a.WithdrawalAddresses, ",")).
		flag("fee-recipient-addresses", strings.Join(a.FeeRecipientAddresses, ",")).
		flag("network", a.Network)
	var amounts []string
	for _, n := range a.DepositAmounts {
		amounts = append(amounts, strconv.FormatUint(n, 10))
	}
	w = w.flag("deposit-amounts", strings.Join(amounts, ",")).bool("compounding", a.Compounding)
	if a.TargetGasLimit != 0 {
		w = w.flag("target-gas-limit", strconv.FormatUint(a.TargetGasLimit, 10))
	}
	w = w.flag("consensus-protocol", a.ConsensusProtocol).
		bool("allow-low-threshold", a.AllowLowThreshold).bool("insecure-keys", a.InsecureKeys).flag("lock-version", a.LockVersion).
		flag("testnet-name", a.TestnetName).flag("testnet-fork-version", a.TestnetForkVersion)
	if a.TestnetChainID != 0 {
		w = w.flag("testnet-chain-id", strconv.FormatUint(a.TestnetChainID, 10))
	}
	if a.TestnetGenesisTimestamp != 0 {
		w = w.flag("testnet-genesis-timestamp", strconv.FormatInt(a.TestnetGenesisTimestamp, 10))
	}
	return w.flag("definition-file", a.DefinitionFile).flag("definition-out", a.DefinitionOut).
		bool("split-existing-keys", a.SplitExistingKeys).flag("split-keys-dir", a.SplitKeysDir).flag("split-passwords-file", a.SplitPasswordsFile).
		flag("slashing-history", a.SlashingHistory).flag("no-slashing-history", a.NoSlashingHistory).
		flag("keymanager-addresses", strings.Join(a.KeymanagerAddresses, ",")).flag("keymanager-auth-tokens-file", a.KeymanagerTokensFile).
		bool("zipped", a.Zipped)
}

func (VerifyCluster) Kind() ActionKind        { return KindVerifyCluster }
func (VerifyCluster) Doing() string           { return "verify cluster" }
func (a VerifyCluster) CommandLine() []string { return []string{"verify", "cluster", a.Dir} }

func (UnlockScreens) Kind() ActionKind { return KindUnlockScreens }
func (UnlockScreens) Doing() string    { return "unlock" }
func (a UnlockScreens) CommandLine() []string {
	return words{"unlock"}.flag("for", a.For.String()).flag("reason", a.Reason)
}

func (LockScreens) Kind() ActionKind      { return KindLockScreens }
func (LockScreens) Doing() string         { return "lock" }
func (LockScreens) CommandLine() []string { return []string{"lock"} }

func (AckAlerts) Kind() ActionKind        { return KindAckAlerts }
func (AckAlerts) Doing() string           { return "acknowledge alert" }
func (a AckAlerts) CommandLine() []string { return append([]string{"ack", "alert"}, a.IDs...) }

func (MuteAlerts) Kind() ActionKind { return KindMuteAlerts }
func (MuteAlerts) Doing() string    { return "mute alert" }
func (a MuteAlerts) CommandLine() []string {
	return words(append([]string{"mute", "alert"}, a.IDs...)).flag("for", a.For.String())
}

func (CancelAct) Kind() ActionKind        { return KindCancelAct }
func (CancelAct) Doing() string           { return "cancel act" }
func (a CancelAct) CommandLine() []string { return []string{"acts", "cancel", a.ID} }

func (StopEngine) Kind() ActionKind { return KindStopEngine }
func (StopEngine) Doing() string    { return "stop engine" }
func (a StopEngine) CommandLine() []string {
	return words{"down"}.bool("workers", a.Workers)
}

// ShellLine joins words into one line that a POSIX shell reads back as the same words.
func ShellLine(w []string) string {
	out := make([]string, len(w))
	for i, s := range w {
		out[i] = shellWord(s)
	}
	return strings.Join(out, " ")
}

func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	// --flag='value with spaces' reads better than quoting the whole word.
	if name, value, ok := strings.Cut(s, "="); ok && strings.HasPrefix(name, "--") && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name + "=" + shellWord(value)
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
