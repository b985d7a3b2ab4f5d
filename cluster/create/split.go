package create

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sync/errgroup"
)

// Limits on a directory of existing keys.
const (
	maxKeyDirDepth   = 16
	maxPasswordTries = 32 // text files tried where none belongs to a keystore by its name
	maxHistoryBytes  = 256 << 20
	maxListed        = 5
)

// GuardDoor is what a room for slashing protection does for a run. Both must be there when a history
// is given.
type GuardDoor struct {
	// Read checks an EIP-3076 file of the chain with the root, or of any chain for a zero root, and
	// returns the highest that each validator signed, and the root.
	Read func(file []byte, root cluster.Root) (map[cluster.PubKey]Signed, cluster.Root, error)
	// Seed makes slashing protection for a new node.
	Seed func(ctx context.Context, dir string, s Seed) error
}

// Signed is the highest that a validator signed.
type Signed struct {
	HasBlock       bool
	Slot           cluster.Slot
	HasAttestation bool
	Source, Target cluster.Epoch
}

// Seed is what a new node's slashing protection begins with. Where the network's slots are known every
// key must be fenced besides: it may have signed after the history was exported.
type Seed struct {
	Network        cluster.Network // of a test network SlotSeconds is 0: not known
	ValidatorsRoot cluster.Root
	Keys           []cluster.PubKey
	Signed         map[cluster.PubKey]Signed // of those keys, at most
}

type history struct {
	root   cluster.Root
	signed map[cluster.PubKey]Signed
}

// guardDirName is where a node keeps slashing protection; guardFileName the file that Seed makes.
const (
	guardDirName  = "provost"
	guardFileName = "guard.db"
)

// splitKey is an existing keystore that was found, not opened yet.
type splitKey struct {
	file      string // relative to the directory of keys
	keystore  *keystore.Keystore
	passwords []string            // files to try, absolute, the likeliest first
	given     []keystore.Password // at most one, instead of files
}

func (p Params) checkSplit(bad func(field, remedy, cause string, args ...any)) {
	if !p.SplitExistingKeys {
		for _, f := range []struct{ flag, value string }{{"split-keys-dir", p.SplitKeysDir}, {"split-passwords-file", p.SplitPasswordsFile},
			{"slashing-history", p.SlashingHistory}, {"no-slashing-history", p.NoSlashingHistory}} {
			if f.value != "" {
				bad(f.flag, "add --split-existing-keys, or leave --"+f.flag+" out", "without --split-existing-keys new keys are made, and --%s has no meaning", f.flag)
			}
		}
		return
	}
	if p.SplitKeysDir == "" {
		bad("split-keys-dir", "name the directory with the keystores of the validators to split", "the directory of keys is missing")
	}
	if p.SlashingHistory == "" && p.NoSlashingHistory == "" {
		bad("slashing-history", fmt.Sprintf("stop the old validator client, export its slashing protection (EIP-3076) and give that file; if there is none, add --no-slashing-history=%q", NoHistoryPhrase),
			"what the old validators have signed is not known, and signing it again differently would be slashed")
	}
	if p.NoSlashingHistory != "" && p.NoSlashingHistory != NoHistoryPhrase {
		bad("no-slashing-history", fmt.Sprintf("if it is true, type exactly %q", NoHistoryPhrase), "%.80q doesn't confirm it", p.NoSlashingHistory)
	}
	if p.SlashingHistory != "" && (p.Guard.Read == nil || p.Guard.Seed == nil) {
		bad("slashing-history", "use the provost program itself", "this program has no slashing protection to put it into")
	}
}

var (
	namedKeystore  = regexp.MustCompile(`^(keystore.*|voting-keystore.*|.*\.keystore)\.json$`)
	numberedName   = regexp.MustCompile(`^keystore-(?:insecure-)?([0-9]{1,6})\.json$`)
	validatorPath  = regexp.MustCompile(`^m/12381/3600/([0-9]{1,9})/0/0$`)
	publicKeyNames = regexp.MustCompile(`^(?:0x)?([0-9a-fA-F]{96})(?:\.txt)?$`)
)

// readKeys finds the keystores, puts them in order and finds the passwords that may belong to them.
func (p Params) readKeys(ctx context.Context, in *inputs, bad func(field, remedy, cause string, args ...any)) {
	const field = "split-keys-dir"
	f, err := findKeys(ctx, p.SplitKeysDir)
	if err != nil {
		bad(field, "name a directory that holds the keystores and nothing but regular files", "%s: %v", p.SplitKeysDir, err)
		return
	}
	in.ignored = f.ignored
	for i, wrong := range f.wrong {
		if i == maxListed {
			bad(field, "mend or remove the first ones, and see", "and %d more files", len(f.wrong)-maxListed)
			break
		}
		bad(field, "take the file from a backup, or move it out of the directory", "%s", wrong)
	}
	if len(f.keys) == 0 {
		if len(f.wrong) == 0 {
			bad(field, "name the directory with the keystores (keystore-0.json, keystore-m_12381_3600_0_0_0-….json, voting-keystore.json, …)", "no keystore was found in %s", p.SplitKeysDir)
		}
		return
	}
	in.order = orderKeys(f.keys)
	if f.shares || exists(filepath.Join(filepath.Dir(f.root), LockFileName)) {
		in.warnings = append(in.warnings, "the keystores lie beside a "+LockFileName+": they look like key shares of a cluster, which are no validators' keys; combine that cluster first")
	}
	seen := map[cluster.PubKey]string{}
	for _, k := range f.keys {
		if other, twice := seen[k.keystore.PubKey]; twice {
			bad(field, "remove one of them: a key that is split twice would sign twice", "%s and %s hold the same key %s", other, k.file, k.keystore.PubKey)
		}
		seen[k.keystore.PubKey] = k.file
	}
	if p.SplitPasswordsFile == "" {
		for i := range f.keys {
			f.keys[i].passwords = f.passwordsOf(f.keys[i])
		}
		in.keys = f.keys
		return
	}
	raw, err := readSecretFile(p.SplitPasswordsFile, 64<<20)
	defer clear(raw)
	var lines []keystore.Password
	if err == nil {
		for line := range strings.Lines(string(raw)) {
			if strings.TrimRight(line, "\r\n") == "" {
				continue
			}
			var one keystore.Password
			if one, err = keystore.ParsePassword([]byte(line)); err != nil {
				break
			}
			lines = append(lines, one)
		}
	}
	switch {
	case err != nil:
		bad("split-passwords-file", "give a file of mode 0600 with one password, or one a line", "%s: %v", p.SplitPasswordsFile, err)
	case len(lines) != 1 && len(lines) != len(f.keys):
		bad("split-passwords-file", "give one password for all, or one a line in the order of the keystores", "%d passwords for %d keystores", len(lines), len(f.keys))
	default:
		for i := range f.keys {
			f.keys[i].given = []keystore.Password{lines[min(i, len(lines)-1)]}
		}
	}
	in.keys = f.keys
}

// foundKeys is what a walk through the directory of keys saw.
type foundKeys struct {
	root    string
	keys    []splitKey
	wrong   []string // files that should be keystores and aren't, with the reason
	ignored []string
	texts   []string            // relative paths of .txt files
	byKey   map[string][]string // files named after a public key
	shares  bool                // a cluster's lock lies among them
}

// findKeys walks the directory. Links are refused: what they lead to may change between looking and
// reading, and a key behind two names would be split twice.
func findKeys(ctx context.Context, dir string) (*foundKeys, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(root); err != nil {
		return nil, short(err)
	} else if info.Mode()&fs.ModeSymlink != 0 {
		return nil, errors.New("it is a symbolic link: name the directory itself")
	} else if !info.IsDir() {
		return nil, errors.New("it is not a directory")
	}
	f := &foundKeys{root: root, byKey: map[string][]string{}}
	if err := f.walk(ctx); err != nil {
		return nil, err
	}
	// Lighthouse, Lodestar and Nimbus keep passwords in secrets beside validators. What else is there is
	// nobody's business.
	beside := filepath.Join(filepath.Dir(root), "secrets")
	if info, err := os.Lstat(beside); err == nil && info.IsDir() {
		d, err := os.Open(beside)
		if err != nil {
			return nil, short(err)
		}
		names, err := d.Readdirnames(maxDirEntries)
		_ = d.Close() // only read
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, short(err)
		}
		for _, name := range names {
			f.takeSecret(filepath.Join(beside, name), name)
		}
	}
	return f, nil
}

// takeSecret notes a file that is named after a public key: it holds that key's password.
func (f *foundKeys) takeSecret(path, name string) bool {
	m := publicKeyNames.FindStringSubmatch(name)
	if m != nil {
		key := strings.ToLower(m[1])
		f.byKey[key] = append(f.byKey[key], path)
	}
	return m != nil
}

// walk looks at everything below the directory of keys.
func (f *foundKeys) walk(ctx context.Context) error {
	entries := 0
	return filepath.WalkDir(f.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return short(err)
		}
		rel, err := filepath.Rel(f.root, path)
		if err != nil {
			return err
		}
		entries++
		name := d.Name()
		switch {
		case entries > maxDirEntries:
			return fmt.Errorf("more than %d files", maxDirEntries)
		case strings.Count(rel, string(filepath.Separator)) > maxKeyDirDepth:
			return fmt.Errorf("%s lies too deep", rel)
		case d.IsDir():
		case d.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link, which isn't followed", rel)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", rel)
		case f.takeSecret(path, name):
		case strings.HasSuffix(name, ".txt"):
			f.texts = append(f.texts, path)
		case name == LockFileName:
			f.shares = true
		case strings.HasSuffix(name, ".json"):
			f.take(path, rel, namedKeystore.MatchString(name))
		}
		return nil
	})
}

// take looks at a JSON file. One with the name of a keystore must be one; another is a keystore if it
// looks like one.
func (f *foundKeys) take(path, rel string, named bool) {
	raw, err := readPlain(path, keystore.MaxFileBytes)
	if err == nil && !named {
		var looks struct {
			Crypto  json.RawMessage `json:"crypto"`
			Version int             `json:"version"`
		}
		if json.Unmarshal(raw, &looks) != nil || looks.Crypto == nil || looks.Version != 4 {
			f.ignored = append(f.ignored, rel)
			return
		}
	}
	if err != nil {
		if named {
			f.wrong = append(f.wrong, fmt.Sprintf("%s: %v", rel, err))
		} else {
			f.ignored = append(f.ignored, rel)
		}
		return
	}
	ks, err := keystore.Parse(raw)
	if err != nil {
		f.wrong = append(f.wrong, fmt.Sprintf("%s: %v", rel, err))
		return
	}
	f.keys = append(f.keys, splitKey{file: filepath.ToSlash(rel), keystore: ks})
}

// passwordsOf lists the files that may hold a keystore's password: named as it is and beside it, named
// after its key, named as it is elsewhere, and only where there is none of these every text file.
func (f *foundKeys) passwordsOf(k splitKey) []string {
	path := filepath.Join(f.root, filepath.FromSlash(k.file))
	base := strings.TrimSuffix(filepath.Base(path), ".json") + ".txt"
	var beside, elsewhere []string
	for _, t := range f.texts {
		switch {
		case filepath.Base(t) != base:
		case filepath.Dir(t) == filepath.Dir(path):
			beside = append(beside, t)
		default:
			elsewhere = append(elsewhere, t)
		}
	}
	out := append(append(beside, f.byKey[k.keystore.PubKey.String()[2:]]...), elsewhere...)
	if len(beside) > 0 {
		out = out[:len(out)-len(elsewhere)] // another keystore's of the same name
	}
	if len(out) == 0 {
		out = f.texts
	}
	return out[:min(len(out), maxPasswordTries)]
}

// orderKeys sorts keystores and says by which rule: the numbers in their names, else the numbers in
// their derivation paths, else their names. The order decides which address each validator gets.
func orderKeys(keys []splitKey) string {
	by := func(number func(splitKey) (string, bool)) bool {
		numbers := map[string]int{}
		seen := map[int]bool{}
		for _, k := range keys {
			text, ok := number(k)
			n, err := strconv.Atoi(text)
			if !ok || err != nil || seen[n] {
				return false
			}
			seen[n], numbers[k.file] = true, n
		}
		slices.SortFunc(keys, func(a, b splitKey) int { return numbers[a.file] - numbers[b.file] })
		return true
	}
	match := func(re *regexp.Regexp, s string) (string, bool) {
		m := re.FindStringSubmatch(s)
		if m == nil {
			return "", false
		}
		return m[1], true
	}
	switch {
	case by(func(k splitKey) (string, bool) {
		return match(numberedName, k.file[strings.LastIndexByte(k.file, '/')+1:])
	}):
		return "the numbers in the keystores' names"
	case by(func(k splitKey) (string, bool) { return match(validatorPath, k.keystore.Path) }):
		return "the numbers in the keystores' derivation paths"
	default:
		slices.SortFunc(keys, func(a, b splitKey) int { return strings.Compare(a.file, b.file) })
		return "the keystores' names"
	}
}

// openKeys opens every keystore, in parallel, before anything is made of any. It returns the keys in
// order; the caller wipes them.
func (r *resolved) openKeys(ctx context.Context, m *meter) ([]bls.SecretKey, error) {
	out := make([]bls.SecretKey, len(r.in.keys))
	var mu sync.Mutex // guards wrong
	var wrong []string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, k := range r.in.keys {
		g.Go(func() error {
			key, err := k.open(gctx)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, fmt.Sprintf("%s: %v", k.file, err))
				return nil
			}
			out[i] = key
			m.step("opening keystores")
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && len(wrong) > 0 {
		slices.Sort(wrong)
		remedy := "put each password into a .txt file of the keystore's name, or give them with --split-passwords-file"
		if r.SplitPasswordsFile != "" {
			remedy = fmt.Sprintf("correct --split-passwords-file; the order is that of %s", r.in.order)
		}
		err = &Error{Kind: KindUsage, Action: "open keystores in", Path: r.SplitKeysDir, Remedy: remedy,
			Err: fmt.Errorf("%d of %d didn't open: %s", len(wrong), len(out), listSome(wrong))}
	}
	if err != nil {
		for _, k := range out {
			k.Wipe()
		}
		return nil, err
	}
	return out, nil
}

func listSome(list []string) string {
	if len(list) > maxListed {
		return strings.Join(list[:maxListed], "; ") + fmt.Sprintf("; and %d more", len(list)-maxListed)
	}
	return strings.Join(list, "; ")
}

func (k splitKey) open(ctx context.Context) (bls.SecretKey, error) {
	if len(k.given) > 0 {
		key, err := k.keystore.Decrypt(ctx, k.given[0])
		if errors.Is(err, keystore.ErrPassword) {
			err = errors.New("the given password doesn't open it")
		}
		return key, err
	}
	var tried []string
	for _, file := range k.passwords {
		raw, err := readPlain(file, keystore.MaxPasswordBytes)
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s (%v)", filepath.Base(file), err))
			continue
		}
		password, err := keystore.ParsePassword(raw)
		clear(raw)
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s (%v)", filepath.Base(file), err))
			continue
		}
		key, err := k.keystore.Decrypt(ctx, password)
		if !errors.Is(err, keystore.ErrPassword) {
			return key, err
		}
		tried = append(tried, shortName(filepath.Base(file)))
	}
	if len(tried) == 0 {
		return bls.SecretKey{}, errors.New("no password file was found for it")
	}
	return bls.SecretKey{}, fmt.Errorf("no password fits, tried %s", listSome(tried))
}

func shortName(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// readHistory reads the slashing history and holds it against network, clock and keys.
func (p Params) readHistory(in *inputs, bad func(field, remedy, cause string, args ...any)) {
	const field = "slashing-history"
	if p.Guard.Read == nil {
		return
	}
	network, known := cluster.NetworkByName(p.Network)
	if in.definition != nil {
		network, known = cluster.NetworkByFork(in.definition.ForkVersion)
	}
	raw, _, err := readFile(p.SlashingHistory, maxHistoryBytes)
	if err != nil {
		bad(field, "name the file that the old client exported", "%s: %v", p.SlashingHistory, err)
		return
	}
	signed, root, err := p.Guard.Read(raw, network.ValidatorsRoot)
	if err != nil {
		bad(field, "export it again from the old client, for this network", "%s: %v", p.SlashingHistory, err)
		return
	}
	in.history = &history{root: root, signed: signed}
	if !known {
		in.warnings = append(in.warnings, "the slashing history is of the chain with genesis validators root "+root.String()+"; nothing here knows whether that is the test network")
	} else {
		p.checkFuture(in, network, bad)
	}
	var missing []string
	for _, k := range in.keys {
		if _, ok := signed[k.keystore.PubKey]; !ok {
			missing = append(missing, k.keystore.PubKey.String())
		}
	}
	switch {
	case len(missing) == 0:
	case p.NoSlashingHistory == NoHistoryPhrase:
		in.warnings = append(in.warnings, fmt.Sprintf("the slashing history doesn't cover %d of %d validators, as was confirmed: %s", len(missing), len(in.keys), listSome(missing)))
	default:
		bad(field, fmt.Sprintf("export it from every client that ran them; for keys that have none, add --no-slashing-history=%q", NoHistoryPhrase),
			"it doesn't cover %d of %d validators: %s", len(missing), len(in.keys), listSome(missing))
	}
}

// checkFuture refuses a history that is ahead of the clock: one of the two is wrong, and a guard with
// marks in the future would silence a validator.
func (p Params) checkFuture(in *inputs, network cluster.Network, bad func(field, remedy, cause string, args ...any)) {
	clock := network.Clock()
	slot, _ := clock.At(time.Now())
	epoch := clock.Epoch(slot)
	for _, k := range in.keys {
		s := in.history.signed[k.keystore.PubKey]
		if s.HasAttestation && max(s.Source, s.Target) > epoch+1 || s.HasBlock && s.Slot > slot+1 {
			bad("slashing-history", "set this machine's clock, or export the history again", "validator %s is said to have signed target %d, block %d; by this machine's clock it is epoch %d, slot %d",
				k.keystore.PubKey, s.Target, s.Slot, epoch, slot)
			return
		}
	}
}

// seedGuards puts slashing protection into each node directory.
func (r *resolved) seedGuards(ctx context.Context, dir string) error {
	if r.in.history == nil {
		return nil
	}
	seed := Seed{Network: r.network, ValidatorsRoot: r.in.history.root, Signed: map[cluster.PubKey]Signed{}}
	for _, k := range r.in.keys {
		pub := k.keystore.PubKey
		seed.Keys = append(seed.Keys, pub)
		if s, ok := r.in.history.signed[pub]; ok {
			seed.Signed[pub] = s
		}
	}
	for n := range r.Nodes {
		at := filepath.Join(dir, nodeDirName(n), guardDirName)
		if err := makeDir(at); err != nil {
			return err
		}
		if err := r.Guard.Seed(ctx, at, seed); err != nil {
			return fmt.Errorf("put the slashing history into %s: %w", nodeDirName(n), err)
		}
		if err := os.Chmod(filepath.Join(at, guardFileName), modeGuard); err != nil {
			return err
		}
		if err := syncDir(at); err != nil {
			return err
		}
	}
	return nil
}

// shareHistory is the old validators' history under the keys of one node's shares, for a validator
// client that guards those: a share signs the same messages.
func (r *resolved) shareHistory(lock *cluster.Lock, node int) (string, error) {
	if r.in.history == nil {
		return "", nil
	}
	type block struct {
		Slot string `json:"slot"`
	}
	type vote struct {
		Source string `json:"source_epoch"`
		Target string `json:"target_epoch"`
	}
	type entry struct {
		PubKey cluster.PubKey `json:"pubkey"`
		Blocks []block        `json:"signed_blocks"`
		Votes  []vote         `json:"signed_attestations"`
	}
	data := []entry{}
	for v := range lock.Validators {
		s, ok := r.in.history.signed[lock.Validators[v].PubKey]
		if !ok {
			continue
		}
		e := entry{PubKey: lock.Validators[v].PublicShares[node], Blocks: []block{}, Votes: []vote{}}
		if s.HasBlock {
			e.Blocks = append(e.Blocks, block{fmt.Sprint(uint64(s.Slot))})
		}
		if s.HasAttestation {
			e.Votes = append(e.Votes, vote{fmt.Sprint(uint64(s.Source)), fmt.Sprint(uint64(max(s.Source, s.Target)))})
		}
		data = append(data, e)
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]string{"interchange_format_version": "5", "genesis_validators_root": r.in.history.root.String()}, "data": data})
	return string(raw), err
}

// readPlain reads a regular file of at most limit bytes that is no link.
func readPlain(path string, limit int64) ([]byte, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, errors.New("it is a symbolic link, which isn't followed")
	}
	raw, _, err := readFile(path, limit)
	return raw, err
}

// readSecretFile reads a file that only its owner may read.
func readSecretFile(path string, limit int64) ([]byte, error) {
	raw, info, err := readFile(path, limit)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		clear(raw)
		return nil, fmt.Errorf("others may read it (mode %s): chmod 600 %s", octal(info.Mode()), shellQuote(path))
	}
	if !ours(info) && os.Geteuid() != 0 {
		clear(raw)
		return nil, errors.New("it belongs to another user")
	}
	return raw, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func short(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}
