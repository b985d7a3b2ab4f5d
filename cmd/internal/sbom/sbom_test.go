package sbom

import (
	"bytes"
	"runtime/debug"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func TestBillIsReadBack(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "app.provost"}, Deps: []*debug.Module{
		{Path: "go.etcd.io/bbolt", Version: "v1.5.0", Sum: "h1:TU2J502xpqYTtIaNeUEJPoQMVBWEeWLXhMZ7x0rOtaU="},
		{Path: "old", Version: "v1.0.0", Replace: &debug.Module{Path: "new", Version: "v2.0.0"}},
	}}
	var a, b bytes.Buffer
	if err := Write(&a, info, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, info, "1.2.3"); err != nil || a.String() != b.String() {
		t.Fatal("the same binary must give the same bytes", err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&a, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Component.Version != "1.2.3" || len(*bom.Components) != 3 {
		t.Fatalf("read back %+v", bom)
	}
	bolt, repl := (*bom.Components)[1], (*bom.Components)[2]
	if bolt.PackageURL != "pkg:golang/go.etcd.io/bbolt@v1.5.0" || bolt.Hashes == nil || len((*bolt.Hashes)[0].Value) != 64 || repl.Name != "new" {
		t.Errorf("components %+v %+v", bolt, repl)
	}
	if err := Write(&a, nil, ""); err == nil {
		t.Error("no build information must be an error")
	}
}
