package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "app.provost"

// A row says what a room may import of ours, and why. It is policy, not a record
// of what happens to compile: change it only with a decision record. The longest
// matching prefix speaks for a package; an entry ending in "/" admits what is below it.
type row struct {
	may []string
	why string
}

var ours = map[string]row{
	"cluster": {nil, "nouns import nothing of ours: a reader learns the words first"},
	"prover":  {nil, "nouns import nothing of ours: a reader learns the words first"},
	"assets":  {nil, "embedded files know nobody"},
	"engine":  {[]string{"cluster", "prover"}, "the waist is made of nouns: a face that imports it gets nothing that runs"},

	"engine/":            {[]string{"engine", "cluster", "prover"}, "neighbours under engine never import each other; they meet in engine/wire"},
	"engine/flow":        {[]string{"engine", "cluster", "prover"}, "the questions of the guided flows are data: screen and command line share them as they share the waist"},
	"engine/wire":        {[]string{"engine", "engine/", "cluster", "cluster/", "prover", "prover/", "assets"}, "the hall knows every door"},
	"cluster/":           {[]string{"cluster", "cluster/internal/"}, "a domain that knows its host cannot be tested without it"},
	"cluster/internal/":  {[]string{"cluster", "cluster/internal/"}, "shared by the rooms of cluster, invisible outside"},
	"cluster/guard":      {[]string{"cluster"}, "what stands between a key and a slashing is small enough to be read whole"},
	"prover/":            {[]string{"prover"}, "neighbours under prover never import each other; they meet in engine/wire"},
	"prover/provertest":  {[]string{"prover", "prover/"}, "test helper: imported by tests only"},
	"prover/zkwasm":      {[]string{"prover"}, "an adapter turns a foreign program's facts into files: what the machine has and what fits is told to it"},
	"engine/enginetest":  {[]string{"engine", "engine/", "cluster", "prover"}, "test helper: imported by tests only"},
	"tui":                {[]string{"tui/", "engine", "engine/flow", "cluster", "prover", "assets"}, "a screen that can reach machinery will, and then there are two ways"},
	"tui/":               {[]string{"tui/", "engine", "engine/flow", "cluster", "prover", "assets"}, "a screen that can reach machinery will, and then there are two ways"},
	"tui/background":     {nil, "it must be initialised before bubbletea, so it depends on nothing but lipgloss"},
	"cmd/":               {[]string{"cmd/", "tui", "tui/background", "engine", "engine/wire", "engine/rpc", "engine/config", "engine/flow", "engine/scripted", "cluster", "prover", "assets"}, "commands take the waist, the hall, the dialler and the configuration"},
	"cmd/internal/cli":   {[]string{"cmd/internal/", "engine", "engine/config", "engine/flow", "cluster", "prover", "assets"}, "the command tree gets what runs handed to it, so that it can be tested without"},
	"cmd/internal/print": {[]string{"engine", "cluster", "prover"}, "printers turn values into text and nothing else"},

	"cluster/dv":                {[]string{"cluster", "cluster/internal/", "cluster/guard"}, "the door of a running node stitches its stages and slashing protection together; it knows no other room"},
	"cluster/dv/internal/":      {[]string{"cluster", "cluster/internal/"}, "a stage never imports its neighbour: what is wired by functions can be watched and tried again"},
	"cluster/dv/internal/agree": {[]string{"cluster", "cluster/internal/", "cluster/dv/internal/qbft"}, "agreement is the algorithm with wire and time around it; the algorithm alone knows neither"},
}

// onlyIn says which rooms may import a library: a library is a neighbour too;
// replace it behind one door.
var onlyIn = []struct {
	lib   string
	rooms []string
	why   string
}{
	{"github.com/charmbracelet/lipgloss", []string{"tui", "tui/"}, "no package but the screen knows the screen's library"},
	{"github.com/charmbracelet/bubbletea", []string{"tui", "tui/"}, "no package but the screen knows the screen's library"},
	{"github.com/charmbracelet/bubbles", []string{"tui", "tui/"}, "no package but the screen knows the screen's library"},
	{"go.etcd.io/bbolt", []string{"engine/store", "cluster/guard"}, "two stores, two owners; the guard's file is its own"},
	{"github.com/shirou/gopsutil", []string{"engine/host", "engine/super"}, "readings of the machine have one door"},
	{"github.com/NVIDIA/go-nvml", []string{"prover/gpu"}, "only the GPU room needs a twin for systems without NVML"},
	{"github.com/herumi/bls-eth-go-binary", []string{"cluster/internal/bls"}, "keys have one door"},
	{"github.com/consensys/gnark-crypto", []string{"prover/zkey"}, "the prover has one door"},
	{"filippo.io/age", []string{"cluster/pack"}, "what a node is sealed with has one door"},
	{"github.com/spf13/cobra", []string{"cmd/"}, "only the command line parses flags"},
	{"github.com/prometheus/", []string{"engine/monitor"}, "numbers for the scrape come from the snapshot, in one place"},
	{"github.com/attestantio/go-eth2-client", []string{"cluster/internal/beacon", "cluster/dv", "cluster/dv/internal/signdata", "cluster/simnet"}, "the chain's object shapes and their hashes come from one library: the client fetches them, signdata codes them, dv carries them, and the practice chain checks them by its own means"},
	{"google.golang.org/protobuf", []string{"cluster/internal/wirepb", "cluster/internal/peer", "cluster/dv/internal/agree"}, "the encoding of messages has one door; agreement passes values on in it, and the network writes its own small answers"},
	{"github.com/libp2p/", []string{"cluster/internal/peer"}, "the network between nodes has one door"},
	{"github.com/multiformats/", []string{"cluster/internal/peer"}, "the network between nodes has one door"},
	{"net/http", []string{"engine/rpc", "engine/monitor", "cluster/simnet", "cluster/clustertest", "cluster/internal/beacon", "cluster/internal/peer", "cluster/dv/internal/keymanager", "cluster/dv/internal/vapi", "cluster/internal/keymanager", "cluster/internal/download"}, "whoever serves or calls over HTTP is named here, so that every listener is known"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	CgoFiles   []string
}

func packages(t *testing.T, cgo string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,GoFiles,CgoFiles", "./...")
	cmd.Dir = top(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	var errb bytes.Buffer
	cmd.Stderr = &errb
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errb.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// covers tells whether an entry of a row admits a package path below the module.
func covers(entry, p string) bool {
	if dir, ok := strings.CutSuffix(entry, "/"); ok {
		return strings.HasPrefix(p, dir+"/")
	}
	return p == entry
}

func ruleFor(p string) (string, row, bool) {
	best, found := "", false
	for key := range ours {
		if (covers(key, p) || strings.HasPrefix(p, strings.TrimSuffix(key, "/")+"/") && strings.HasSuffix(key, "/")) && len(key) > len(best) {
			best, found = key, true
		}
	}
	return best, ours[best], found
}

func TestImports(t *testing.T) {
	for _, cgo := range []string{"1", "0"} {
		for _, p := range packages(t, cgo) {
			name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
			if name == "" || name == "e2e" || strings.HasPrefix(name, "e2e/") || len(p.GoFiles)+len(p.CgoFiles) == 0 {
				continue // end-to-end tests run the real program and may look anywhere
			}
			key, r, ok := ruleFor(name)
			if !ok {
				t.Errorf("%s stands in no row of the import policy: give the room a row with a reason, or put it where it belongs", name)
				continue
			}
			for _, imp := range p.Imports {
				if dep, isOurs := strings.CutPrefix(imp, module+"/"); isOurs {
					if !slices.ContainsFunc(r.may, func(e string) bool { return covers(e, dep) }) && !strings.HasPrefix(dep, name+"/internal/") {
						t.Errorf("%s must not import %s: %s (row %q)", name, dep, r.why, key)
					}
					if strings.HasSuffix(dep, "test") && dep != name {
						t.Errorf("%s must not import %s: test helpers are for tests", name, dep)
					}
					continue
				}
				for _, o := range onlyIn {
					if imp != strings.TrimSuffix(o.lib, "/") && !strings.HasPrefix(imp, strings.TrimSuffix(o.lib, "/")+"/") {
						continue
					}
					if !slices.ContainsFunc(o.rooms, func(e string) bool { return covers(e, name) }) {
						t.Errorf("%s must not import %s: %s (only %s)", name, imp, o.why, strings.Join(o.rooms, ", "))
					}
				}
			}
		}
	}
}

// The policy must be able to say no: these are the moves it exists to stop.
func TestPolicyRefuses(t *testing.T) {
	for _, bad := range [][2]string{
		{"prover/gpu", "engine"}, {"cluster/create", "engine"}, {"engine/state", "engine/store"},
		{"tui", "engine/rpc"}, {"tui/page", "prover/gpu"}, {"engine/act", "engine/wire"}, {"cluster", "prover"}, {"prover/queue", "prover/run"},
	} {
		if _, r, ok := ruleFor(bad[0]); !ok || slices.ContainsFunc(r.may, func(e string) bool { return covers(e, bad[1]) }) {
			t.Errorf("the policy lets %s import %s", bad[0], bad[1])
		}
	}
}

func TestRoomNames(t *testing.T) {
	for _, p := range packages(t, "1") {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "misc", "types", "shared"}, path.Base(p.ImportPath)) {
			t.Errorf("%s: if two rooms need it, it is a noun; name it", p.ImportPath)
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "tui", "engine", "cluster", "prover", "assets", "docs", "e2e",
		"go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md"}
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = top(t)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no git here: %v", err)
	}
	for _, f := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(f, "/")
		if !strings.HasPrefix(first, ".") && !slices.Contains(allowed, first) {
			t.Errorf("%s: %s is not one of the outer walls of the house", f, first)
		}
	}
}
