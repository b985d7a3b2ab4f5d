package native

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestGolden(t *testing.T) {
	for _, f := range Files(Params{Name: "provers", Dir: "/srv/my provers", Binary: "/usr/local/bin/provost"}) {
		p := filepath.Join("testdata", f.Path)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(p)
		if err != nil || string(want) != string(f.Data) {
			t.Errorf("%s differs (%v), renew with -update:\n%s", p, err, f.Data)
		}
	}
	if c := string(Files(Params{Name: "p", Dir: "/d", Binary: "/b", Workers: 3})[0].Data); !strings.Contains(c, "count: 3\n") {
		t.Error(c)
	}
}

func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: nothing here can read the unit")
	}
	dir := t.TempDir()
	p := filepath.Join(dir, UnitFile("provers"))
	if err := os.WriteFile(p, Files(Params{Name: "provers", Dir: `/srv/100% "sure" $HOME`, Binary: "/bin/true"})[1].Data, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", p).CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(p)) {
		t.Errorf("%v: %s", err, out)
	}
}
