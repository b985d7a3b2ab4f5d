// Package sbom prints the bill of materials of the running binary: its own
// modules as the linker recorded them, in CycloneDX JSON. The same binary gives
// the same bytes.
package sbom

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Write writes the bill of materials of a build under a version.
func Write(w io.Writer, info *debug.BuildInfo, version string) error {
	if info == nil || info.Main.Path == "" {
		return errors.New("write bill of materials: this binary was built without module information; build it with go build")
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: component(info.Main.Path, version, "", cdx.ComponentTypeApplication)}
	deps := []cdx.Component{*component("std", strings.TrimPrefix(info.GoVersion, "go"), "", cdx.ComponentTypeLibrary)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		deps = append(deps, *component(m.Path, m.Version, m.Sum, cdx.ComponentTypeLibrary))
	}
	bom.Components = &deps
	e := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON)
	e.SetPretty(true)
	if err := e.Encode(bom); err != nil {
		return fmt.Errorf("write bill of materials: %w", err)
	}
	return nil
}

func component(path, version, sum string, kind cdx.ComponentType) *cdx.Component {
	c := &cdx.Component{Type: kind, Name: path, Version: version, PackageURL: "pkg:golang/" + path + "@" + version}
	c.BOMRef = c.PackageURL
	// go.sum's "h1:" is the base64 of a SHA-256 over the module's file list.
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:")); err == nil && len(raw) == 32 {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
	}
	return c
}
