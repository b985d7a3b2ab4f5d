package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Bounds of secrets from files.
const (
	maxPassphraseBytes = 4 << 10
	maxIdentityBytes   = 1 << 20
	// MinPassphrase is the shortest passphrase that is taken for sealing, in characters.
	MinPassphrase = 12
	// maxScryptWork is 2^20: a gigabyte at most, four times what age takes itself.
	maxScryptWork = 20
)

// Seal says for whom an archive is sealed: recipients, or whoever knows a passphrase.
type Seal struct {
	Recipients     []string // age1… or public keys of SSH
	PassphraseFile string   // read once; a line end at its end is not part of it
}

func (s Seal) problem() error {
	switch {
	case len(s.Recipients) == 0 && s.PassphraseFile == "":
		return problem("recipient", "give an age recipient or an SSH public key with --recipient, or a passphrase", "nothing is named to seal the file with")
	case len(s.Recipients) > 0 && s.PassphraseFile != "":
		return problem("passphrase-file", "give one of the two", "a file is sealed either for recipients or with a passphrase")
	}
	_, err := s.parse()
	return err
}

func (s Seal) parse() (out []age.Recipient, err error) {
	for _, text := range s.Recipients {
		text = strings.TrimSpace(text)
		if strings.HasPrefix(text, "ssh-") {
			r, err := agessh.ParseRecipient(text)
			if err != nil {
				return nil, problem("recipient", "copy the whole line from the .pub file; ed25519 and RSA are taken", "%.30q is no public key of SSH that can be used: %v", text, err)
			}
			out = append(out, r)
			continue
		}
		list, err := age.ParseRecipients(strings.NewReader(text))
		if strings.HasPrefix(text, "AGE-SECRET-KEY-") {
			return nil, problem("recipient", "give its public half, which begins with age1; and make a new identity: this one was on a command line", "a secret key was given")
		}
		if err != nil || len(list) != 1 {
			return nil, problem("recipient", "give an age recipient (age1…, as age-keygen prints it) or an SSH public key", "%.30q is no recipient", text)
		}
		out = append(out, list...)
	}
	return out, nil
}

// recipients opens the passphrase file too.
func (s Seal) recipients() ([]age.Recipient, error) {
	if s.PassphraseFile == "" {
		return s.parse()
	}
	text, err := passphrase(s.PassphraseFile)
	if err != nil {
		return nil, err
	}
	// To open a file with, a passphrase that others know is good enough; to seal one it is not.
	if info, err := os.Stat(s.PassphraseFile); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, problem("passphrase-file", "chmod 600 it, and take another passphrase if others may have seen this one", "%s: others may read it (mode %04o)", s.PassphraseFile, info.Mode().Perm())
	}
	if n := len([]rune(text)); n < MinPassphrase {
		return nil, problem("passphrase-file", "take several words that nobody could guess together", "the passphrase has %d characters, at least %d are needed", n, MinPassphrase)
	}
	r, err := age.NewScryptRecipient(text)
	if err != nil {
		return nil, &Error{Code: CodeFailed, Err: err}
	}
	return []age.Recipient{r}, nil
}

// Key opens an archive: an identity file of age or SSH, or the passphrase.
type Key struct {
	IdentityFile   string
	PassphraseFile string // read once
}

func (k Key) problem() error {
	switch {
	case k.IdentityFile == "" && k.PassphraseFile == "":
		return problem("identity-file", "give the identity file with --identity-file, or the passphrase", "nothing is named to open the file with")
	case k.IdentityFile != "" && k.PassphraseFile != "":
		return problem("passphrase-file", "give one of the two", "a file is opened either with an identity or with a passphrase")
	}
	return nil
}

func (k Key) identities() ([]age.Identity, error) {
	if k.PassphraseFile != "" {
		text, err := passphrase(k.PassphraseFile)
		if err != nil {
			return nil, err
		}
		if text == "" {
			return nil, problem("passphrase-file", "type the passphrase that the file was sealed with", "the passphrase is empty")
		}
		id, err := age.NewScryptIdentity(text)
		if err != nil {
			return nil, &Error{Code: CodeFailed, Err: err}
		}
		id.SetMaxWorkFactor(maxScryptWork)
		return []age.Identity{id}, nil
	}
	raw, err := readSmall(k.IdentityFile, maxIdentityBytes)
	defer clear(raw)
	if err != nil {
		return nil, problem("identity-file", "name the file that age-keygen or ssh-keygen wrote", "%v", err)
	}
	// Errors of the parsers may quote what they read, so they are not told.
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(raw)
		if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) {
			return nil, problem("identity-file", "give an age identity, or a copy of the key from which ssh-keygen -p took the passphrase", "%s: the SSH key has a passphrase of its own", k.IdentityFile)
		}
		if err != nil {
			return nil, problem("identity-file", "ed25519 and RSA keys are taken", "%s is no SSH key that can be used", k.IdentityFile)
		}
		return []age.Identity{id}, nil
	}
	list, err := age.ParseIdentities(bytes.NewReader(raw))
	if err != nil {
		return nil, problem("identity-file", "name the file that age-keygen or ssh-keygen wrote", "%s is no identity file", k.IdentityFile)
	}
	return list, nil
}

func passphrase(path string) (string, error) {
	raw, err := readSmall(path, maxPassphraseBytes)
	defer clear(raw)
	if err != nil {
		return "", problem("passphrase-file", "name a file that you can read, with the passphrase alone in it", "%v", err)
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// readSmall reads a file or a pipe of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s: it is a directory", path)
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: it has more than %d bytes", path, limit)
	}
	return raw, err
}

// openFile opens a regular file. Links are followed: secrets are often mounted as such.
func openFile(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe would hold us up for ever
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
