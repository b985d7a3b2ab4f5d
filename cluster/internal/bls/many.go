package bls

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"app.provost/cluster"

	herumi "github.com/herumi/bls-eth-go-binary/bls"
)

// SignedMessages are messages with the signatures that one key should have made of them.
type SignedMessages struct {
	Key        PublicKey
	Messages   [][]byte
	Signatures []SignaturePoint
}

// VerifyMany returns nil only when every signature is its key's over its message. It compares sums
// with random weights of 64 bits, so a batch with a wrong signature passes with a chance below
// 2^-63, whoever made it. It doesn't say which one is wrong. It costs one pairing for each key and
// one more, instead of two for each signature.
func VerifyMany(batch []SignedMessages) error {
	if err := initOnce(); err != nil {
		return err
	}
	count := 0
	for _, b := range batch {
		if len(b.Messages) != len(b.Signatures) || len(b.Messages) == 0 {
			return fmt.Errorf("verify %d signatures of %d messages: %w", len(b.Signatures), len(b.Messages), ErrVerify)
		}
		count += len(b.Messages)
	}
	if count == 0 {
		return fmt.Errorf("verify signatures of nothing: %w", ErrVerify)
	}
	weights, err := randomWeights(count)
	if err != nil {
		return err
	}
	// The product of e(key, sum of weighted messages) over the keys, and of e(-generator, sum of
	// weighted signatures), is one.
	g1 := make([]herumi.G1, 0, len(batch)+1)
	g2 := make([]herumi.G2, 0, len(batch)+1)
	all := make([]herumi.G2, 0, count)
	for _, b := range batch {
		if b.Key.p == nil {
			return ErrBadPubKey
		}
		hashes := make([]herumi.G2, len(b.Messages))
		for i, msg := range b.Messages {
			if b.Signatures[i].p == nil {
				return ErrBadSignature
			}
			if len(msg) == 0 {
				return fmt.Errorf("verify a signature of nothing: %w", ErrVerify)
			}
			hash := herumi.HashAndMapToSignature(forC(msg))
			if hash == nil {
				return fmt.Errorf("map a message to the curve: %w", ErrVerify)
			}
			hashes[i] = *herumi.CastFromSign(hash)
			all = append(all, *herumi.CastFromSign(b.Signatures[i].p))
		}
		var sum herumi.G2
		herumi.G2MulVec(&sum, hashes, weights[len(all)-len(hashes):len(all)])
		g1, g2 = append(g1, *herumi.CastFromPublicKey(b.Key.p)), append(g2, sum)
	}
	var generator herumi.PublicKey
	herumi.GetGeneratorOfPublicKey(&generator)
	var minus herumi.G1
	herumi.G1Neg(&minus, herumi.CastFromPublicKey(&generator))
	var sum herumi.G2
	herumi.G2MulVec(&sum, all, weights)
	g1, g2 = append(g1, minus), append(g2, sum)
	var e herumi.GT
	herumi.MillerLoopVec(&e, g1, g2)
	herumi.FinalExp(&e, &e)
	if !e.IsOne() {
		return ErrVerify
	}
	return nil
}

// randomWeights draws numbers of 64 bits, none of them zero: that would leave its part out.
func randomWeights(n int) ([]herumi.Fr, error) {
	raw := make([]byte, 8*n)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("draw weights: %w", err)
	}
	weights := make([]herumi.Fr, n)
	for i := range weights {
		w := raw[8*i : 8*i+8]
		binary.LittleEndian.PutUint64(w, max(binary.LittleEndian.Uint64(w), 1))
		if err := weights[i].SetLittleEndian(w); err != nil {
			return nil, fmt.Errorf("draw weights: %w", err)
		}
	}
	return weights, nil
}

// OnePolynomial returns nil only when any threshold of a validator's public shares, in the order of
// their indices from 1, gives its key. Several validators are looked at together, by sums with
// random weights of 64 bits: a wrong one passes with a chance below 2^-63. It doesn't say which one
// is wrong; all must have the same number of shares.
func OnePolynomial(keys []PublicKey, shares [][]PublicKey, t cluster.Threshold) error {
	if len(keys) == 0 || len(keys) != len(shares) {
		return fmt.Errorf("hold %d keys against %d sets of shares", len(keys), len(shares))
	}
	n := len(shares[0])
	if t < 2 || int(t) > n || n > cluster.MaxOperators {
		return fmt.Errorf("a threshold of %d of %d shares can't be checked", t, n)
	}
	var weights []herumi.Fr
	if len(keys) > 1 {
		var err error
		if weights, err = randomWeights(len(keys)); err != nil {
			return err
		}
	}
	column := func(at func(v int) PublicKey) (PublicKey, error) {
		points := make([]herumi.G1, len(keys))
		for v := range keys {
			k := at(v)
			if k.p == nil {
				return PublicKey{}, ErrBadPubKey
			}
			points[v] = *herumi.CastFromPublicKey(k.p)
		}
		sum := points[0]
		if weights != nil {
			herumi.G1MulVec(&sum, points, weights)
		}
		p := *herumi.CastToPublicKey(&sum)
		return PublicKey{&p}, nil
	}
	key, err := column(func(v int) PublicKey { return keys[v] })
	if err != nil {
		return err
	}
	sums := make([]PublicKey, n)
	for i := range sums {
		for _, s := range shares {
			if len(s) != n {
				return fmt.Errorf("found %d shares beside %d", len(s), n)
			}
		}
		if sums[i], err = column(func(v int) PublicKey { return shares[v][i] }); err != nil {
			return err
		}
	}
	// The first threshold shares give the key, and so does each further one with all but one of them:
	// then all lie on one polynomial.
	want := cluster.PubKey(key.p.Serialize())
	for last := int(t) - 1; last < n; last++ {
		some := map[cluster.ShareIndex]PublicKey{cluster.PeerIndex(last).Share(): sums[last]}
		for i := range int(t) - 1 {
			some[cluster.PeerIndex(i).Share()] = sums[i]
		}
		got, err := RecoverPubKey(some)
		if err != nil {
			return err
		}
		if got != want {
			if len(keys) > 1 {
				return errSharesOfSome
			}
			if last < int(t) {
				return fmt.Errorf("shares 1 to %d give another key, %s: the key or one of them was changed", t, got)
			}
			return fmt.Errorf("share %d doesn't belong to the others", last+1)
		}
	}
	return nil
}

var errSharesOfSome = errors.New("the shares of one of the validators don't give its key")
