package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"app.provost/cluster/internal/bls"
)

// What Seal made opens by the library's derivation and by the derived key alike, and the derived key
// opens nothing but that.
func TestSealReadsBackBothWays(t *testing.T) {
	key, err := bls.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	password, err := NewPassword()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewPassword()
	if err != nil {
		t.Fatal(err)
	}
	for _, strength := range []Strength{Full, Insecure} {
		raw, derived, err := Seal(key, password, strength)
		if err != nil {
			t.Fatal(err)
		}
		ks, err := Parse(raw)
		if err != nil || ks.Strength != strength {
			t.Fatal(err)
		}
		slow, err := ks.Decrypt(t.Context(), password)
		if err != nil || !slow.Equal(key) {
			t.Errorf("%s: by the password: %v", strength, err)
		}
		fast, err := ks.DecryptDerived(derived, password)
		if err != nil || !fast.Equal(key) {
			t.Errorf("%s: by the derived key: %v", strength, err)
		}
		if _, err := ks.DecryptDerived(derived, other); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: another password: %v", strength, err)
		}
		if _, err := ks.DecryptDerived(Derived{}, password); err == nil {
			t.Error("opened by nothing")
		}

		// Any change that the password would notice, the derived key notices.
		for name, change := range map[string]func(*file){
			"salt":     func(f *file) { f.Crypto.KDF.Params.Salt = flip(f.Crypto.KDF.Params.Salt) },
			"rounds":   func(f *file) { f.Crypto.KDF.Params.C++ },
			"checksum": func(f *file) { f.Crypto.Checksum.Message = flip(f.Crypto.Checksum.Message) },
			"cipher":   func(f *file) { f.Crypto.Cipher.Message = flip(f.Crypto.Cipher.Message) },
			"iv":       func(f *file) { f.Crypto.Cipher.Params.IV = flip(f.Crypto.Cipher.Params.IV) },
			"pubkey":   func(f *file) { f.PubKey = strings.Repeat("ab", 48) },
		} {
			var f file
			if err := json.Unmarshal(raw, &f); err != nil {
				t.Fatal(err)
			}
			change(&f)
			changed, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			ks, err := Parse(changed)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := ks.DecryptDerived(derived, password); err == nil {
				t.Errorf("%s: %s was changed and not noticed", strength, name)
			}
		}
		if told := fmt.Sprintf("%v %+v %#v %s %d", derived, derived, struct{ D Derived }{derived}, derived, derived); strings.Count(told, "[secret]") < 4 {
			t.Errorf("printed as %s", told)
		}
		if _, err := json.Marshal(derived); err == nil {
			t.Error("a derived key was encoded")
		}
		derived.Wipe()
		if _, err := ks.DecryptDerived(derived, password); err == nil {
			t.Error("a wiped key opened")
		}
	}
	latin := "pässword"
	if _, _, err := Seal(key, Password{&latin}, Full); err == nil {
		t.Error("a password that would have to be normalised was taken")
	}
}

func flip(hex string) string {
	if hex[0] == '0' {
		return "1" + hex[1:]
	}
	return "0" + hex[1:]
}

// All scrypt runs together keep within the bound: one that would go beyond it waits, and gives up with
// its context.
func TestScryptWaitsForMemory(t *testing.T) {
	raw, err := os.ReadFile("testdata/eip2335-scrypt.json")
	if err != nil {
		t.Fatal(err)
	}
	ks, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := scryptTurn.Acquire(t.Context(), scryptMemory); err != nil {
		t.Fatal(err)
	}
	password, err := NewPassword()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := ks.Decrypt(ctx, password)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it didn't wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	scryptTurn.Release(scryptMemory)
	if !scryptTurn.TryAcquire(scryptMemory) {
		t.Error("the one that gave up still holds memory")
	}
	scryptTurn.Release(scryptMemory)
}
