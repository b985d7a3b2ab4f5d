package create

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	"golang.org/x/sync/errgroup"
)

var toolVersionPattern = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)

// depositFile is the content of one deposit file that most nodes have.
type depositFile struct {
	node *nodeDir
	raw  []byte
	sum  [32]byte
}

// checkDepositFiles checks that each node has the deposit files that the lock implies, that they
// are the same everywhere, and every value in them.
func (v *verifier) checkDepositFiles(ctx context.Context, s *sheet, lock *cluster.Lock, signed []bool) error {
	var amounts []cluster.Gwei
	for _, dv := range lock.Validators {
		for _, d := range dv.Deposits {
			amounts = append(amounts, d.Amount)
		}
	}
	if !lock.Definition.Version.HasDepositLists() {
		// Such locks have room for one deposit at most, so the files speak for themselves: each is held
		// against the validators' keys and addresses.
		amounts = append(amounts, v.depositAmountsHere()...)
	}
	slices.Sort(amounts)
	amounts = slices.Compact(amounts)
	v.checkStrayDeposits(amounts)
	if len(amounts) == 0 {
		s.skip("deposits", "", "the deposit files fit the lock", "the lock carries no deposits")
		return nil
	}
	read := false
	for _, amount := range amounts {
		best := v.readDeposits(s, amount)
		if best == nil {
			continue
		}
		read = true
		s.file = best.node.file(depositFileName(amount))
		if err := v.checkDepositFile(ctx, s, best.raw, lock, amount, signed); err != nil {
			return err
		}
	}
	if read {
		s.unprotected("deposit-data*.json", "deposit_cli_version")
	}
	return nil
}

// depositAmountsHere are the amounts that deposit files are named for.
func (v *verifier) depositAmountsHere() (out []cluster.Gwei) {
	for _, n := range v.nodes {
		entries, err := v.src.list(n.file("."))
		if err != nil {
			continue // the checks of single files say so
		}
		for _, e := range entries {
			if a, ok := parseDepositFileName(e.name); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

// parseDepositFileName is the other direction of depositFileName.
func parseDepositFileName(name string) (cluster.Gwei, bool) {
	m := depositFilePattern.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	amount := 32 * cluster.Ether
	if m[1] != "" {
		number, unit := strings.TrimPrefix(m[1], "-"), cluster.Gwei(1)
		if eth, ok := strings.CutSuffix(number, "eth"); ok {
			number, unit = eth, cluster.Ether
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(number, "gwei"), 10, 64)
		if err != nil || n > uint64(2048*cluster.Ether/unit) {
			return 0, false
		}
		amount = cluster.Gwei(n) * unit
	}
	return amount, depositFileName(amount) == name
}

func (v *verifier) checkStrayDeposits(amounts []cluster.Gwei) {
	expected := map[string]bool{}
	for _, a := range amounts {
		expected[depositFileName(a)] = true
	}
	for _, n := range v.nodes {
		entries, err := v.src.list(n.file("."))
		if err != nil {
			continue // the checks of single files say so
		}
		for _, e := range entries {
			if depositFilePattern.MatchString(e.name) && !expected[e.name] {
				n.sheet.file = n.file(e.name)
				n.sheet.check(fmt.Sprintf("deposit.stray[%s]", e.name), "", "there are no deposit files but those of the lock", errors.New("the lock has no deposits of this amount"), "don't deposit with it; move it elsewhere")
			}
		}
	}
}

// readDeposits reads the file of an amount from every node and returns what most nodes have; nil
// when none can be read.
func (v *verifier) readDeposits(s *sheet, amount cluster.Gwei) *depositFile {
	name := depositFileName(amount)
	files := make([]*depositFile, len(v.nodes))
	errs := make([]error, len(v.nodes))
	votes, kept := map[[32]byte]int{}, map[[32]byte][]byte{}
	var best *depositFile
	for i, n := range v.nodes {
		raw, _, err := v.src.read(n.file(name), maxDepositBytes)
		if err != nil {
			errs[i] = err
			continue
		}
		sum := sha256.Sum256(raw)
		if c := compact(raw); c != nil {
			sum = sha256.Sum256(c)
		}
		files[i] = &depositFile{node: n, sum: sum}
		if votes[sum]++; votes[sum] == 1 {
			files[i].raw = raw // of equal files one is kept
			kept[sum] = raw
		}
	}
	for _, f := range files {
		if f != nil && f.raw != nil && (best == nil || votes[f.sum] > votes[best.sum]) {
			best = f
		}
	}
	for i, n := range v.nodes {
		n.sheet.file = n.file(name)
		field, err, remedy := "", errs[i], fileRemedy(errs[i])
		if err == nil && files[i].sum != best.sum {
			field, _ = differentJSON(best.raw, kept[files[i].sum])
			err, remedy = fmt.Errorf("it differs from %s", best.node.file(name)), "don't deposit with either before you know which one is right"
		}
		n.sheet.check(fmt.Sprintf("deposit[%s]", depositLabel(amount)), field, "the deposit file is there and the same as the other nodes'", err, remedy)
	}
	return best
}

// checkDepositFile checks every value of a deposit file. signed says of which validators the deposits
// in the lock were found good, so that the same ones needn't be looked at again.
func (v *verifier) checkDepositFile(ctx context.Context, s *sheet, raw []byte, lock *cluster.Lock, amount cluster.Gwei, signed []bool) error {
	id := fmt.Sprintf("deposit[%s]", depositLabel(amount))
	entries, err := parseDeposits(raw)
	if err == nil && len(entries) != len(lock.Validators) {
		err = fmt.Errorf("found %d deposits for %d validators", len(entries), len(lock.Validators))
	}
	if !s.check(id, fieldOf(err), "the deposit file can be read and has one deposit per validator", err, remedyChanged) {
		return nil
	}
	byKey := make(map[string]int, len(lock.Validators))
	for i, dv := range lock.Validators {
		byKey[hex.EncodeToString(dv.PubKey[:])] = i
	}
	sheets := make([]sheet, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.workers)
	for i := range entries {
		sheets[i] = sheet{file: s.file}
		validator, ok := byKey[entries[i].PubKey]
		if !ok {
			validator = -1
		}
		delete(byKey, entries[i].PubKey) // a second deposit for the key is one too many
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			checkDepositEntry(&sheets[i], fmt.Sprintf("%s[%d]", id, i), i, entries[i], lock, validator, amount, validator >= 0 && validator < len(signed) && signed[validator])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range sheets {
		s.checks = append(s.checks, sheets[i].checks...)
	}
	return nil
}

const remedyDeposit = "don't deposit with this file: money could be lost; take it from another node or make it again"

func checkDepositEntry(s *sheet, id string, i int, e depositEntry, lock *cluster.Lock, validator int, amount cluster.Gwei, lockSigned bool) {
	check := func(name, what string, err error) bool {
		return s.check(id+"."+name, fmt.Sprintf("[%d].%s", i, name), what, err, remedyDeposit)
	}
	var err error
	if validator < 0 {
		err = errors.New("the key is not in the lock, or stands twice in the file")
	}
	if !check("pubkey", "the deposit is for a validator of the cluster", err) {
		s.skip(id+".signature", fmt.Sprintf("[%d].signature", i), "the validator signed the deposit", "it isn't known whose deposit it is")
		return
	}
	d, dv := &lock.Definition, &lock.Validators[validator]

	message := cluster.DepositMessage{PubKey: dv.PubKey, Amount: cluster.Gwei(e.Amount)}
	want, err := wantCredentials(d, validator)
	if parseErr := message.WithdrawalCredentials.UnmarshalText([]byte(e.WithdrawalCredentials)); parseErr != nil {
		err = parseErr
	} else if err == nil && message.WithdrawalCredentials != want {
		err = fmt.Errorf("money would go to %s, the definition says %s", message.WithdrawalCredentials, want)
	}
	check("withdrawal_credentials", "the money can only be withdrawn to the address of the definition", err)

	err = nil
	if message.Amount != amount {
		err = fmt.Errorf("found %d gwei, want %d", e.Amount, uint64(amount))
	}
	check("amount", "the amount is that of the file", err)

	err = nil
	if e.ForkVersion != d.ForkVersion.String()[2:] {
		err = fmt.Errorf("found %.40q, the lock says %s", e.ForkVersion, d.ForkVersion)
	}
	check("fork_version", "the deposit is for the network of the lock", err)

	err = nil
	if network, known := cluster.NetworkByFork(d.ForkVersion); known && e.NetworkName != network.Name {
		err = fmt.Errorf("found %.40q, the lock says %s", e.NetworkName, network.Name)
	}
	check("network_name", "the network is named rightly", err)

	err = nil
	if !toolVersionPattern.MatchString(e.DepositCLIVersion) {
		err = fmt.Errorf("%.40q isn't a version", e.DepositCLIVersion)
	}
	check("deposit_cli_version", "launchpads can read the file", err)

	var sig cluster.Signature
	sigErr := sig.UnmarshalText([]byte(e.Signature))
	check("deposit_message_root", "the root of the deposit message is right", compareRoot(e.DepositMessageRoot, message.Root()))
	if sigErr == nil {
		check("deposit_data_root", "the root of the deposit is right", compareRoot(e.DepositDataRoot, message.DataRoot(sig)))
		if !lockSigned || !slices.ContainsFunc(dv.Deposits, func(dep cluster.Deposit) bool { return dep.DepositMessage == message && dep.Signature == sig }) {
			root := message.SigningRoot(d.ForkVersion)
			sigErr = bls.Verify(dv.PubKey, root[:], sig)
		}
	}
	check("signature", "the validator signed the deposit", sigErr)
}

func compareRoot(text string, want cluster.Root) error {
	var got cluster.Root
	if err := got.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("found %s, the content gives %s", got, want)
	}
	return nil
}
