package zkwasm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"app.provost/prover"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

const (
	maxScanned  = 10_000 // directories looked into
	maxManifest = 64 << 10
)

// Found is a prover node directory that is on the disk: one of ours, or a copy of
// the project's repository that somebody filled in by hand.
type Found struct {
	Dir     string
	Ours    bool
	Profile string // "" when not known
	Project string
	Host    string // the machine it was made for, "" when not known
	Address Address
	// GPUs are the devices it uses, by UUID or by the driver's index in digits.
	GPUs []string
	NUMA *int
	Need Needs
	// Problem says what could not be read, "" for nothing.
	Problem string
}

// Scan looks for prover node directories in dir and two levels below it, links
// excepted. What cannot be read is in the rows; an error means that dir itself cannot be.
// The second result says whether the search was cut short.
func Scan(dir string) (found []Found, cut bool, err error) {
	left := maxScanned
	err = scan(dir, 2, &left, &found)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return found, left <= 0, err
}

func scan(dir string, depth int, left *int, found *[]Found) error {
	if *left--; *left < 0 {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(maxScanned)
	_ = d.Close() // only read
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var subs []string
	var ours, theirs bool
	for _, e := range entries {
		switch {
		case e.IsDir():
			subs = append(subs, e.Name())
		case e.Name() == ManifestFile && e.Type().IsRegular():
			ours = true
		case e.Name() == ProverFile && e.Type().IsRegular():
			theirs = true
		}
	}
	if ours || theirs {
		if f, ok := look(dir, ours, theirs); ok {
			*found = append(*found, f)
			return nil // a node holds no other
		}
	}
	if depth == 0 {
		return nil
	}
	for _, s := range subs {
		if strings.HasPrefix(s, ".") {
			continue // stages of runs in progress, and what tools keep for themselves
		}
		_ = scan(filepath.Join(dir, s), depth-1, left, found) // a stranger's directory that is closed to us is no node of ours
	}
	return nil
}

// look reads one directory. False: its prover.json is another program's and nothing else is there.
func look(dir string, ours, theirs bool) (Found, bool) {
	f := Found{Dir: dir, Project: strings.ToLower(filepath.Base(dir)), Need: needs}
	if ours {
		var man Manifest
		raw, err := readFile(filepath.Join(dir, ManifestFile), maxManifest)
		if err == nil {
			err = json.Unmarshal(raw, &man)
		}
		switch {
		case err == nil && man.Schema == ManifestSchema:
			f.Ours, f.Profile, f.Project, f.Address, f.Host, f.NUMA = true, man.Profile, man.Project, man.Address, man.Host, man.NUMA
			f.GPUs = []string{man.GPU}
			f.Need.Pages, f.Need.Memory = min(man.Hugepages, 1<<30), min(man.MemoryMiB, 1<<30)
		case !theirs:
			return Found{}, false
		}
	}
	if !theirs {
		return f, true
	}
	// The key itself decides, not what was written about it.
	a, err := addressIn(filepath.Join(dir, ProverFile))
	switch {
	case err == nil && a != "":
		f.Address = a
	case err != nil && f.Address == "":
		f.Problem = fmt.Sprintf("%s: %v", ProverFile, err)
	}
	if !f.Ours {
		f.GPUs = devicesIn(dir)
		if name := projectIn(filepath.Join(dir, EnvFile)); name != "" {
			f.Project = name
		}
	}
	return f, true
}

// addressIn derives the address of the key in a prover_config.json; "" for the placeholder.
func addressIn(path string) (Address, error) {
	raw, err := readFile(path, MaxConfig)
	if err != nil {
		return "", err
	}
	defer clear(raw)
	all, err := members(raw)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.name != "priv_key" {
			continue
		}
		var s string
		if json.Unmarshal(m.raw, &s) != nil {
			return "", errors.New("priv_key is no text")
		}
		if s == "PRIVATE_KEY" || s == "" {
			return "", nil
		}
		// Others wrote this one: with 0x it is still the same key.
		s = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(s), "0x"), "0X")
		k, err := ParseKey([]byte(s))
		if err != nil {
			return "", fmt.Errorf("priv_key: %w", err)
		}
		defer k.Wipe()
		return k.Address(), nil
	}
	return "", errors.New("priv_key is missing")
}

// devicesIn lists the devices that a compose file of somebody else reserves.
func devicesIn(dir string) []string {
	for _, name := range []string{"docker-compose.yml", "docker-compose.yaml", ComposeFile, "compose.yml"} {
		raw, err := readFile(filepath.Join(dir, name), MaxConfig)
		if err != nil {
			continue
		}
		var c struct {
			Services map[string]struct {
				Deploy struct {
					Resources struct {
						Reservations struct {
							Devices []struct {
								IDs []string `yaml:"device_ids"`
							} `yaml:"devices"`
						} `yaml:"reservations"`
					} `yaml:"resources"`
				} `yaml:"deploy"`
			} `yaml:"services"`
		}
		if yaml.Unmarshal(raw, &c) != nil {
			continue
		}
		var out []string
		for _, s := range c.Services {
			for _, d := range s.Deploy.Resources.Reservations.Devices {
				out = append(out, d.IDs...)
			}
		}
		return out
	}
	return nil
}

func projectIn(path string) string {
	raw, err := readFile(path, maxManifest)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "COMPOSE_PROJECT_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// readFile reads a regular file of bounded size, without following a link and
// without waiting for a pipe.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no ordinary file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, reason(err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return raw, nil
}

// reason leaves the path out of an error: whoever tells it names the file already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// uses tells whether a found node uses a device of a machine.
func (f Found) uses(g prover.GPU) bool {
	for _, id := range f.GPUs {
		if id == g.UUID || !f.Ours && id == fmt.Sprint(g.Index) {
			return true
		}
	}
	return false
}
