package run

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// Token is a worker's secret. It prints as "[token]" and cannot be encoded; only the hello and the token file carry it.
type Token struct{ b [32]byte }

// NewToken makes a token.
func NewToken() Token {
	var t Token
	rand.Read(t.b[:]) // never fails: crypto/rand ends the process instead
	return t
}

// Equal compares in constant time. The zero token equals nothing.
func (t Token) Equal(o Token) bool {
	return t != Token{} && subtle.ConstantTimeCompare(t.b[:], o.b[:]) == 1
}

// String hides the token.
func (Token) String() string { return "[token]" }

// GoString hides the token.
func (Token) GoString() string { return "[token]" }

// Format hides the token from every verb.
func (Token) Format(f fmt.State, _ rune) { io.WriteString(f, "[token]") }

// LogValue hides the token.
func (Token) LogValue() slog.Value { return slog.StringValue("[token]") }

// MarshalText refuses: a token goes into no JSON by accident.
func (Token) MarshalText() ([]byte, error) { return nil, errors.New("a token is not to be encoded") }

// shownToken is the token where it is meant to be seen: in the hello.
type shownToken struct{ Token }

func (t shownToken) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(t.b[:])), nil }

func (t *shownToken) UnmarshalText(b []byte) error {
	if len(b) != 2*len(t.b) {
		return errors.New("read token: want 64 hex characters")
	}
	if _, err := hex.Decode(t.b[:], b); err != nil {
		return errors.New("read token: want 64 hex characters")
	}
	return nil
}

// WriteFile writes the token for its worker, whole or not at all, readable by the owner alone.
func (t Token) WriteFile(path string) error {
	text, _ := shownToken{t}.MarshalText()
	if err := writeFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	return nil
}

// ReadToken reads a token file. It refuses one that others may read.
func ReadToken(path string) (Token, error) {
	f, err := os.Open(path)
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Token{}, fmt.Errorf("read token %s: others may read it (mode %04o); chmod 600 it", path, info.Mode().Perm())
	}
	b := make([]byte, 65+1)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Token{}, fmt.Errorf("read token %s: %w", path, err)
	}
	var t shownToken
	if n != 65 || b[64] != '\n' || t.UnmarshalText(b[:64]) != nil {
		return Token{}, fmt.Errorf("read token %s: want 64 hex characters and a line end", path)
	}
	return t.Token, nil
}

// writeFile replaces a file: readers see the old or the new one, also after a crash. Mode 0600.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
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
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
