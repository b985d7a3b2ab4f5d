package flow

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"app.provost/cluster"

	"golang.org/x/crypto/sha3"
)

func keccak(data []byte) (out [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	h.Sum(out[:0])
	return out
}

// exampleAddress is from EIP-55.
const exampleAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// address checks an address of the execution layer and gives one reason for each rule.
func address(s string) (cluster.ETHAddress, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return cluster.ETHAddress{}, fmt.Errorf("%s: it has to start with 0x, as in %s", cut(s), exampleAddress)
	}
	for i, r := range digits {
		if !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return cluster.ETHAddress{}, fmt.Errorf("%s: %q, character %d, is no hex digit (0-9, a-f), as in %s", cut(s), r, i+3, exampleAddress)
		}
	}
	switch n := len(digits); {
	case n < 40:
		return cluster.ETHAddress{}, fmt.Errorf("%s: %d more of 40 hex digits are missing, as in %s", cut(s), 40-n, exampleAddress)
	case n > 40:
		return cluster.ETHAddress{}, fmt.Errorf("%s: %d hex digits more than the 40 of an address, as in %s", cut(s), n-40, exampleAddress)
	}
	a, err := cluster.ParseETHAddress(s, keccak)
	if err != nil {
		return a, fmt.Errorf("%s: capitals and small letters don't fit its EIP-55 checksum, so a character may be wrong: copy it again", cut(s))
	}
	return a, nil
}

// addresses checks a list: one for all validators, or one for each.
func addresses(value string, a Answers) error {
	all := Answers{"": value}.Items("")
	for _, s := range all {
		if _, err := address(s); err != nil {
			return err
		}
	}
	if n, err := strconv.Atoi(a["num-validators"]); err == nil && n > 0 && len(all) != 1 && len(all) != n {
		return fmt.Errorf("%d addresses for %s: give one for all, or one for each, by commas", len(all), plural(n, "validator"))
	}
	return nil
}

// noteAddresses says what the eye should know of addresses that are right in form.
func noteAddresses(value string, a Answers) string {
	var notes []string
	for _, s := range (Answers{"": value}).Items("") {
		got, err := address(s)
		if err != nil {
			return ""
		}
		digits := s[2:]
		switch {
		case got.Burn():
			return "nobody holds the key of " + cut(s) + ": money sent there is lost for ever"
		case digits == strings.ToLower(digits) || digits == strings.ToUpper(digits):
			notes = []string{"no checksum in it: compare each character"}
		}
	}
	if len(notes) > 0 {
		return notes[0]
	}
	return "checksum ok"
}

// number checks a whole number within bounds.
func number(s string, lo, hi uint64, example string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err != nil && !digitsOnly(s):
		return 0, fmt.Errorf("%s: want a whole number, as in %s", cut(s), example)
	case err != nil || n > hi:
		return 0, fmt.Errorf("%s: want at most %d, as in %s", cut(s), hi, example)
	case n < lo:
		return 0, fmt.Errorf("%s: want at least %d, as in %s", cut(s), lo, example)
	}
	return n, nil
}

func within(lo, hi uint64, example string) func(string, Answers) error {
	return func(s string, _ Answers) error {
		_, err := number(s, lo, hi, example)
		return err
	}
}

func digitsOnly(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// intOf reads a number that was checked; 0 when there is none.
func (a Answers) intOf(k Key) int {
	n, err := strconv.ParseUint(a[k], 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

func plainName(s string, _ Answers) error {
	switch {
	case !utf8.ValidString(s):
		return fmt.Errorf("the name has to be plain text, as in mycluster")
	case len(s) > cluster.MaxNameBytes:
		return fmt.Errorf("%d bytes long: want at most %d, as in mycluster", len(s), cluster.MaxNameBytes)
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// passwordIn tells whether an address holds a user name or password, also where it is no whole address:
// without https:// before them, or not to be read at all. Messages do not repeat it then.
func passwordIn(s string, u *url.URL) bool {
	return u != nil && u.User != nil || (u == nil || u.Host == "") && strings.Contains(s, "@")
}

// cutURL is cut without the part of an address in which a token may stand.
func cutURL(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i] + "..."
	}
	return cut(s)
}

// cut keeps what was typed to a length that fits beside its reason.
func cut(s string) string {
	if r := []rune(s); len(r) > 50 {
		return strconv.Quote(string(r[:47]) + "...")
	}
	return strconv.Quote(s)
}
