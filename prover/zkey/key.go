package zkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/consensys/gnark-crypto/ecc/bn254"

	"app.provost/prover"
)

// Limits that keep a hostile header from asking for more than any machine proves. All are far above what snarkjs makes
// in practice, and a key at the limits must still have a file behind every byte.
const (
	maxDomain = 1 << 27 // the highest power of two whose double still has a root of unity
	maxVars   = 1 << 28
	maxPublic = 1 << 16
)

// Sections of a groth16 key.
const (
	secProtocol = 1
	secHeader   = 2
	secIC       = 3
	secCoefs    = 4
	secA        = 5
	secB1       = 6
	secB2       = 7
	secC        = 8
	secH        = 9
)

const (
	coefBytes   = 12 + fieldBytes // matrix, constraint, wire, value
	headerBytes = 4 + fieldBytes + 4 + fieldBytes + 3*4 + 3*g1Bytes + 3*g2Bytes
	groth16     = 1 // protocol number
)

// Header is what a key says of its circuit.
type Header struct {
	Vars   int // wires of the circuit, the constant 1 included; a witness has as many values
	Public int // public signals: outputs first, then public inputs
	Domain int // size of the evaluation domain: a power of two, at least constraints + Public + 1
	Coefs  int // non-zero coefficients of the matrices A and B
	Bytes  int64
}

// Budget is what a proof costs, estimated from the header alone and on the safe side.
type Budget struct {
	Time        time.Duration
	MemoryBytes int64 // peak resident memory, pages of the key included
}

// Budget estimates a proof on so many cores (values below 1 count as 1): 40 ms and 40 microseconds per row of the domain,
// divided by the cores; 32 MiB, the size of the key, and 1 KiB per row. The proofs of docs/performance.md stay below both;
// a slow or busy core needs proportionally longer.
func (h Header) Budget(cores int) Budget {
	oneCore := 40*time.Millisecond + time.Duration(h.Domain)*40*time.Microsecond
	return Budget{
		Time:        oneCore / time.Duration(max(cores, 1)),
		MemoryBytes: 32<<20 + h.Bytes + int64(h.Domain)*1024,
	}
}

// Key is an open proving key. It does not change; any number of goroutines may use it until Close.
type Key struct {
	*container
	header Header
	vk     headerPoints
}

// headerPoints are the points of the key's header, checked to be in their groups.
type headerPoints struct {
	alpha1, beta1, delta1 bn254.G1Affine
	beta2, gamma2, delta2 bn254.G2Affine
}

// Open opens a .zkey and checks its header and its table of sections, which takes milliseconds for any size. It does not
// read the points: Check and Prove do. The error is one of this package's kinds or that of the file system.
func Open(path string) (*Key, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	k, err := newKey(f, size, "key "+path)
	if err != nil {
		f.Close()
		return nil, err
	}
	k.closer = f
	return k, nil
}

// New is Open for a key of size bytes that is already at hand, for instance in memory. The caller keeps r, which must not
// change until the key is no longer used.
func New(r io.ReaderAt, size int64) (*Key, error) { return newKey(r, size, "key") }

func newKey(r io.ReaderAt, size int64, name string) (*Key, error) {
	c, err := readContainer(r, size, name, "zkey")
	if errors.Is(err, errMagic) {
		return nil, &refusal{what: name, kind: ErrNotZkey, cause: `it does not begin with "zkey"`,
			remedy: "give the .zkey file that `snarkjs groth16 setup` or `snarkjs zkey contribute` wrote"}
	}
	if err != nil {
		return nil, err
	}
	if c.version != 1 {
		return nil, c.unsupported(fmt.Sprintf("version %d of the format", c.version), "make the key with snarkjs 0.7")
	}
	sec, err := c.want(secProtocol, "protocol", 4)
	if err != nil {
		return nil, err
	}
	var word [4]byte
	if err := c.readAt(word[:], sec.off); err != nil {
		return nil, err
	}
	if id := binary.LittleEndian.Uint32(word[:]); id != groth16 {
		name := map[uint32]string{2: "plonk", 10: "fflonk"}[id]
		if name == "" {
			return nil, c.damaged(fmt.Sprintf("protocol number %d is unknown", id))
		}
		return nil, c.unsupported("a key for "+name, "make a groth16 key with `snarkjs groth16 setup`")
	}
	k := &Key{container: c, header: Header{Bytes: size}}
	if err := k.readHeader(); err != nil {
		return nil, err
	}
	return k, k.checkSections()
}

func (k *Key) readHeader() error {
	sec, ok := k.sections[secHeader]
	if !ok {
		return k.damaged("section 2 (header) is missing")
	}
	// Keys of other curves have longer or other primes and with them another length of this section, so the curve is
	// judged before the length.
	var b [headerBytes]byte
	if err := k.readAt(b[:min(sec.len, headerBytes)], sec.off); err != nil {
		return err
	}
	if !isPrime(b[:], &fpModulus) || sec.len == headerBytes && !isPrime(b[4+fieldBytes:], &frModulus) {
		if n := binary.LittleEndian.Uint32(b[:]); n == 0 || n%8 != 0 || n > 128 {
			return k.damaged("the header names no field")
		}
		return &refusal{what: k.name, kind: ErrWrongCurve, cause: "its field is not that of BN254",
			remedy: "make the circuit and the key for bn128, the default of circom and snarkjs"}
	}
	if sec.len != headerBytes {
		return k.damaged(fmt.Sprintf("section 2 (header) has %d bytes instead of %d", sec.len, headerBytes))
	}
	p := b[2*(4+fieldBytes):]
	vars, public, domain := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:])
	switch {
	case domain < 2 || domain&(domain-1) != 0:
		return k.damaged(fmt.Sprintf("its domain of %d is no power of two", domain))
	case vars == 0 || public >= vars:
		return k.damaged(fmt.Sprintf("it has %d public signals among %d wires", public, vars))
	case domain > maxDomain || vars > maxVars || public > maxPublic:
		return k.unsupported(fmt.Sprintf("domain %d, %d wires, %d public signals", domain, vars, public),
			fmt.Sprintf("the limits are %d, %d and %d", maxDomain, maxVars, maxPublic))
	}
	k.header.Vars, k.header.Public, k.header.Domain = int(vars), int(public), int(domain)

	p = p[12:]
	v := &k.vk
	ok = readG1(p, &v.alpha1) && readG1(p[g1Bytes:], &v.beta1)
	p = p[2*g1Bytes:]
	ok = ok && readG2(p, &v.beta2) && readG2(p[g2Bytes:], &v.gamma2)
	p = p[2*g2Bytes:]
	ok = ok && readG1(p, &v.delta1) && readG2(p[g1Bytes:], &v.delta2)
	for _, q := range []*bn254.G1Affine{&v.alpha1, &v.beta1, &v.delta1} {
		ok = ok && !q.IsInfinity()
	}
	for _, q := range []*bn254.G2Affine{&v.beta2, &v.gamma2, &v.delta2} {
		ok = ok && !q.IsInfinity() && q.IsInSubGroup()
	}
	if !ok {
		return k.damaged("a point in its header is not on the curve")
	}
	return nil
}

// isPrime says whether b begins with the length and the value of this modulus.
func isPrime(b []byte, m *[4]uint64) bool {
	if binary.LittleEndian.Uint32(b) != fieldBytes {
		return false
	}
	for i, l := range m {
		if binary.LittleEndian.Uint64(b[4+8*i:]) != l {
			return false
		}
	}
	return true
}

// checkSections compares the size of every section with what the header calls for.
func (k *Key) checkSections() error {
	h := &k.header
	for _, s := range []struct {
		id    uint32
		what  string
		bytes int64
	}{
		{secIC, "public points", int64(h.Public+1) * g1Bytes},
		{secA, "A points", int64(h.Vars) * g1Bytes},
		{secB1, "B points of G1", int64(h.Vars) * g1Bytes},
		{secB2, "B points of G2", int64(h.Vars) * g2Bytes},
		{secC, "C points", int64(h.Vars-h.Public-1) * g1Bytes},
		{secH, "H points", int64(h.Domain) * g1Bytes},
	} {
		if _, err := k.want(s.id, s.what, s.bytes); err != nil {
			return err
		}
	}
	sec, ok := k.sections[secCoefs]
	if !ok || sec.len < 4 {
		return k.damaged("section 4 (coefficients) is missing")
	}
	var word [4]byte
	if err := k.readAt(word[:], sec.off); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(word[:]))
	if sec.len != 4+n*coefBytes {
		return k.damaged(fmt.Sprintf("section 4 (coefficients) has %d bytes, but claims %d coefficients", sec.len, n))
	}
	h.Coefs = int(n)
	return nil
}

// Header is what the key says of its circuit.
func (k *Key) Header() Header { return k.header }

// Digest is the SHA-256 of the key's file, which it reads whole.
func (k *Key) Digest(ctx context.Context) (prover.Digest, error) { return k.digest(ctx) }

// Close closes the file if Open opened it. Calls that still run fail.
func (k *Key) Close() error { return k.close() }

// VerifyingKey reads the part of the key that checks proofs.
func (k *Key) VerifyingKey() (*VerifyingKey, error) {
	vk := &VerifyingKey{alpha: k.vk.alpha1, beta: k.vk.beta2, gamma: k.vk.gamma2, delta: k.vk.delta2,
		ic: make([]bn254.G1Affine, k.header.Public+1)}
	if err := k.readG1s(context.Background(), secIC, 0, vk.ic, 1); err != nil {
		return nil, err
	}
	return vk, nil
}

// Check reads the whole key and says whether every point is on its curve and every coefficient within bounds: ErrDamaged
// if not. It takes about 2 % of the time of a proof. Prove makes the same checks; Check is for finding out before.
func (k *Key) Check(ctx context.Context) error { return k.check(ctx, blockPoints) }

func (k *Key) check(ctx context.Context, block int) error {
	workers := runtime.GOMAXPROCS(0)
	if err := k.eachCoef(ctx, func(uint32, uint32, uint32, *[4]uint64) {}, nil); err != nil {
		return err
	}
	g1 := make([]bn254.G1Affine, min(block, max(k.header.Vars, k.header.Domain)))
	for _, id := range []uint32{secIC, secA, secB1, secC, secH} {
		n := int(k.sections[id].len / g1Bytes)
		for i := 0; i < n; i += len(g1) {
			if err := k.readG1s(ctx, id, i, g1[:min(len(g1), n-i)], workers); err != nil {
				return err
			}
		}
	}
	g2 := make([]bn254.G2Affine, min(block, k.header.Vars))
	for i := 0; i < k.header.Vars; i += len(g2) {
		if err := k.readG2s(ctx, secB2, i, g2[:min(len(g2), k.header.Vars-i)], workers); err != nil {
			return err
		}
	}
	return nil
}

// readBytes is how much is read at once: large enough to hide the call, small enough for the cache.
const readBytes = 1 << 16

// readPoints reads n points of so many bytes each, beginning with the point at index from of a section.
func (k *Key) readPoints(ctx context.Context, id uint32, from, n, bytes, workers int, decode func(i int, b []byte) bool) error {
	base := k.sections[id].off + int64(from)*int64(bytes)
	return split(ctx, n, workers, func(lo, hi int) error {
		buf := make([]byte, min(readBytes, (hi-lo)*bytes))
		for lo < hi {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			m := min(len(buf)/bytes, hi-lo)
			if err := k.readAt(buf[:m*bytes], base+int64(lo)*int64(bytes)); err != nil {
				return err
			}
			for i := range m {
				if !decode(lo+i, buf[i*bytes:(i+1)*bytes]) {
					return k.damaged(fmt.Sprintf("point %d of section %d is not on the curve", from+lo+i, id))
				}
			}
			lo += m
		}
		return nil
	})
}

func (k *Key) readG1s(ctx context.Context, id uint32, from int, dst []bn254.G1Affine, workers int) error {
	return k.readPoints(ctx, id, from, len(dst), g1Bytes, workers, func(i int, b []byte) bool { return readG1(b, &dst[i]) })
}

func (k *Key) readG2s(ctx context.Context, id uint32, from int, dst []bn254.G2Affine, workers int) error {
	return k.readPoints(ctx, id, from, len(dst), g2Bytes, workers, func(i int, b []byte) bool { return readG2(b, &dst[i]) })
}

// eachCoef calls fn for every coefficient of the matrices A (0) and B (1) in the order of the file, with indices that it
// has checked. progress may be nil; it gets the number of coefficients done.
func (k *Key) eachCoef(ctx context.Context, fn func(matrix, constraint, wire uint32, value *[4]uint64), progress func(int)) error {
	sec := k.sections[secCoefs]
	buf := make([]byte, readBytes/coefBytes*coefBytes)
	for i := 0; i < k.header.Coefs; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(len(buf)/coefBytes, k.header.Coefs-i)
		if err := k.readAt(buf[:n*coefBytes], sec.off+4+int64(i)*coefBytes); err != nil {
			return err
		}
		for j := range n {
			b := buf[j*coefBytes : (j+1)*coefBytes]
			m, c, w := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
			v, ok := readLimbs(b[12:], &frModulus)
			if !ok || m > 1 || int64(c) >= int64(k.header.Domain) || int64(w) >= int64(k.header.Vars) {
				return k.damaged(fmt.Sprintf("coefficient %d of %d points outside the circuit", i+j, k.header.Coefs))
			}
			fn(m, c, w, &v)
		}
		i += n
		if progress != nil {
			progress(i)
		}
	}
	return nil
}
