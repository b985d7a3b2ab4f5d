package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"app.provost/cluster"
)

// InterchangeVersion is the version of EIP-3076 that is read and written.
const InterchangeVersion = "5"

// Bounds of a file from elsewhere.
const (
	maxInterchangeBytes = 1 << 30
	maxInterchangeKeys  = 1 << 20
)

// Imported says what an import did.
type Imported struct {
	Validators   int // in the file
	New          int // not known before
	Raised       int // whose marks rose
	Blocks       int // records read
	Attestations int
}

// decimal is an integer that stands in JSON as a string of decimal digits.
type decimal uint64

func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(d), 10), nil }

func (d *decimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("want a string of decimal digits")
	}
	*d = decimal(n)
	return nil
}

type interchangeMeta struct {
	Version string        `json:"interchange_format_version"`
	Root    *cluster.Root `json:"genesis_validators_root"`
}

type interchangeBlock struct {
	Slot *decimal      `json:"slot"`
	Root *cluster.Root `json:"signing_root,omitempty"`
}

type interchangeVote struct {
	Source *decimal      `json:"source_epoch"`
	Target *decimal      `json:"target_epoch"`
	Root   *cluster.Root `json:"signing_root,omitempty"`
}

type interchangeKey struct {
	Key    *cluster.PubKey    `json:"pubkey"`
	Blocks []interchangeBlock `json:"signed_blocks"`
	Votes  []interchangeVote  `json:"signed_attestations"`
}

type interchange struct {
	Meta *interchangeMeta  `json:"metadata"`
	Data *[]interchangeKey `json:"data"`
}

// Import takes an EIP-3076 file, complete or minimal, of the same chain: all of it or nothing. Marks
// rise to the highest of the file and never fall; single records are not kept, so nothing of the
// file can be signed again. Validators that are not known are registered.
func (g *Guard) Import(ctx context.Context, from io.Reader) (Imported, error) {
	marks, done, err := readInterchange(io.LimitReader(from, maxInterchangeBytes), g.o.GenesisValidatorsRoot)
	if err != nil {
		return Imported{}, &Error{Code: CodeForeign, File: "import", Err: err}
	}
	if err := g.lock(ctx); err != nil {
		return Imported{}, err
	}
	defer g.unlock()
	if err := g.believable(marks); err != nil {
		return Imported{}, err
	}
	for k, m := range marks {
		n, known := g.byKey[k]
		switch {
		case !known:
			done.New++
		case g.records[n].marks.raise(m) != g.records[n].marks:
			done.Raised++
		}
	}
	if err := g.raise(marks); err != nil {
		return Imported{}, err
	}
	return done, nil
}

// readInterchange reduces a file to marks. It reads one validator at a time.
func readInterchange(from io.Reader, root cluster.Root) (map[cluster.PubKey]Marks, Imported, error) {
	var done Imported
	marks := map[cluster.PubKey]Marks{}
	dec := json.NewDecoder(from)
	if err := delim(dec, '{'); err != nil {
		return nil, done, err
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, done, err
		}
		name, _ := tok.(string)
		if seen[name] {
			return nil, done, fmt.Errorf("%q stands twice", name)
		}
		seen[name] = true
		switch name {
		case "metadata":
			var m interchangeMeta
			if err := dec.Decode(&m); err != nil {
				return nil, done, fmt.Errorf("metadata: %w", err)
			}
			if m.Version != InterchangeVersion {
				return nil, done, fmt.Errorf("it has interchange format version %.10q, this program reads %q", m.Version, InterchangeVersion)
			}
			if m.Root == nil {
				return nil, done, errors.New("it names no genesis validators root")
			}
			if *m.Root != root {
				return nil, done, fmt.Errorf("it is of the chain with genesis validators root %s, this node follows %s", m.Root, root)
			}
		case "data":
			if err := delim(dec, '['); err != nil {
				return nil, done, fmt.Errorf("data: %w", err)
			}
			for i := 0; dec.More(); i++ {
				var k interchangeKey
				if err := dec.Decode(&k); err != nil {
					return nil, done, fmt.Errorf("data[%d]: %w", i, err)
				}
				if err := k.raise(marks, &done); err != nil {
					return nil, done, fmt.Errorf("data[%d]: %w", i, err)
				}
				if len(marks) > maxInterchangeKeys {
					return nil, done, fmt.Errorf("it has more than %d validators", maxInterchangeKeys)
				}
			}
			if err := delim(dec, ']'); err != nil {
				return nil, done, fmt.Errorf("data: %w", err)
			}
		default:
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				return nil, done, err
			}
		}
	}
	if err := delim(dec, '}'); err != nil {
		return nil, done, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, done, errors.New("something stands behind its end")
	}
	if !seen["metadata"] || !seen["data"] {
		return nil, done, errors.New("metadata or data is missing")
	}
	done.Validators = len(marks)
	return marks, done, nil
}

func delim(dec *json.Decoder, want json.Delim) error {
	tok, err := dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("want %q", want.String())
	}
	return nil
}

func (k interchangeKey) raise(marks map[cluster.PubKey]Marks, done *Imported) error {
	if k.Key == nil || k.Blocks == nil || k.Votes == nil {
		return errors.New("pubkey, signed_blocks or signed_attestations is missing")
	}
	m := marks[*k.Key]
	for i, b := range k.Blocks {
		if b.Slot == nil {
			return fmt.Errorf("signed_blocks[%d]: slot is missing", i)
		}
		m = m.raise(Marks{HasBlock: true, Slot: cluster.Slot(*b.Slot)})
	}
	for i, v := range k.Votes {
		if v.Source == nil || v.Target == nil {
			return fmt.Errorf("signed_attestations[%d]: source_epoch or target_epoch is missing", i)
		}
		m = m.raise(Marks{HasAttestation: true, Source: cluster.Epoch(*v.Source), Target: cluster.Epoch(*v.Target)})
	}
	marks[*k.Key] = m
	done.Blocks += len(k.Blocks)
	done.Attestations += len(k.Votes)
	return nil
}

// ExportOptions says what to write.
type ExportOptions struct {
	Keys    []cluster.PubKey // nil: all
	Minimal bool             // one block and one attestation per validator, the marks
}

// Export writes an EIP-3076 file. Whoever exports to sign elsewhere must not sign here any more.
// Without Minimal it has all votes and blocks of the last Keep epochs with their signing roots.
func (g *Guard) Export(ctx context.Context, to io.Writer, o ExportOptions) error {
	if err := g.lock(ctx); err != nil {
		return err
	}
	data := []interchangeKey{}
	var missing error
	keys := o.Keys
	if keys == nil {
		for _, r := range g.records {
			keys = append(keys, r.pub)
		}
	}
	for _, k := range keys {
		n, known := g.byKey[k]
		if !known {
			missing = &Error{Code: CodeForeign, File: g.path(), Err: fmt.Errorf("validator %s is not known here", k)}
			break
		}
		data = append(data, g.records[n].export(o.Minimal))
	}
	root := g.o.GenesisValidatorsRoot
	g.unlock()
	if missing != nil {
		return missing
	}
	return writeInterchange(to, root, data)
}

func writeInterchange(to io.Writer, root cluster.Root, data []interchangeKey) error {
	enc := json.NewEncoder(to)
	enc.SetIndent("", "  ")
	if err := enc.Encode(interchange{Meta: &interchangeMeta{Version: InterchangeVersion, Root: &root}, Data: &data}); err != nil {
		return fmt.Errorf("export slashing protection: %w", err)
	}
	return nil
}

// WriteMarks writes a minimal EIP-3076 file of marks that were put together from several files, such
// as the highest of all nodes, in the order of the keys.
func WriteMarks(to io.Writer, root cluster.Root, marks map[cluster.PubKey]Marks) error {
	data := []interchangeKey{}
	for _, k := range slices.SortedFunc(maps.Keys(marks), func(a, b cluster.PubKey) int { return bytes.Compare(a[:], b[:]) }) {
		data = append(data, (&record{pub: k, marks: marks[k]}).export(true))
	}
	return writeInterchange(to, root, data)
}

func (r *record) export(minimal bool) interchangeKey {
	pub := r.pub
	out := interchangeKey{Key: &pub, Blocks: []interchangeBlock{}, Votes: []interchangeVote{}}
	ref := func(root cluster.Root) *cluster.Root {
		if root == (cluster.Root{}) {
			return nil
		}
		return &root
	}
	num := func(n uint64) *decimal { d := decimal(n); return &d }
	votes, blocks := slices.Clone(r.votes), slices.Clone(r.blocks)
	if minimal {
		votes, blocks = votes[max(len(votes)-1, 0):], blocks[max(len(blocks)-1, 0):]
	}
	// Marks above the records were imported or assumed: they stand for what has no root. A record with
	// the target of the mark but a lower source gives way to it, or the file would hold a double vote.
	if m := r.marks; m.HasAttestation {
		top := vote{source: m.Source, target: max(m.Target, m.Source)}
		n := len(votes)
		if n > 0 && votes[n-1].source == top.source && votes[n-1].target == top.target {
			top = *votes[n-1]
		}
		if minimal {
			votes = nil
		} else if n > 0 && votes[n-1].target == top.target {
			votes = votes[:n-1]
		}
		votes = append(votes, &top)
	}
	if m := r.marks; m.HasBlock && (len(blocks) == 0 || blocks[len(blocks)-1].slot < m.Slot) {
		if minimal {
			blocks = nil
		}
		blocks = append(blocks, proposal{slot: m.Slot})
	}
	for _, v := range votes {
		out.Votes = append(out.Votes, interchangeVote{Source: num(uint64(v.source)), Target: num(uint64(v.target)), Root: ref(v.root)})
	}
	for _, b := range blocks {
		out.Blocks = append(out.Blocks, interchangeBlock{Slot: num(uint64(b.slot)), Root: ref(b.root)})
	}
	return out
}
