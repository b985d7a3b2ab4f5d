package quil

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestReadLog(t *testing.T) {
	for _, c := range []struct {
		era    EraID
		line   string
		id     string // "" for none
		tells  Tells
		fields map[string]string
	}{
		{"1.4.21", `{"level":"info","ts":1720000000.5,"caller":"x.go:1","msg":"completed duration proof","increment":4711,"time_taken":31.5}`, "round", TellsDone, map[string]string{"increment": "4711", "time_taken": "31.5"}},
		{"1.4.21", `{"level":"error","ts":1,"msg":"client failed, reconnecting after 50ms","client":6,"error":"x"}`, "client-failed", TellsLost, map[string]string{"client": "6"}},
		{"2.0.1", `{"level":"error","ts":1,"msg":"client failed, reconnecting after 50ms","client":6}`, "client-failed", TellsMode, map[string]string{"client": "6"}},
		{"1.4.21", "Spawning 15 data workers...\n", "spawning", TellsMode, map[string]string{"count": "15"}},
		{"2.0.6", "Data worker 3 stopped, restarting...", "worker-stopped", TellsLost, map[string]string{"core": "3"}},
		{"2.0.6", "Data workers configured by multiaddr, be sure these are running...\r\n", "detached", TellsMode, nil},
		{"2.0.6", "Signature check passed", "signature", TellsAccepted, nil},
		{"2.0.6", `{"level":"info","msg":"creating data shard ring proof","ring":1,"active_workers":31,"frame_number":200,"frame_age":4.2}`, "proof-began", TellsBegan, map[string]string{"ring": "1", "active_workers": "31", "frame_number": "200", "frame_age": "4.2"}},
		{"2.0.6", `{"level":"info","msg":"submitting data proof","ring":1,"active_workers":31,"frame_number":200,"frame_age":19.9,"peerPrivKey":"5a5a"}`, "proof-sent", TellsDone, map[string]string{"ring": "1", "active_workers": "31", "frame_number": "200", "frame_age": "19.9"}},
		{"2.1.0.19", `{"level":"warn","msg":"workers unreachable","unreachable_workers":[3,4]}`, "unreachable", TellsLost, map[string]string{"unreachable_workers": "[3,4]"}},
		{"2.1.0.19", `{"level":"warn","msg":"some words of the disk monitor","usage_percentage":91,"threshold":90}`, "disk", TellsResources, map[string]string{"usage_percentage": "91", "threshold": "90"}},
		{"2.1.0.19", `{"level":"warn","msg":"other","threshold":90}`, "", "", nil},
		{"2.1.0.23", "2026-08-01T00:00:00Z\tINFO\tquil_node::worker\tregistered remote worker\t{\"core_id\":4}", "registered", TellsMode, map[string]string{}},
		{"2.1.0.23", "x\tWARN\ty\tdisk\t{\"usage_percentage\":96.5,\"threshold\":95}", "disk", TellsResources, map[string]string{"usage_percentage": "96.5", "threshold": "95"}},
		{"2.1.0.23", "x\tINFO\ty\tDataIPC gRPC server starting on 0.0.0.0:32500\t{}", "worker-listening", TellsReady, nil},
		{"2.0.6", "kernel: Out of memory: Killed process 4711 (node-2.0.6-linu), UID 0", "out-of-memory", TellsEnds, map[string]string{"pid": "4711"}},
		{"2.0.6", "kernel: Out of memory: Killed process 4711 (firefox)", "", "", nil},
		{"2.0.6", `{"level":"info","msg":"completed duration proof"}`, "", "", nil}, // of another era
		{"1.4.21", `a word before: completed duration proof`, "", "", nil},
		{"1.4.21", `{"msg":"completed duration proof"`, "", "", nil},
		{"1.4.21", `{"msg":5}`, "", "", nil},
		{"1.4.21", "", "", "", nil},
		{"1.4.21", "\xff", "", "", nil},
		{"1.4.21", "Spawning 1 data workers..." + strings.Repeat(" ", MaxLogLine) + "x", "", "", nil},
		{"2.0.6", `{"msg":"data worker listening","address":"\u001b[2J"}`, "worker-listening", TellsReady, map[string]string{}},
		{"1.4.21", `{"msg":"completed duration proof","increment":{"a":1},"time_taken":"` + strings.Repeat("9", 300) + `"}`, "round", TellsDone, map[string]string{}},
	} {
		got, ok := era(t, c.era).ReadLog([]byte(c.line))
		if ok != (c.id != "") || got.ID != c.id || got.Tells != c.tells || !maps.Equal(got.Fields, c.fields) {
			t.Errorf("era %s, %.80q: got %v %+v", c.era, c.line, ok, got)
		}
	}
}

// Every line of the data is recognised as itself, in the form that its era writes.
func TestEveryLogLine(t *testing.T) {
	for _, e := range Eras() {
		for _, l := range e.Logs {
			if !slices.Contains([]Tells{TellsAccepted, TellsMode, TellsReady, TellsLost, TellsEnds, TellsBegan, TellsDone, TellsMissed, TellsPeers, TellsSync, TellsResources}, l.Tells) {
				t.Errorf("era %s, %s: tells %q", e.ID, l.ID, l.Tells)
			}
			if l.Text == nil {
				continue
			}
			text := placeholder.ReplaceAllString(strings.NewReplacer("{", `\{`, "}", `\}`).Replace(*l.Text), "7")
			for _, line := range []string{text, "t\tINFO\tx\t" + text + "\t{}", `{"level":"info","msg":"` + text + `"}`} {
				if got, ok := e.ReadLog([]byte(line)); !ok || got.ID != l.ID {
					t.Errorf("era %s, %s: %q is %v %q", e.ID, l.ID, line, ok, got.ID)
				}
			}
		}
	}
}

func FuzzReadLog(f *testing.F) {
	eras := Eras()
	f.Add([]byte(`{"msg":"completed duration proof","increment":1,"time_taken":2}`), uint8(0))
	f.Add([]byte("a\tb\tDataIPC gRPC server starting on\t{\"usage_percentage\":1,\"threshold\":2}"), uint8(5))
	f.Add([]byte("Spawning 3 data workers..."), uint8(1))
	f.Add([]byte(`{"msg":"workers unreachable","unreachable_workers":[1,2,"x",null]}`), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, which uint8) {
		e := eras[int(which)%len(eras)]
		ev, ok := e.ReadLog(b)
		if !ok {
			return
		}
		i := slices.IndexFunc(e.Logs, func(l LogLine) bool { return l.ID == ev.ID })
		if i < 0 || ev.Tells == "" {
			t.Fatalf("%+v", ev)
		}
		for name, v := range ev.Fields {
			if len(v) > 4*maxField || name == "" {
				t.Fatalf("%s: %d bytes", name, len(v))
			}
		}
	})
}
