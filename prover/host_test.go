package prover

import (
	"encoding/json"
	"strings"
	"testing"
)

const written = `{"schema": "provost.prover-host/1", "hostname": "m03",
 "gpu": {"driver": "550.54.15", "cuda": "12.4", "gpus": [{"index": 0, "uuid": "GPU-1", "model": "NVIDIA GeForce RTX 4090", "mem_total_mib": 24564, "compute": "8.9", "numa": 0}]},
 "mem_total_mib": 131072, "hugepages": [{"page_kib": 2048, "total": 15000, "free": 15000}], "docker": {"version": "28.2.2"}, "disk": {"path": "/var/lib/docker", "free_mib": 200000}}`

func TestReadHost(t *testing.T) {
	h, err := ReadHost([]byte(written))
	if err != nil || !h.Told || h.Hostname != "m03" || *h.MemTotal != 131072 || h.MemAvailable != nil {
		t.Fatalf("%+v %v", h, err)
	}
	if g, ok := h.GPUByUUID("GPU-1"); !ok || *g.Compute != "8.9" || g.Display != nil {
		t.Errorf("%+v", g)
	}
	if p, ok := h.Pool2M(); !ok || p.Available() != 15000 {
		t.Errorf("%+v", p)
	}
	// What is written is read again.
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ReadHost(raw); err != nil || again.Hostname != "m03" {
		t.Error(err)
	}
	for change, want := range map[[2]string]string{
		{"provost.prover-host/1", "provost.prover-host/2"}: "schema", {`"hostname"`, `"host_name"`}: "unknown field", {`"mem_total_mib": 131072`, `"mem_total_mib": -1`}: "cannot unmarshal",
		{`"uuid": "GPU-1", `, ""}: "uuid", {`"driver": "550.54.15", `, ""}: "driver is missing", {`"free": 15000`, `"free": 15001`}: "does not add up", {"131072", "9999999999999"}: "more memory",
		{`200000}}`, `200000}} {}`}: "something follows", {`200000}}`, `200000}`}: "unexpected EOF",
	} {
		if _, err := ReadHost([]byte(strings.Replace(written, change[0], change[1], 1))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", change, err, want)
		}
	}
	// Texts end up in units, compose files and commands for root.
	for change, want := range map[[2]string]string{
		{`"hostname": "m03"`, `"hostname": "m03\nx"`}: "hostname", {`NVIDIA GeForce RTX 4090`, `x\u001b[31m`}: "model", {`550.54.15`, `550\n`}: "driver",
		{`"version": "28.2.2"`, `"path": "/bin/x\nExecStartPre=/bin/y"`}:                                                       "docker.path",
		{`"version": "28.2.2"`, `"path": "/bin/x compose"`}:                                                                    "docker.path",
		{`"version": "28.2.2"`, `"path": "docker"`}:                                                                            "docker.path",
		{`"version": "28.2.2"`, `"path": "/opt/$x/docker"`}:                                                                    "docker.path",
		{`"version": "28.2.2"`, `"volumes": ["a\nb"]`}:                                                                         "docker.volumes",
		{`"mem_total_mib": 131072`, `"kept_hugepages": {"pages": 1, "where": "/etc/x; reboot"}, "mem_total_mib": 131072`}:      "kept_hugepages.where",
		{`"mem_total_mib": 131072`, `"kept_hugepages": {"pages": 1, "where": "x\ny"}, "mem_total_mib": 131072`}:                "kept_hugepages.where",
		{`"mem_total_mib": 131072`, `"numa": [{"node": 0, "cpus": "0-3\nx: y"}], "mem_total_mib": 131072`}:                     "numa[0].cpus",
		{`"mem_total_mib": 131072`, `"numa": [{"node": -1, "cpus": "0-3"}], "mem_total_mib": 131072`}:                          "numa[0]",
		{`"mem_total_mib": 131072`, `"numa": [{"node": 1, "cpus": "0-3"}, {"node": 1, "cpus": "4"}], "mem_total_mib": 131072`}: "numa[1]",
		{`"numa": 0`, `"numa": -1`}: "gpu.gpus[0]: numa",
		{`"hugepages": [`, `"hugepages": [{"page_kib": 2048, "total": 1, "free": 1}, `}:                                        "hugepages[1]",
		{`"free": 15000}`, `"free": 15000, "numa": [{"node": 0, "total": 1, "free": 2}]}`}:                                     "hugepages[0].numa",
		{`"free": 15000}`, `"free": 15000, "numa": [{"node": 0, "total": 1, "free": 1}, {"node": 0, "total": 1, "free": 1}]}`}: "hugepages[0].numa",
		{`"total": 15000, "free": 15000`, `"total": 1099511627776, "free": 1`}:                                                 "does not add up",
		{`"/var/lib/docker"`, `"/x\ny"`}: "disk.path",
	} {
		text := strings.Replace(written, change[0], change[1], 1)
		if _, err := ReadHost([]byte(text)); text == written || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", change, err, want)
		}
	}
	if _, err := ReadHost([]byte(strings.Replace(written, `"mem_total_mib": 131072`, `"numa": [{"node": 0, "cpus": "0-15,32-47"}, {"node": 1, "cpus": ""}], "kept_hugepages": {"pages": 1, "where": "kernel command line"}, "mem_total_mib": 131072`, 1))); err != nil {
		t.Error(err)
	}
	if _, err := ReadHost(make([]byte, maxHost+1)); err == nil {
		t.Error("a file without bounds was read")
	}
}

func FuzzReadHost(f *testing.F) {
	f.Add([]byte(written))
	f.Add([]byte(`{"schema":"provost.prover-host/1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ReadHost(raw)
		if err != nil {
			return
		}
		out, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadHost(out); err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
	})
}
