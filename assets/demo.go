package assets

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

//go:embed demo/*.zkey.gz demo/*.wtns.gz demo/*.vk.json
var demoFiles embed.FS

// DemoCircuit is a practice circuit for the embedded prover: a Groth16 key over BN254 and witnesses for it, made with
// snarkjs (demo/README.md says how). One person made its keys with a secret that everyone knows: its proofs prove
// nothing, they only cost what real ones cost.
type DemoCircuit struct {
	Name        string // "small", "medium" or "large"
	What        string // what the circuit shows, for people
	Constraints int
	Domain      int // rows of the evaluation domain: the next power of two, which sets the cost of a proof
	Witnesses   []DemoWitness
}

// DemoWitness is one input to a DemoCircuit.
type DemoWitness struct {
	Name string // "small-1"
}

// DemoCircuits are all practice circuits, the cheapest first. The caller may change what it gets.
func DemoCircuits() []DemoCircuit {
	return []DemoCircuit{
		{Name: "small", What: "four numbers behind a hash", Constraints: 996, Domain: 1 << 10, Witnesses: witnesses("small", 4)},
		{Name: "medium", What: "a leaf of a Merkle tree of depth 11", Constraints: 4028, Domain: 1 << 12, Witnesses: witnesses("medium", 3)},
		{Name: "large", What: "a chain of 7000 squares", Constraints: 7000, Domain: 1 << 13, Witnesses: witnesses("large", 2)},
	}
}

func witnesses(circuit string, n int) []DemoWitness {
	w := make([]DemoWitness, n)
	for i := range w {
		w[i].Name = fmt.Sprintf("%s-%d", circuit, i+1)
	}
	return w
}

// Zkey is the proving key as snarkjs wrote it.
func (c DemoCircuit) Zkey() ([]byte, error) { return unpack(c.Name + ".zkey") }

// VerificationKey is the verification_key.json that snarkjs exported from the proving key.
func (c DemoCircuit) VerificationKey() ([]byte, error) {
	return demoFiles.ReadFile("demo/" + c.Name + ".vk.json")
}

// Wtns is the witness as snarkjs wrote it.
func (w DemoWitness) Wtns() ([]byte, error) { return unpack(w.Name + ".wtns") }

func unpack(name string) ([]byte, error) {
	f, err := demoFiles.Open("demo/" + name + ".gz")
	if err != nil {
		return nil, fmt.Errorf("embedded file %s: %w", name, err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("embedded file %s: %w", name, err)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, z); err != nil {
		return nil, fmt.Errorf("embedded file %s: %w", name, err)
	}
	return b.Bytes(), z.Close()
}

// WriteDemo writes keys (small.zkey), witnesses (small-1.wtns) and verification keys (small.vk.json) of all practice
// circuits, about 7 MB, into an existing directory. Each file appears whole under its name or not at all; files of those
// names are replaced, so calling it again mends what was damaged.
func WriteDemo(dir string) error {
	write := func(name string, data []byte, err error) error {
		if err != nil {
			return err
		}
		return writeWhole(dir, name, data)
	}
	for _, c := range DemoCircuits() {
		data, err := c.Zkey()
		if err := write(c.Name+".zkey", data, err); err != nil {
			return err
		}
		data, err = c.VerificationKey()
		if err := write(c.Name+".vk.json", data, err); err != nil {
			return err
		}
		for _, w := range c.Witnesses {
			data, err := w.Wtns()
			if err := write(w.Name+".wtns", data, err); err != nil {
				return err
			}
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write demo files: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write demo files: sync %s: %w", dir, err)
	}
	return nil
}

func writeWhole(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write demo files: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write demo files: %w", err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
