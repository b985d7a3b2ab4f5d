package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"app.provost/assets"
	"app.provost/prover/zkey"
)

// snarkjs is the independent verifier: the program of the people who defined the files.
type snarkjs struct{ node, cli string }

// requireSnarkjs finds the verifier that `npm ci` installed in e2e/snarkjs, or skips the test.
func requireSnarkjs(t testing.TB) snarkjs {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: no independent verifier")
	}
	cli, err := filepath.Abs(filepath.Join("snarkjs", "node_modules", "snarkjs", "build", "cli.cjs"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cli); err != nil {
		t.Skip("snarkjs is not installed: run `npm ci --ignore-scripts` in e2e/snarkjs")
	}
	return snarkjs{node, cli}
}

// run calls snarkjs and returns all it printed. It has two minutes.
func (s snarkjs) run(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.node, append([]string{s.cli}, args...)...).CombinedOutput()
	return string(out), err
}

// verificationKey exports the verification key of a .zkey into a file and returns its path.
func (s snarkjs) verificationKey(t testing.TB, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "verification_key.json")
	if out, err := s.run(t, "zkey", "export", "verificationkey", key, path); err != nil {
		t.Fatalf("export the verification key of %s: %v\n%s", key, err, out)
	}
	return path
}

// accepts says whether snarkjs accepts the proof.json and public.json in dir under a verification key. An end of snarkjs
// that is neither yes nor no fails the test.
func (s snarkjs) accepts(t testing.TB, verificationKey, dir string) bool {
	t.Helper()
	out, err := s.run(t, "groth16", "verify", verificationKey, filepath.Join(dir, "public.json"), filepath.Join(dir, "proof.json"))
	switch {
	case err == nil && strings.Contains(out, "OK!"):
		return true
	case err != nil && strings.Contains(out, "Invalid proof"):
		return false
	}
	t.Fatalf("snarkjs ended without an answer: %v\n%s", err, out)
	return false
}

// mustAcceptProof fails the test unless snarkjs accepts the proof.json and public.json in dir for this .zkey, and rejects
// them with the first public signal changed.
func (s snarkjs) mustAcceptProof(t testing.TB, key, dir string) {
	t.Helper()
	vk := s.verificationKey(t, key)
	if !s.accepts(t, vk, dir) {
		t.Fatalf("snarkjs rejects the proof in %s", dir)
	}
	forged := t.TempDir()
	copyFile(t, filepath.Join(dir, "proof.json"), filepath.Join(forged, "proof.json"))
	data, err := os.ReadFile(filepath.Join(dir, "public.json"))
	if err != nil {
		t.Fatal(err)
	}
	var signals []string
	if err := json.Unmarshal(data, &signals); err != nil {
		t.Fatal(err)
	}
	if len(signals) == 0 {
		return
	}
	if signals[0] == "1" {
		signals[0] = "2"
	} else {
		signals[0] = "1"
	}
	writeJSON(t, filepath.Join(forged, "public.json"), signals)
	if s.accepts(t, vk, forged) {
		t.Fatalf("snarkjs accepts the proof in %s with another public signal", dir)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// prove makes a proof and its files in a new directory.
func prove(t testing.TB, key, witness string) (dir string) {
	t.Helper()
	k, err := zkey.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	w, err := zkey.OpenWitness(witness)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	proof, public, err := zkey.Prove(t.Context(), k, w, zkey.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	writeJSON(t, filepath.Join(dir, "proof.json"), proof)
	writeJSON(t, filepath.Join(dir, "public.json"), public)
	vk, err := k.VerifyingKey()
	if err != nil {
		t.Fatal(err)
	}
	writeJSON(t, filepath.Join(dir, "vk.json"), vk)
	return dir
}

// snarkjs accepts our proof of every practice witness, rejects it with another public signal, accepts the verification
// key that we write, and we accept the proof that snarkjs makes of the same files.
func TestSnarkjsAgrees(t *testing.T) {
	s := requireSnarkjs(t)
	demo := t.TempDir()
	if err := assets.WriteDemo(demo); err != nil {
		t.Fatal(err)
	}
	for _, c := range assets.DemoCircuits() {
		key := filepath.Join(demo, c.Name+".zkey")
		t.Run(c.Name, func(t *testing.T) {
			vk := s.verificationKey(t, key)
			for i, w := range c.Witnesses {
				dir := prove(t, key, filepath.Join(demo, w.Name+".wtns"))
				if i == 0 {
					s.mustAcceptProof(t, key, dir)
					if !s.accepts(t, filepath.Join(dir, "vk.json"), dir) {
						t.Error("snarkjs rejects the proof under the verification key that we wrote")
					}
				} else if !s.accepts(t, vk, dir) {
					t.Errorf("%s: snarkjs rejects the proof", w.Name)
				}
			}

			theirs := t.TempDir()
			out, err := s.run(t, "groth16", "prove", key, filepath.Join(demo, c.Witnesses[0].Name+".wtns"),
				filepath.Join(theirs, "proof.json"), filepath.Join(theirs, "public.json"))
			if err != nil {
				t.Fatalf("snarkjs does not prove: %v\n%s", err, out)
			}
			if err := verify(t, vk, theirs); err != nil {
				t.Errorf("we reject the proof of snarkjs: %v", err)
			}
			writeJSON(t, filepath.Join(theirs, "public.json"), make(zkey.Public, publicSignals(t, vk)))
			if err := verify(t, vk, theirs); !errors.Is(err, zkey.ErrProofInvalid) {
				t.Errorf("other public signals: %v", err)
			}
		})
	}
}

func readVerifyingKey(t testing.TB, path string) *zkey.VerifyingKey {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	vk, err := zkey.ParseVerifyingKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return vk
}

func publicSignals(t testing.TB, vk string) int { return readVerifyingKey(t, vk).Public() }

// verify checks the proof.json and public.json in dir with our own verifier.
func verify(t testing.TB, vk, dir string) error {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "proof.json"))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := zkey.ParseProof(data)
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(filepath.Join(dir, "public.json"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := zkey.ParsePublic(data)
	if err != nil {
		t.Fatal(err)
	}
	return zkey.Verify(readVerifyingKey(t, vk), public, proof)
}

// BenchmarkAgainstSnarkjs proves the same files with both programs on all cores: snarkjs once warm, in a node process
// that has proved before, and once as the command that people call. PROVOST_BENCH_ZKEY and PROVOST_BENCH_WTNS add files
// of your own.
func BenchmarkAgainstSnarkjs(b *testing.B) {
	s := requireSnarkjs(b)
	demo := b.TempDir()
	if err := assets.WriteDemo(demo); err != nil {
		b.Fatal(err)
	}
	type subject struct{ name, key, witness string }
	var subjects []subject
	for _, c := range assets.DemoCircuits() {
		subjects = append(subjects, subject{c.Name, filepath.Join(demo, c.Name+".zkey"), filepath.Join(demo, c.Witnesses[0].Name+".wtns")})
	}
	if key := os.Getenv("PROVOST_BENCH_ZKEY"); key != "" {
		subjects = append(subjects, subject{"file", key, os.Getenv("PROVOST_BENCH_WTNS")})
	}
	for _, sub := range subjects {
		b.Run(sub.name+"/provost", func(b *testing.B) {
			k, err := zkey.Open(sub.key)
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			w, err := zkey.OpenWitness(sub.witness)
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			for b.Loop() {
				if _, _, err := zkey.Prove(b.Context(), k, w, zkey.Options{Workers: runtime.GOMAXPROCS(0)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(sub.name+"/snarkjs-warm", func(b *testing.B) {
			next := s.startProver(b, sub.key, sub.witness)
			next()
			next() // twice, so that its compiler is done
			for b.Loop() {
				next()
			}
		})
		b.Run(sub.name+"/snarkjs-command", func(b *testing.B) {
			out := b.TempDir()
			for b.Loop() {
				if text, err := s.run(b, "groth16", "prove", sub.key, sub.witness, filepath.Join(out, "proof.json"), filepath.Join(out, "public.json")); err != nil {
					b.Fatalf("%v\n%s", err, text)
				}
			}
		})
	}
}

// startProver starts a node process that proves once per call of next; it ends with the benchmark.
func (s snarkjs) startProver(b *testing.B, key, witness string) (next func()) {
	b.Helper()
	cmd := exec.Command(s.node, "prove.cjs", key, witness)
	cmd.Dir = "snarkjs"
	var problems bytes.Buffer
	cmd.Stderr = &problems
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("snarkjs: %v\n%s", err, problems.String())
		}
	})
	lines := bufio.NewScanner(out)
	return func() {
		if _, err := in.Write([]byte("\n")); err != nil {
			b.Fatal(err)
		}
		if !lines.Scan() || lines.Text() != "proved" {
			b.Fatalf("snarkjs does not prove: %q %s", lines.Text(), problems.String())
		}
	}
}
