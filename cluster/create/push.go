package create

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/keymanager"
	"app.provost/cluster/internal/keystore"
)

const (
	pushBatch   = 16 // keystores in one request
	pushTries   = 3
	undoTimeout = time.Minute
)

type tokens []keymanager.Token

func (p Params) checkKeymanagers(bad func(field, remedy, cause string, args ...any)) {
	if len(p.KeymanagerAddresses) == 0 {
		if p.KeymanagerTokensFile != "" {
			bad("keymanager-addresses", "give one address for each node, separated by commas", "the keymanagers' addresses are missing")
		}
		return
	}
	if p.Nodes != 0 && len(p.KeymanagerAddresses) != p.Nodes {
		bad("keymanager-addresses", "give one address for each node, node 0 first", "found %d addresses for %d nodes", len(p.KeymanagerAddresses), p.Nodes)
	}
	if p.KeymanagerTokensFile == "" {
		bad("keymanager-auth-tokens-file", "name a file of mode 0600 with one token a line, in the order of the addresses", "the keymanagers' tokens are missing")
	}
	seen := map[string]bool{}
	for _, a := range p.KeymanagerAddresses {
		u, err := keymanager.ParseAddress(a)
		if err != nil {
			bad("keymanager-addresses", "give addresses like https://vc0.example:5062", "%v", err)
			continue
		}
		if seen[u.String()] {
			bad("keymanager-addresses", "give each node a validator client of its own", "%s stands twice: two shares of a key must not lie on one machine", u)
		}
		seen[u.String()] = true
	}
}

func (p Params) readTokens(in *inputs, bad func(field, remedy, cause string, args ...any)) {
	const field = "keymanager-auth-tokens-file"
	raw, err := readSecretFile(p.KeymanagerTokensFile, keymanager.MaxTokenFileBytes)
	defer clear(raw)
	if err == nil {
		in.tokens, err = keymanager.ParseTokens(raw)
	}
	switch {
	case err != nil:
		bad(field, "give a file of mode 0600 with one token a line", "%s: %v", p.KeymanagerTokensFile, err)
	case len(in.tokens) != len(p.KeymanagerAddresses):
		bad(field, "put one token a line, in the order of the addresses", "%d tokens for %d addresses", len(in.tokens), len(p.KeymanagerAddresses))
	}
	for _, a := range p.KeymanagerAddresses {
		if u, err := keymanager.ParseAddress(a); err == nil && keymanager.Exposed(u) {
			in.warnings = append(in.warnings, fmt.Sprintf("key shares, their passwords and the token go to %s over plain HTTP: anybody on the way can read them", u))
		}
	}
}

// delivery carries the key shares of all nodes to their validator clients.
type delivery struct {
	addresses []string
	clients   []*keymanager.Client
	items     [][]keymanager.Item // by node and validator
	taken     [][]cluster.PubKey  // by node: what a server has, as far as it is known
}

// newDelivery makes the clients and asks each server whether it is there and takes the token, so that
// no key is made for one that isn't.
func (r *resolved) newDelivery(ctx context.Context) (*delivery, error) {
	if len(r.KeymanagerAddresses) == 0 {
		return nil, nil
	}
	d := &delivery{addresses: r.KeymanagerAddresses, items: make([][]keymanager.Item, r.Nodes), taken: make([][]cluster.PubKey, r.Nodes)}
	var wrong []string
	for n, address := range r.KeymanagerAddresses {
		d.items[n] = make([]keymanager.Item, r.NumValidators)
		c, err := keymanager.New(address, r.in.tokens[n])
		if err == nil {
			d.clients = append(d.clients, c)
			err = c.Check(ctx)
		}
		if ctx.Err() != nil {
			d.close()
			return nil, ctx.Err()
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("node %d (%s): %v", n, address, err))
		}
	}
	if len(wrong) > 0 {
		d.close()
		return nil, &Error{Kind: KindUsage, Action: "reach keymanagers", Err: errors.New(strings.Join(wrong, "; ")),
			Remedy: "start the validator clients with their keymanager API, check addresses and tokens; no key was made and nothing was sent"}
	}
	return d, nil
}

func (d *delivery) close() {
	if d == nil {
		return
	}
	for _, c := range d.clients {
		c.Close()
	}
}

// add takes a sealed share, after opening it once more.
func (d *delivery) add(node, validator int, share bls.SecretKey, raw []byte, password keystore.Password, derived keystore.Derived) error {
	ks, err := keystore.Parse(raw)
	if err != nil {
		return err
	}
	back, err := ks.DecryptDerived(derived, password)
	if err != nil {
		return err
	}
	defer back.Wipe()
	if !back.Equal(share) {
		return errors.New("a sealed key share doesn't open to what was sealed")
	}
	d.items[node][validator] = keymanager.Item{PubKey: ks.PubKey, Keystore: raw, Password: password}
	return nil
}

// push hands all shares over, node by node. On an error nothing that is known to have arrived stays:
// it is taken back, and the error says what could not be.
func (d *delivery) push(ctx context.Context, r *resolved, lock *cluster.Lock, m *meter) error {
	for n := range d.clients {
		history, err := r.shareHistory(lock, n)
		if err == nil {
			err = d.pushNode(ctx, n, history, m)
		}
		if err != nil {
			return d.undo(ctx, n, err)
		}
	}
	return nil
}

func (d *delivery) pushNode(ctx context.Context, n int, history string, m *meter) error {
	for batch := range slices.Chunk(d.items[n], pushBatch) {
		var statuses []keymanager.Status
		var err error
		uncertain := false // a request may have arrived although its answer didn't
		for try := range pushTries {
			if try > 0 {
				select {
				case <-time.After(time.Duration(try) * time.Second):
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				err = ctx.Err()
				break
			}
			if statuses, err = d.clients[n].Import(ctx, batch, history); err == nil {
				break
			}
			uncertain = true
			if !errors.Is(err, keymanager.ErrNoAnswer) {
				break
			}
		}
		if err != nil {
			if uncertain {
				for _, it := range batch {
					d.taken[n] = append(d.taken[n], it.PubKey)
				}
			}
			return err
		}
		var wrong []string
		for i, s := range statuses {
			switch {
			case s.State == keymanager.Imported, s.State == keymanager.Duplicate && uncertain:
				d.taken[n] = append(d.taken[n], batch[i].PubKey)
				m.step("handing over key shares")
			case s.State == keymanager.Duplicate:
				wrong = append(wrong, fmt.Sprintf("key share %s: the server says that it has this new key already", batch[i].PubKey))
			default:
				wrong = append(wrong, fmt.Sprintf("key share %s: %s", batch[i].PubKey, orNone(s.Message)))
			}
		}
		if len(wrong) > 0 {
			return errors.New(listSome(wrong))
		}
	}
	return nil
}

// undo takes back what arrived anywhere and says for each node how it stands. No duty was ever signed
// with these shares, so nothing of them has to be kept.
func (d *delivery) undo(ctx context.Context, failed int, cause error) error {
	cancelled := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var told, left []string
	for n := range d.clients {
		where := fmt.Sprintf("node %d (%s)", n, d.addresses[n])
		what := ""
		switch kept := d.takeBack(ctx, n); {
		case len(d.taken[n]) == 0:
			what = "got nothing"
		case len(kept) == 0:
			what = fmt.Sprintf("%s taken back", count(len(d.taken[n]), "key share"))
		default:
			what = fmt.Sprintf("%s could not be taken back: %s", count(len(kept), "key share"), listSome(kept))
			left = append(left, where)
		}
		if n == failed {
			what = cause.Error() + "; " + what
		}
		told = append(told, where+": "+what)
	}
	e := &Error{Kind: KindUnexpected, Action: "hand over key shares", Err: errors.New(strings.Join(told, " | ")),
		Remedy: "no cluster was written; mend what is named and run this again"}
	if cancelled {
		e.Kind, e.Err = KindCancelled, fmt.Errorf("%w: %s", context.Canceled, e.Err)
	}
	if len(left) > 0 {
		e.Kind = KindPartly
		e.Remedy = "no cluster was written, so the shares that stayed belong to none: delete them at " + strings.Join(left, ", ") + ", then run this again"
	}
	return e
}

// takeBack deletes what a node's server has and returns what may still be there.
func (d *delivery) takeBack(ctx context.Context, n int) (kept []string) {
	for batch := range slices.Chunk(d.taken[n], 256) {
		statuses, err := d.clients[n].Delete(ctx, batch)
		for i, key := range batch {
			if err != nil || statuses[i].State == keymanager.Failed {
				kept = append(kept, key.String())
			}
		}
	}
	return kept
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
