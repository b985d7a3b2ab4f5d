package enr

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"app.provost/cluster"
)

const identities = "../../../../shared/fixtures/charon-clusters/wire-vectors/identities.json"

func mustKey(t testing.TB, hexKey string) Key {
	t.Helper()
	k, err := ParseKeyFile([]byte(hexKey))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Key and text of the example record in EIP-778 (CC0); it has an ip and a udp pair too.
const (
	eipText = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8"
	eipKey  = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
)

func TestEIP778Example(t *testing.T) {
	rec, err := Parse(eipText)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Seq != 1 || rec.PubKey != mustKey(t, eipKey).PubKey() {
		t.Errorf("read %+v", rec)
	}
	// The example of EIP-778 names this node id.
	if got := hex.EncodeToString(rec.PubKey.NodeID()); got != "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7" {
		t.Errorf("node id %s", got)
	}
	d, err := ParseDetails(eipText)
	if err != nil || d.Record != rec || len(d.Pairs) != 4 || d.Signature == [64]byte{} {
		t.Fatalf("read %+v, %v", d, err)
	}
	for i, want := range []Pair{{Key: "id", Value: []byte("v4")}, {Key: "ip", Value: []byte{127, 0, 0, 1}}, {Key: "secp256k1", Value: rec.PubKey[:]}, {Key: "udp", Value: []byte{0x76, 0x5f}}} {
		if got := d.Pairs[i]; got.Key != want.Key || got.List || !bytes.Equal(got.Value, want.Value) {
			t.Errorf("pair %d is %+v, want %+v", i, got, want)
		}
	}
	if _, err := Parse(eipText + "="); err != nil {
		t.Errorf("padding: %v", err)
	}
}

func TestRecordsOfCharon(t *testing.T) {
	raw, err := os.ReadFile(identities)
	if err != nil {
		t.Skipf("identities made by Charon are missing (%v): put them beside the checkout as shared/fixtures/charon-clusters", err)
	}
	var ids []struct {
		PrivateKey string `json:"private_key"`
		PublicKey  string `json:"public_key"`
		ENR        string `json:"enr"`
		PeerID     string `json:"peer_id"`
	}
	if err := json.Unmarshal(raw, &ids); err != nil || len(ids) == 0 {
		t.Fatal(err, len(ids))
	}
	for _, id := range ids {
		key := mustKey(t, id.PrivateKey)
		if text, err := Text(key); err != nil || text != id.ENR {
			t.Errorf("wrote %s (%v), want %s", text, err, id.ENR)
		}
		rec, err := Parse(id.ENR)
		if err != nil || rec.PubKey.String() != id.PublicKey {
			t.Errorf("read %s (%v), want %s", rec.PubKey, err, id.PublicKey)
		}
		if got := rec.PubKey.PeerID(); got != id.PeerID {
			t.Errorf("peer id %s, want %s", got, id.PeerID)
		}
	}
}

// Any changed byte of a record must be noticed: everything in it is signed.
func TestChangedRecordsAreRefused(t *testing.T) {
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := Text(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(text[4:])
	for i := range raw {
		for _, flip := range []byte{0x01, 0x80} {
			bad := bytes.Clone(raw)
			bad[i] ^= flip
			if rec, err := Parse("enr:" + base64.RawURLEncoding.EncodeToString(bad)); !errors.Is(err, ErrRecord) || rec != (Record{}) {
				t.Errorf("byte %d changed: %v", i, err)
			}
		}
	}
	for _, bad := range []string{"", "enr:", "enr:!!!", text[4:], text + "AA", text + "\n", "enr:" + strings.Repeat("A", 5000), text[:20] + "\n" + text[20:], "enr:wA", "enr:-____w"} {
		if _, err := Parse(bad); !errors.Is(err, ErrRecord) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	key := mustKey(t, eipKey)
	if got := string(key.ExportFile()); got != eipKey {
		t.Error("the key file doesn't come back as it was")
	}
	mustKey(t, " "+eipKey+"\n")
	for _, bad := range []string{"", "0x" + eipKey, eipKey[:63], strings.Repeat("0", 64), strings.Repeat("f", 64), strings.Repeat("z", 64)} {
		if _, err := ParseKeyFile([]byte(bad)); !errors.Is(err, ErrKeyFile) || len(bad) > 10 && strings.Contains(err.Error(), bad[:10]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSignHash(t *testing.T) {
	key := mustKey(t, eipKey)
	hash := Keccak256([]byte("x"))
	sig, err := key.SignHash(hash)
	if err != nil || len(sig) != 65 || sig[64] > 1 {
		t.Fatalf("%v %v", sig, err)
	}
	if err := VerifyHash(key.PubKey(), hash, sig); err != nil {
		t.Error(err)
	}
	high := bytes.Clone(sig)
	high[64] += 27
	if err := VerifyHash(key.PubKey(), hash, high); err != nil {
		t.Errorf("V as 27 or 28: %v", err)
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if err := VerifyHash(key.PubKey(), hash, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for _, bad := range [][]byte{nil, sig[:64], append(bytes.Clone(sig), 0), make([]byte, 65)} {
		if err := VerifyHash(key.PubKey(), hash, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	key.Wipe()
	if _, err := key.SignHash(hash); err == nil {
		t.Error("a wiped key signed")
	}
	if _, err := (Key{}).SignHash(hash); err == nil {
		t.Error("no key signed")
	}
}

// The digest is the one a wallet shows; the address is the well-known one of the key 0x02…02.
func TestTypedText(t *testing.T) {
	key := mustKey(t, strings.Repeat("02", 32))
	want, err := cluster.ParseETHAddress("0x5050A4F4b3f9338C3472dcC01A87C76A144b3c9c", Keccak256)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := key.SignHash(OperatorENR.Digest(5, "enr:x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := OperatorENR.Verify(want, 5, "enr:x", sig); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"chain": OperatorENR.Verify(want, 1, "enr:x", sig),
		"value": OperatorENR.Verify(want, 5, "enr:y", sig),
		"type":  OperatorConfig.Verify(want, 5, "enr:x", sig),
		"owner": OperatorENR.Verify(cluster.ETHAddress{}, 5, "enr:x", sig),
		"short": OperatorENR.Verify(want, 5, "enr:x", sig[:64]),
		"empty": OperatorENR.Verify(want, 5, "enr:x", nil),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := OperatorENR.Verify(want, 5, "enr:x", bytes.Repeat(sig, 2)); !errors.Is(err, ErrContractWallet) {
		t.Errorf("two signatures: %v", err)
	}
}

func TestKeyCannotLeak(t *testing.T) {
	key := mustKey(t, strings.Repeat("5a", 32))
	type outer struct {
		Key    Key
		hidden Key
	}
	o := outer{key, key}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, key, &key, o)
	}
	if _, err := json.Marshal(o); err == nil {
		t.Error("a key was encoded as JSON")
	}
	raw, _ := hex.DecodeString("5a5a5a5a")
	for _, leak := range []string{"5a5a", "5A5A", string(raw), "1515870810"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q in %s", leak, out.String())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(eipText)
	f.Add("enr:-HW4QIHPUOMb34YoizKGhz7nsDNQ7hCaiuwyscmeaOQ04awdH05gDnGrZhxDfzcfHssCDeB-esi99A2RoZia6UaYBCuAgmlkgnY0iXNlY3AyNTZrMaECTUts0TYQMsqb0q652QCqTUXZ6tgKyUIzdMRRpyVNB2Y")
	f.Add("enr:wA")
	f.Fuzz(func(t *testing.T, text string) {
		rec, err := Parse(text)
		if err == nil && rec.PubKey == (PubKey{}) {
			t.Fatal("a record without a key was accepted")
		}
		d, err2 := ParseDetails(text)
		if (err == nil) != (err2 == nil) || d.Record != rec || err == nil && len(d.Pairs) < 2 {
			t.Fatalf("read as %+v (%v) and as %+v (%v)", rec, err, d, err2)
		}
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "enr:")); err == nil {
			if isList, content, rest, err := rlpItem(raw); err == nil {
				// What is accepted is canonical: written again it is the same.
				again := rlpBytes(nil, content)
				if isList {
					again = rlpList(content)
				}
				if !bytes.Equal(append(again, rest...), raw) {
					t.Fatalf("not canonical: %x", raw)
				}
			}
		}
	})
}
