package create

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/cluster"
	"app.provost/cluster/internal/download"
	"app.provost/cluster/internal/enr"

	"golang.org/x/sys/unix"
)

const maxDefinitionBytes = download.MaxBytes

// inputs are what the files named by parameters hold.
type inputs struct {
	definition *cluster.Definition
	keys       []splitKey
	order      string   // the rule that put the keys in order, in words
	ignored    []string // files among the keys that are no keystores
	history    *history
	tokens     tokens
	warnings   []string
}

// read reads every file that the parameters name and says all that is wrong with them at once. An
// error means that the context ended.
func (p Params) read(ctx context.Context) (in inputs, problems []Problem, err error) {
	bad := func(field, remedy, cause string, args ...any) {
		problems = append(problems, Problem{field, fmt.Sprintf(cause, args...), remedy})
	}
	if p.DefinitionFile != "" {
		d, warning, err := readDefinition(ctx, p)
		var own *Problem
		switch {
		case ctx.Err() != nil:
			return in, nil, ctx.Err()
		case errors.As(err, &own):
			problems = append(problems, *own)
		case err != nil:
			bad("definition-file", "name a cluster-definition.json, or an https:// address of one", "%s: %v", p.DefinitionFile, err)
		}
		in.definition = d
		if warning != "" {
			in.warnings = append(in.warnings, warning)
		}
	}
	if p.SplitExistingKeys && p.SplitKeysDir != "" {
		p.readKeys(ctx, &in, bad)
	}
	if p.SplitExistingKeys && p.SlashingHistory != "" {
		p.readHistory(&in, bad)
	}
	if p.KeymanagerTokensFile != "" {
		p.readTokens(&in, bad)
	}
	return in, problems, ctx.Err()
}

// Error makes a Problem an error, so that deep functions can return one.
func (p *Problem) Error() string { return p.String() }

func readDefinition(ctx context.Context, p Params) (*cluster.Definition, string, error) {
	var raw []byte
	var err error
	warning := ""
	if download.IsURL(p.DefinitionFile) {
		if download.Plain(p.DefinitionFile) {
			warning = "the definition came over plain HTTP: look at its addresses before you deposit"
		}
		raw, err = download.Get(ctx, p.DefinitionFile)
	} else {
		raw, _, err = readFile(p.DefinitionFile, maxDefinitionBytes)
	}
	if err != nil {
		return nil, "", err
	}
	d := new(cluster.Definition)
	err = json.Unmarshal(raw, d)
	if (err != nil || d.Version == "") && bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) && bytes.Contains(raw, []byte(`"cluster_definition"`)) {
		return nil, "", errors.New("it is a lock, not a definition")
	}
	if err != nil {
		return nil, "", fmt.Errorf("not a cluster definition: %w", err)
	}
	if err := p.checkDefinition(d); err != nil {
		return nil, "", err
	}
	if p.DefinitionHash != "" && d.ConfigHash.String() != p.DefinitionHash {
		return nil, "", &Problem{"definition-file", fmt.Sprintf("it has changed since the plan was made: its config hash is %s, the plan has %s", d.ConfigHash, p.DefinitionHash), "look at the new plan"}
	}
	if slices.ContainsFunc(d.Operators, func(o cluster.Operator) bool { return o.ENR != "" }) {
		warning = strings.TrimPrefix(warning+"; the node keys that the definition names (ENRs) are replaced: new ones are made here", "; ")
	}
	return d, warning, nil
}

// checkDefinition checks hashes, signatures and that this process can make all of the cluster: where
// operators hold node keys of their own, only they can.
func (p Params) checkDefinition(d *cluster.Definition) error {
	const changed = "get the file again from who made it: it was changed or damaged"
	wrong := func(field, remedy, cause string, args ...any) error {
		return &Problem{"definition-file", "field " + field + ": " + fmt.Sprintf(cause, args...), remedy}
	}
	switch d.Version {
	case cluster.V1_8, cluster.V1_9, cluster.V1_10, cluster.V1_11:
	case "":
		return &Problem{"definition-file", "it is not a cluster definition: it has no version", "name a cluster-definition.json"}
	default:
		return wrong("version", "make the definition with a newer version of its program", "clusters aren't made from definitions of version %.40q, only v1.8.0 to v1.11.0", string(d.Version))
	}
	config, err := d.ComputeConfigHash()
	if err != nil {
		return wrong("config_hash", changed, "%v", err)
	}
	if config != d.ConfigHash {
		return wrong("config_hash", changed, "the file says %s, its content gives %s", d.ConfigHash, config)
	}
	def, err := d.ComputeDefinitionHash()
	if err != nil {
		return wrong("definition_hash", changed, "%v", err)
	}
	if def != d.DefinitionHash {
		return wrong("definition_hash", changed, "the file says %s, its content gives %s", d.DefinitionHash, def)
	}
	if len(d.Operators) < MinNodes || len(d.Operators) > cluster.MaxOperators {
		return wrong("operators", "make a definition of at least 3 nodes", "it has %d operators, a cluster needs %d to %d", len(d.Operators), MinNodes, cluster.MaxOperators)
	}
	for i, o := range d.Operators {
		if o.Address != "" || len(o.ENRSignature) > 0 || len(o.ConfigSignature) > 0 {
			return wrong(index("operators", i), "let the operators run the key generation together (charon dkg), or make a definition without their addresses",
				"its operators have wallets and node keys of their own, which nobody here can sign with")
		}
	}
	if d.NumValidators < 1 || d.NumValidators != len(d.Validators) {
		return wrong("num_validators", changed, "it says %d, and there are %d address pairs", d.NumValidators, len(d.Validators))
	}
	if !slices.Contains(dkgKnown, d.DKGAlgorithm) {
		return wrong("dkg_algorithm", changed, "%.40q isn't known", d.DKGAlgorithm)
	}
	if len(d.Creator.ConfigSignature) == 0 && d.Creator.Address == "" {
		return nil
	}
	if len(d.Creator.ConfigSignature) == 0 || d.Creator.Address == "" {
		return wrong("creator", changed, "of the creator's address and signature only one is there")
	}
	chainID := p.TestnetChainID
	if n, ok := cluster.NetworkByFork(d.ForkVersion); ok {
		chainID = n.ChainID
	}
	if chainID == 0 {
		return nil // without a network nothing is made, and that is said elsewhere
	}
	address, err := d.Creator.Address.Bytes()
	if err != nil {
		return wrong("creator.address", changed, "%v", err)
	}
	err = enr.CreatorConfig.Verify(cluster.ETHAddress(address), chainID, d.ConfigHash.String(), d.Creator.ConfigSignature)
	if errors.Is(err, enr.ErrContractWallet) {
		return wrong("creator.config_signature", "let the creator sign with an ordinary wallet, or leave the creator out", "%v", err)
	}
	if err != nil {
		return wrong("creator.config_signature", changed, "%v", err)
	}
	return nil
}

// define lays a definition file over the parameters. A flag that says otherwise is refused with both
// values.
func (p Params) define(d *cluster.Definition, bad func(field, remedy, cause string, args ...any)) Params {
	against := func(flag, given, said string) {
		if given != said {
			bad(flag, "leave --"+flag+" out, or have the definition made anew", "--%s is %.80s, the definition file says %.80s", flag, given, said)
		}
	}
	if p.Nodes != 0 {
		against("nodes", fmt.Sprint(p.Nodes), fmt.Sprint(len(d.Operators)))
	}
	if p.Threshold != 0 {
		against("threshold", fmt.Sprint(p.Threshold), fmt.Sprint(d.Threshold))
	}
	if p.NumValidators != 0 {
		against("num-validators", fmt.Sprint(p.NumValidators), fmt.Sprint(d.NumValidators))
	}
	if p.LockVersion != "" {
		against("lock-version", p.LockVersion, string(d.Version))
	}
	if p.ConsensusProtocol != "" {
		against("consensus-protocol", p.ConsensusProtocol, orNone(d.ConsensusProtocol))
	}
	if p.Compounding {
		against("compounding", "set", map[bool]string{true: "set", false: "false"}[d.Compounding])
	}
	if p.TargetGasLimit != 0 && d.TargetGasLimit != 0 {
		against("target-gas-limit", fmt.Sprint(p.TargetGasLimit), fmt.Sprint(d.TargetGasLimit))
	}
	if len(p.DepositAmounts) > 0 {
		given := make([]cluster.Gwei, len(p.DepositAmounts))
		for i, eth := range p.DepositAmounts {
			given[i] = cluster.Gwei(eth) * cluster.Ether
		}
		against("deposit-amounts", fmt.Sprint(given), fmt.Sprint(d.DepositAmounts))
	}
	if p.Name != "" && p.Name != d.Name {
		if d.Name == "" && !d.Signed() {
			d.Name = p.Name // nobody signed that it has none
		} else {
			against("name", p.Name, orNone(d.Name))
		}
	}
	withdrawal, fee := make([]string, len(d.Validators)), make([]string, len(d.Validators))
	for i, v := range d.Validators {
		withdrawal[i], fee[i] = "0x"+strings.TrimPrefix(string(v.Withdrawal), "0x"), "0x"+strings.TrimPrefix(string(v.FeeRecipient), "0x")
	}
	for _, a := range []struct {
		flag         string
		given, wants []string
	}{{"withdrawal-addresses", p.WithdrawalAddresses, withdrawal}, {"fee-recipient-addresses", p.FeeRecipientAddresses, fee}} {
		if len(a.given) > 1 && len(a.given) != len(a.wants) {
			bad(a.flag, "leave --"+a.flag+" out", "--%s has %d addresses, the definition file %d", a.flag, len(a.given), len(a.wants))
			continue
		}
		for i := range a.wants {
			if len(a.given) == 0 {
				break
			}
			if given := a.given[min(i, len(a.given)-1)]; !strings.EqualFold(given, a.wants[i]) {
				against(a.flag, given, a.wants[i])
				break
			}
		}
	}
	p.Nodes, p.Threshold, p.NumValidators, p.Name = len(d.Operators), int(d.Threshold), d.NumValidators, d.Name
	p.WithdrawalAddresses, p.FeeRecipientAddresses = withdrawal, fee
	p.ConsensusProtocol, p.Compounding = d.ConsensusProtocol, d.Compounding
	if d.TargetGasLimit != 0 {
		p.TargetGasLimit = d.TargetGasLimit
	}
	return p
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// checkDefinitionOut says whether the definition can be written where it is wanted, before anything is
// made.
func checkDefinitionOut(file string, t target) error {
	if file == "" {
		return nil
	}
	const action = "write definition to"
	refuse := func(path, cause, remedy string) error {
		return &Error{Kind: KindUsage, Action: action, Path: path, Err: errors.New(cause), Remedy: remedy}
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return explain(action, file, err)
	}
	if _, err := os.Lstat(abs); err == nil {
		return &Error{Kind: KindExists, Action: action, Path: abs, Err: errors.New("something is there already"), Remedy: "choose another --definition-out; nothing is overwritten"}
	}
	if abs == t.dir {
		return refuse(abs, "the cluster itself goes there", "choose another --definition-out")
	}
	dir := filepath.Dir(abs)
	if dir == t.dir {
		if name := filepath.Base(abs); name == archiveName || nodeDirPattern.MatchString(name) {
			return refuse(abs, "the cluster has something of that name", "choose another --definition-out")
		}
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse(abs, "its directory doesn't exist", "make it, or choose another --definition-out")
	case err != nil:
		return explain(action, abs, err)
	case !info.IsDir():
		return refuse(abs, "a file stands where its directory belongs", "choose another --definition-out")
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		e := explain(action, abs, &fs.PathError{Op: "write", Path: dir, Err: err})
		var own *Error
		if errors.As(e, &own) {
			own.Remedy = "choose another --definition-out"
		}
		return e
	}
	return nil
}

// publishDefinition writes the definition to a new file, whole or not at all. It comes after the
// cluster is in place, whose lock holds the same, so a failure loses nothing.
func publishDefinition(file string, d cluster.Definition) (err error) {
	if file == "" {
		return nil
	}
	defer func() {
		if err != nil {
			err = &Error{Kind: KindPartly, Action: "write definition to", Path: file, Err: err,
				Remedy: "the cluster itself is made; the definition is also in each lock, as cluster_definition"}
		}
	}()
	raw, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+"."+hex.EncodeToString(id[:]))
	defer os.Remove(aside) // half a file too
	if err := writeFile(aside, raw, 0o644); err != nil {
		return err
	}
	// Link, unlike rename, never takes the place of a file that somebody made meanwhile.
	if err := os.Link(aside, file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}
