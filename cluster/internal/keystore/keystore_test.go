package keystore

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"app.provost/cluster/internal/bls"

	xpbkdf2 "crypto/pbkdf2"
	"crypto/sha256"
)

// The two test vectors of EIP-2335 (CC0), in testdata.
func TestEIP2335Vectors(t *testing.T) {
	const secret = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
	for _, name := range []string{"eip2335-scrypt.json", "eip2335-pbkdf2.json"} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			ks, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			// Fraktur letters normalise to plain ones.
			password, err := ParsePassword([]byte("𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑\n"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := ks.Decrypt(t.Context(), password)
			if err != nil {
				t.Fatal(err)
			}
			got, err := key.Export()
			if err != nil || hex.EncodeToString(got) != secret {
				t.Errorf("another secret came out (%v)", err)
			}
			if ks.Strength != Full {
				t.Errorf("strength %s", ks.Strength)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	for _, strength := range []Strength{Full, Insecure} {
		t.Run(string(strength), func(t *testing.T) {
			key, err := bls.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			password, err := NewPassword()
			if err != nil {
				t.Fatal(err)
			}
			if len(password.Export()) != 32 {
				t.Errorf("the password has %d characters", len(password.Export()))
			}
			raw, err := Encrypt(key, password, strength)
			if err != nil {
				t.Fatal(err)
			}
			ks, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if ks.Strength != strength || ks.Path != "m/12381/3600/0/0/0" || strings.ToUpper(ks.UUID) != ks.UUID {
				t.Errorf("strength %s, path %s, uuid %s", ks.Strength, ks.Path, ks.UUID)
			}
			got, err := ks.Decrypt(t.Context(), password)
			if err != nil || !got.Equal(key) {
				t.Errorf("another key came out (%v)", err)
			}
			wrong, _ := NewPassword()
			if _, err := ks.Decrypt(t.Context(), wrong); !errors.Is(err, ErrPassword) {
				t.Errorf("wrong password: %v", err)
			}
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := ks.Decrypt(cancelled, password); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			exported, _ := key.Export()
			for _, leak := range []string{hex.EncodeToString(exported), string(password.Export())} {
				if bytes.Contains(raw, []byte(leak)) {
					t.Error("the keystore has a secret in the clear")
				}
			}
		})
	}
}

// The file written must have exactly the keys, in the order, that Charon's has.
func TestWrittenShape(t *testing.T) {
	key, _ := bls.GenerateKey()
	password, _ := NewPassword()
	raw, err := Encrypt(key, password, Insecure)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/shape.golden")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if len(strings.TrimSpace(value)) > 30 {
			value = " hex,"
			if strings.HasSuffix(key, `uuid"`) {
				value = " uuid,"
			}
		}
		if value != "" {
			key += ":" + value
		}
		out = append(out, key)
	}
	if got := strings.Join(out, "\n") + "\n"; got != string(want) {
		t.Errorf("written:\n%s\nwant:\n%s", got, want)
	}
}

func TestHostileKeystores(t *testing.T) {
	raw, err := os.ReadFile("testdata/eip2335-scrypt.json")
	if err != nil {
		t.Fatal(err)
	}
	pb, err := os.ReadFile("testdata/eip2335-pbkdf2.json")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, old, with string
		want            error
	}{
		{"scrypt memory", `"n": 262144`, `"n": 1073741824`, ErrCost},
		{"scrypt r", `"r": 8`, `"r": 9223372036854775807`, ErrCost},
		{"scrypt p", `"p": 1`, `"p": 1000000000`, ErrCost},
		{"scrypt n times r", `"n": 262144`, `"n": 524288`, ErrCost},
		{"scrypt r instead of n", "\"n\": 262144,\n                \"p\": 1,\n                \"r\": 8", "\"n\": 2, \"p\": 8, \"r\": 262144", ErrCost},
		{"scrypt n not a power of two", `"n": 262144`, `"n": 262143`, ErrFormat},
		{"scrypt n negative", `"n": 262144`, `"n": -262144`, ErrFormat},
		{"dklen", `"dklen": 32`, `"dklen": 1000000000`, ErrFormat},
		{"iv", `"iv": "264d`, `"iv": "`, ErrFormat},
		{"salt", `"salt": "d4e5`, `"salt": "zz`, ErrFormat},
		{"cipher", `aes-128-ctr`, `rot13`, ErrFormat},
		{"message", `"message": "06ae`, `"message": "0606ae`, ErrFormat},
		{"kdf", `"scrypt"`, `"argon2"`, ErrFormat},
		{"version", `"version": 4`, `"version": 3`, ErrFormat},
		{"no crypto", `"crypto"`, `"crypt"`, ErrFormat},
		{"key in another case", `"crypto"`, `"Crypto"`, ErrFormat},
		{"inner key in another case", `"prf"`, `"PRF"`, ErrFormat},
		{"no message", `"message": ""`, `"messag": ""`, ErrFormat},
		{"uuid", `-4611-`, `-461g-`, ErrFormat},
		{"path", `"m/12381`, `"../m/12381`, ErrFormat},
		{"rounds", `"c": 262144`, `"c": 2000000000`, ErrCost},
		{"rounds zero", `"c": 262144`, `"c": 0`, ErrFormat},
		{"prf", `hmac-sha256`, `hmac-md5`, ErrFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := string(raw)
			if !strings.Contains(src, tt.old) {
				src = string(pb)
			}
			changed := strings.Replace(src, tt.old, tt.with, 1)
			if changed == src {
				t.Fatalf("%q isn't in the sample", tt.old)
			}
			if _, err := Parse([]byte(changed)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := Parse(make([]byte, MaxFileBytes+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("huge file: %v", err)
	}
}

func TestPasswordFile(t *testing.T) {
	for in, want := range map[string]string{"abc": "abc", "abc\n": "abc", "a b \r\n": "a b "} {
		p, err := ParsePassword([]byte(in))
		if err != nil || string(p.Export()) != want {
			t.Errorf("%q: %q, %v", in, p.Export(), err)
		}
	}
	for _, in := range []string{"", "\n", "\xff\xfe", strings.Repeat("x", MaxPasswordBytes+1)} {
		if _, err := ParsePassword([]byte(in)); err == nil {
			t.Errorf("%.10q was accepted", in)
		}
	}
}

func TestPasswordCannotLeak(t *testing.T) {
	p, _ := ParsePassword([]byte("canarycanary"))
	type outer struct {
		P      Password
		hidden Password
	}
	o := outer{p, p}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, p, &p, o)
	}
	if _, err := json.Marshal(o); err == nil {
		t.Error("a password was encoded as JSON")
	}
	for _, leak := range []string{"canary", hex.EncodeToString([]byte("canary"))} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed: %s", out.String())
		}
	}
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]int{"keystore-0.json": 0, "keystore-insecure-12.json": 12, "keystore-01.json": -1, "keystore-.json": -1,
		"keystore-0.txt": -1, "keystore--1.json": -1, "xkeystore-0.json": -1, "keystore-9999999.json": -1} {
		got, ok := ParseFileName(name)
		if ok != (want >= 0) || (ok && got != want) {
			t.Errorf("%s: %d %v", name, got, ok)
		}
	}
	if FileName(3, Full) != "keystore-3.json" || FileName(3, Insecure) != "keystore-insecure-3.json" || PasswordFileName("keystore-3.json") != "keystore-3.txt" {
		t.Error("file names are not Charon's")
	}
}

// TestCostliestKeystore opens files at the limits: what a hostile file can make the program take.
func TestCostliestKeystore(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	raw, err := os.ReadFile("testdata/eip2335-scrypt.json")
	if err != nil {
		t.Fatal(err)
	}
	password, err := ParsePassword([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	for _, p := range []kdfParams{{N: 1 << 15, R: maxScryptR, P: 1}} { // the EIP's own vector has the greatest n
		p.DKLen, p.Salt = 32, f.Crypto.KDF.Params.Salt
		f.Crypto.KDF.Params = p
		hostile, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		ks, err := Parse(hostile)
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ks.Decrypt(t.Context(), password); !errors.Is(err, ErrPassword) {
			t.Errorf("%+v: %v", p, err)
		}
		runtime.ReadMemStats(&after)
		// A password that doesn't fit is tried in two spellings, one after the other.
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*maxScryptBytes+8<<20 {
			t.Errorf("%+v took %d MiB", p, got>>20)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"eip2335-scrypt.json", "eip2335-pbkdf2.json"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(bytes.Replace(raw, []byte("262144"), []byte("2"), 1))
		f.Add(bytes.Replace(raw, []byte("262144"), []byte("9223372036854775807"), 1))
		f.Add(bytes.Replace(raw, []byte("262144"), []byte("1e9"), 1))
	}
	f.Add([]byte(`{"crypto":{"kdf":{"function":"scrypt","params":{"dklen":32,"n":2,"p":8,"r":4194304,"salt":"00"},"message":""}}}`))
	password, _ := ParsePassword([]byte("x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ks, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrCost) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		// What is accepted stays below the limits, whatever else the file says.
		p := ks.crypto.KDF.Params
		switch ks.crypto.KDF.Function {
		case "pbkdf2":
			if p.C < 1 || p.C > maxPBKDF2Rounds {
				t.Fatalf("%d rounds were accepted", p.C)
			}
		case "scrypt":
			// Counted in floating point, which doesn't overflow.
			if n, r, q := float64(p.N), float64(p.R), float64(p.P); n < 2 || r < 1 || q < 1 || 128*r*(n+q+2) > maxScryptBytes || n*r*q > maxScryptWork {
				t.Fatalf("n %d, r %d, p %d were accepted", p.N, p.R, p.P)
			}
		default:
			t.Fatalf("%q was accepted", ks.crypto.KDF.Function)
		}
		// Only cheap ones are opened, so that the fuzzer sees many.
		if p.C > 100 || p.N*p.R*p.P > 1000 {
			return
		}
		if _, err := ks.Decrypt(t.Context(), password); err == nil {
			if _, err := json.Marshal(ks.crypto); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkEncryptFull(b *testing.B) {
	key, _ := bls.GenerateKey()
	password, _ := NewPassword()
	for b.Loop() {
		if _, err := Encrypt(key, password, Full); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPBKDF2Alone is the floor under BenchmarkEncryptFull.
func BenchmarkPBKDF2Alone(b *testing.B) {
	salt := make([]byte, 32)
	for b.Loop() {
		if _, err := xpbkdf2.Key(sha256.New, "password", salt, fullRounds, 32); err != nil {
			b.Fatal(err)
		}
	}
}
