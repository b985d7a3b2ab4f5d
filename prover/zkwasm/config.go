package zkwasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxConfig bounds a configuration file.
const MaxConfig = 1 << 20

// Names of the files that the node reads.
const (
	ProverFile = "prover_config.json"
	DryRunFile = "dry_run_config.json"
	SystemFile = "prover_system_config.json"
)

// Seconds is a length of time as the node's files have it.
type Seconds uint32

// Level is a percentage or a temperature; it is written with a decimal point, as shipped.
type Level float64

// MarshalJSON writes 80 as 80.0.
func (l Level) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(l)) || math.IsInf(float64(l), 0) {
		return nil, errors.New("a level is no number")
	}
	s := strconv.FormatFloat(float64(l), 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return []byte(s), nil
}

// Warnings are the levels above which the node warns in its log after a task.
type Warnings struct {
	Disk      Level `json:"disk_usage_warning_level"`       // per cent
	Memory    Level `json:"memory_usage_warning_level"`     // per cent
	GPUMemory Level `json:"gpu_memory_usage_warning_level"` // per cent
	CPUTemp   Level `json:"cpu_temp_warning_level"`         // degrees Celsius
	GPUTemp   Level `json:"gpu_temp_warning_level"`         // degrees Celsius
	extra     []member
}

// Timeouts are the limits of the node's HTTP calls.
type Timeouts struct {
	BigFile Seconds
	Get     Seconds
	Post    Seconds
}

// ProverConfig is prover_config.json. What is not known here is kept as it was.
type ProverConfig struct {
	Server      string
	Key         Key
	Timeouts    Timeouts
	Whitelist   []string // addresses whose tasks are taken; none: everybody's
	Warnings    Warnings
	MaxDebugLog uint64 // bytes of log sent with a failed task
	extra       []member
}

// DryRunConfig is dry_run_config.json of the versions that have a dry run.
type DryRunConfig struct {
	Server   string
	MongoURI string // only where the merkle data is in MongoDB; must not stand there else
	Key      Key
	Timeouts Timeouts
	extra    []member
}

// SystemConfig is prover_system_config.json: no secret stands in it.
type SystemConfig struct {
	Timeouts    Timeouts
	Whitelist   []string
	Warnings    Warnings
	MaxDebugLog uint64
	extra       []member
}

// The values that the repository ships.
var (
	shippedWarnings = Warnings{Disk: 80, Memory: 80, GPUMemory: 80, CPUTemp: 75, GPUTemp: 75}
	proverTimeouts  = Timeouts{1800, 60, 60}
	otherTimeouts   = Timeouts{1800, 300, 300}
)

const shippedDebugLog = 4 << 20

// NewProverConfig is the shipped file with a server and a key.
func NewProverConfig(server string, k Key) ProverConfig {
	return ProverConfig{Server: server, Key: k, Timeouts: proverTimeouts, Whitelist: []string{}, Warnings: shippedWarnings, MaxDebugLog: shippedDebugLog}
}

// NewDryRunConfig is the shipped file with a server and a key, which are those of the prover.
func NewDryRunConfig(server string, k Key, mongo string) DryRunConfig {
	return DryRunConfig{Server: server, MongoURI: mongo, Key: k, Timeouts: otherTimeouts}
}

// NewSystemConfig is the shipped file.
func NewSystemConfig() SystemConfig {
	return SystemConfig{Timeouts: otherTimeouts, Whitelist: []string{}, Warnings: shippedWarnings, MaxDebugLog: shippedDebugLog}
}

// ParseProverConfig reads prover_config.json.
func ParseProverConfig(raw []byte) (ProverConfig, error) {
	var c ProverConfig
	err := parse(ProverFile, raw, &c.extra,
		url("server_url", &c.Server), key("priv_key", &c.Key),
		seconds("big_file_timeout", &c.Timeouts.BigFile), seconds("get_timeout", &c.Timeouts.Get), seconds("post_timeout", &c.Timeouts.Post),
		addresses("whitelisted_users", &c.Whitelist), levels("system_warnings", &c.Warnings), plain("max_debug_log_size_to_rest_server", &c.MaxDebugLog))
	if err != nil {
		return ProverConfig{}, err
	}
	return c, nil
}

// Render writes the file. The bytes hold the key: write them to a file of mode 0600 and nowhere else.
func (c ProverConfig) Render() ([]byte, error) {
	return render(c.extra, m("server_url", c.Server), m("priv_key", c.Key),
		m("big_file_timeout", c.Timeouts.BigFile), m("get_timeout", c.Timeouts.Get), m("post_timeout", c.Timeouts.Post),
		m("whitelisted_users", c.Whitelist), m("system_warnings", c.Warnings), m("max_debug_log_size_to_rest_server", c.MaxDebugLog))
}

// ParseDryRunConfig reads dry_run_config.json.
func ParseDryRunConfig(raw []byte) (DryRunConfig, error) {
	var c DryRunConfig
	mongo := plain("mongodb_uri", &c.MongoURI)
	mongo.optional = true
	err := parse(DryRunFile, raw, &c.extra, url("server_url", &c.Server), mongo, key("private_key", &c.Key),
		seconds("big_file_timeout", &c.Timeouts.BigFile), seconds("get_timeout", &c.Timeouts.Get), seconds("post_timeout", &c.Timeouts.Post))
	if err != nil {
		return DryRunConfig{}, err
	}
	return c, nil
}

// Render writes the file. The bytes hold the key, as those of ProverConfig do.
func (c DryRunConfig) Render() ([]byte, error) {
	members := []any{m("server_url", c.Server)}
	if c.MongoURI != "" {
		members = append(members, m("mongodb_uri", c.MongoURI))
	}
	return render(c.extra, append(members, m("private_key", c.Key),
		m("big_file_timeout", c.Timeouts.BigFile), m("get_timeout", c.Timeouts.Get), m("post_timeout", c.Timeouts.Post))...)
}

// ParseSystemConfig reads prover_system_config.json.
func ParseSystemConfig(raw []byte) (SystemConfig, error) {
	var c SystemConfig
	err := parse(SystemFile, raw, &c.extra,
		seconds("big_file_timeout", &c.Timeouts.BigFile), seconds("get_timeout", &c.Timeouts.Get), seconds("post_timeout", &c.Timeouts.Post),
		addresses("whitelisted_users", &c.Whitelist), levels("system_warnings", &c.Warnings), plain("max_debug_log_size_to_rest_server", &c.MaxDebugLog))
	if err != nil {
		return SystemConfig{}, err
	}
	return c, nil
}

// Render writes the file.
func (c SystemConfig) Render() ([]byte, error) {
	return render(c.extra, m("big_file_timeout", c.Timeouts.BigFile), m("get_timeout", c.Timeouts.Get), m("post_timeout", c.Timeouts.Post),
		m("whitelisted_users", c.Whitelist), m("system_warnings", c.Warnings), m("max_debug_log_size_to_rest_server", c.MaxDebugLog))
}

// member is one key of an object with its value as it was written.
type member struct {
	name string
	raw  json.RawMessage
}

// members splits an object into its members, in order. A key that stands there twice
// is an error: readers differ in which one they take.
func members(raw []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	t, err := d.Token()
	if err != nil {
		return nil, plainJSON(err)
	}
	if t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	var out []member
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, plainJSON(err)
		}
		name, _ := t.(string)
		if seen[name] {
			return nil, fmt.Errorf("the key %.60q stands there twice", name)
		}
		seen[name] = true
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, plainJSON(err)
		}
		out = append(out, member{name, v})
	}
	if _, err := d.Token(); err != nil {
		return nil, plainJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return out, nil
}

// plainJSON tells where a text stops being JSON and quotes nothing of it: the text may hold a key.
func plainJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("it is no JSON from byte %d on", syntax.Offset)
	}
	return errors.New("it is no JSON, or it ends too early")
}

// field reads one known member.
type field struct {
	name     string
	optional bool
	read     func(json.RawMessage) error
}

// parse reads the known members and keeps the others.
func parse(file string, raw []byte, extra *[]member, fields ...field) error {
	if len(raw) > MaxConfig {
		return fmt.Errorf("read %s: larger than %d bytes", file, MaxConfig)
	}
	all, err := members(raw)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	left, err := take(all, fields)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	*extra = left
	return nil
}

func take(all []member, fields []field) (left []member, err error) {
	for _, f := range fields {
		i := slices.IndexFunc(all, func(m member) bool { return m.name == f.name })
		if i < 0 {
			if f.optional {
				continue
			}
			return nil, fmt.Errorf("%s is missing", f.name)
		}
		if err := f.read(all[i].raw); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, m := range all {
		same := func(f field) bool { return strings.EqualFold(f.name, m.name) }
		i := slices.IndexFunc(fields, same)
		if i >= 0 && fields[i].name != m.name {
			return nil, fmt.Errorf("the key %.60q is written %s", m.name, fields[i].name)
		}
		if i < 0 {
			left = append(left, m)
		}
	}
	return left, nil
}

// plain reads a number or a text. Null is neither.
func plain[T any](name string, into *T) field {
	return field{name: name, read: func(raw json.RawMessage) error {
		if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
			return errors.New("it is null")
		}
		if json.Unmarshal(raw, into) != nil {
			return fmt.Errorf("want %s", kindOf(*into))
		}
		return nil
	}}
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a text"
	case []string:
		return "a list of texts"
	case Level:
		return "a number"
	case Seconds:
		return "whole seconds"
	}
	return "a whole number from 0"
}

func seconds(name string, into *Seconds) field {
	f := plain(name, into)
	read := f.read
	f.read = func(raw json.RawMessage) error {
		if err := read(raw); err != nil {
			return err
		}
		if *into == 0 {
			return errors.New("0 seconds: every call would fail")
		}
		return nil
	}
	return f
}

func url(name string, into *string) field {
	f := plain(name, into)
	read := f.read
	f.read = func(raw json.RawMessage) error {
		if err := read(raw); err != nil {
			return err
		}
		_, err := ParseServer(*into)
		return err
	}
	return f
}

func key(name string, into *Key) field {
	return field{name: name, read: func(raw json.RawMessage) error {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return errors.New("want 64 hex digits as text")
		}
		k, err := ParseKey([]byte(s))
		if err != nil {
			return err
		}
		*into = k
		return nil
	}}
}

func addresses(name string, into *[]string) field {
	f := plain(name, into)
	read := f.read
	f.read = func(raw json.RawMessage) error {
		if err := read(raw); err != nil {
			return err
		}
		for i, a := range *into {
			if !Address(a).valid() {
				return fmt.Errorf("entry %d is no address (0x and 40 hex digits)", i+1)
			}
		}
		return nil
	}
	return f
}

func levels(name string, into *Warnings) field {
	return field{name: name, read: func(raw json.RawMessage) error {
		all, err := members(raw)
		if err != nil {
			return err
		}
		into.extra, err = take(all, []field{
			level("disk_usage_warning_level", 100, &into.Disk), level("memory_usage_warning_level", 100, &into.Memory),
			level("gpu_memory_usage_warning_level", 100, &into.GPUMemory), level("cpu_temp_warning_level", 200, &into.CPUTemp),
			level("gpu_temp_warning_level", 200, &into.GPUTemp)})
		return err
	}}
}

func level(name string, most Level, into *Level) field {
	f := plain(name, into)
	read := f.read
	f.read = func(raw json.RawMessage) error {
		if err := read(raw); err != nil {
			return err
		}
		if *into < 0 || *into > most {
			return fmt.Errorf("want 0 to %g", float64(most))
		}
		return nil
	}
	return f
}

// MarshalJSON writes the levels in the shipped order and then what was not known.
func (w Warnings) MarshalJSON() ([]byte, error) {
	return render(w.extra, m("disk_usage_warning_level", w.Disk), m("memory_usage_warning_level", w.Memory),
		m("gpu_memory_usage_warning_level", w.GPUMemory), m("cpu_temp_warning_level", w.CPUTemp), m("gpu_temp_warning_level", w.GPUTemp))
}

// value is a member to be written.
type value struct {
	name string
	v    any
}

func m(name string, v any) any { return value{name, v} }

// render writes members in order, then the ones that were kept, indented by two.
func render(extra []member, known ...any) ([]byte, error) {
	var b bytes.Buffer
	put := func(name string, raw []byte) {
		if b.Len() > 0 {
			b.WriteString(",")
		} else {
			b.WriteString("{")
		}
		quoted, _ := json.Marshal(name) // a text can always be written
		b.Write(quoted)
		b.WriteString(":")
		b.Write(raw)
	}
	for _, k := range known {
		k := k.(value)
		v := k.v
		if secret, ok := v.(Key); ok {
			if secret.IsZero() {
				return nil, fmt.Errorf("write %s: there is no key", k.name)
			}
			v = secret.reveal()
		}
		if list, ok := v.([]string); ok && list == nil {
			v = []string{}
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", k.name, err)
		}
		put(k.name, raw)
	}
	for _, e := range extra {
		put(e.name, e.raw)
	}
	b.WriteString("}")
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	clear(b.Bytes())
	out.WriteString("\n")
	return out.Bytes(), nil
}
