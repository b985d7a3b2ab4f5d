package wirepb_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/wirepb"
)

var update = flag.Bool("update", false, "rewrite samples in testdata")

func load(t testing.TB, name string, dst any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, dst); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testKey(t testing.TB, peer int) enr.Key {
	t.Helper()
	k, err := enr.ParseKeyFile([]byte(strings.Repeat("0"+string(rune('2'+peer)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s: %x, want %s", what, got, want)
	}
}

func TestValueHashes(t *testing.T) {
	var cases []struct {
		Case, TypeURL string
		ProtoBytes    string `json:"proto_bytes"`
		URL           string `json:"type_url"`
		Hash          string
	}
	load(t, "hash_proto.json", &cases)
	for _, c := range cases {
		var m proto.Message
		switch c.URL {
		case "type.googleapis.com/core.corepb.v1.UnsignedDataSet":
			m = new(wirepb.UnsignedDataSet)
		case "type.googleapis.com/core.corepb.v1.Duty":
			m = new(wirepb.Duty)
		default:
			t.Fatalf("%s: type %s", c.Case, c.URL)
		}
		if err := wirepb.Read(unhex(t, c.ProtoBytes), m); err != nil {
			t.Fatalf("%s: %v", c.Case, err)
		}
		hash, err := wirepb.Hash(m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, c.Case, hash[:], c.Hash)
		b, _ := wirepb.Encode(m)
		same(t, c.Case, b, c.ProtoBytes)
	}
	if len(cases) == 0 {
		t.Fatal("no vectors")
	}
}

// The same rules over the vectors of the published specification.
func TestSpecHashes(t *testing.T) {
	type vector struct {
		Name  string
		Input struct {
			Slot uint64
			Type int64
			Set  map[string]string
			Duty *struct {
				Slot uint64
				Type int32
			}
			PeerIdx           int64  `json:"peer_idx"`
			Round             int64  `json:"round"`
			PreparedRound     int64  `json:"prepared_round"`
			ValueHash         string `json:"value_hash"`
			PreparedValueHash string `json:"prepared_value_hash"`
		}
		Encoding string `json:"encoding_hex"`
		Hash     string `json:"hash_hex"`
	}
	var all struct {
		Duty     []vector
		Unsigned []vector `json:"unsigned_data_set"`
	}
	load(t, "qbft_hashing.json", &all)
	check := func(v vector, m proto.Message) {
		t.Helper()
		b, err := wirepb.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		hash, _ := wirepb.Hash(m)
		same(t, v.Name+" encoding", b, v.Encoding)
		same(t, v.Name+" hash", hash[:], v.Hash)
	}
	for _, v := range all.Duty {
		check(v, &wirepb.Duty{Slot: v.Input.Slot, Type: int32(v.Input.Type)})
	}
	for _, v := range all.Unsigned {
		m := &wirepb.UnsignedDataSet{Set: map[string][]byte{}}
		for k, val := range v.Input.Set {
			m.Set[k] = unhex(t, val)
		}
		check(v, m)
	}
	if len(all.Duty) == 0 || len(all.Unsigned) == 0 {
		t.Fatal("no vectors")
	}
}

type qbftVector struct {
	Case    string
	PeerIdx int `json:"peer_idx"`
	Fields  struct {
		DutyType          int32  `json:"duty_type"`
		PeerIdx           int64  `json:"peer_idx"`
		PreparedRound     int64  `json:"prepared_round"`
		PreparedValueHash string `json:"prepared_value_hash"`
		Round, Type       int64
		Slot              uint64
		ValueHash         string `json:"value_hash"`
	}
	Unsigned    string `json:"unsigned_proto_bytes"`
	SigningHash string `json:"signing_hash"`
	Signature   string
	Consensus   string `json:"consensus_msg_proto_bytes"`
}

func TestQBFTMessages(t *testing.T) {
	var cases []qbftVector
	load(t, "qbft_msgs.json", &cases)
	for _, c := range cases {
		m := &wirepb.QBFTMsg{
			Type: c.Fields.Type, Duty: &wirepb.Duty{Slot: c.Fields.Slot, Type: c.Fields.DutyType}, PeerIdx: c.Fields.PeerIdx, Round: c.Fields.Round,
			PreparedRound: c.Fields.PreparedRound, ValueHash: unhex(t, c.Fields.ValueHash), PreparedValueHash: unhex(t, c.Fields.PreparedValueHash),
		}
		b, err := wirepb.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, c.Case+" bytes", b, c.Unsigned)
		hash, err := wirepb.SigningHash(m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, c.Case+" hash", hash[:], c.SigningHash)
		key := testKey(t, c.PeerIdx)
		if err := wirepb.SignQBFT(m, key.SignHash); err != nil {
			t.Fatal(err)
		}
		same(t, c.Case+" signature", m.Signature, c.Signature)

		got := new(wirepb.QBFTConsensusMsg)
		if err := wirepb.Read(unhex(t, c.Consensus), got); err != nil {
			t.Fatalf("%s: %v", c.Case, err)
		}
		if !proto.Equal(got.Msg, m) {
			t.Errorf("%s: read %v, want %v", c.Case, got.Msg, m)
		}
		for _, j := range got.Justification {
			by := testKey(t, int(j.PeerIdx)).PubKey()
			if err := wirepb.VerifyQBFT(j, func(h [32]byte, sig []byte) error { return enr.VerifyHash(by, h, sig) }); err != nil {
				t.Errorf("%s: justification: %v", c.Case, err)
			}
		}
		seen := map[string]bool{}
		for _, v := range got.Values {
			set, canonical, hash, err := wirepb.UnwrapUnsigned(v)
			if err != nil {
				t.Fatalf("%s: %v", c.Case, err)
			}
			if _, same, h, err := wirepb.UnwrapUnsigned(canonical); err != nil || h != hash || !bytes.Equal(same.Value, canonical.Value) {
				t.Errorf("%s: the canonical value reads as %s %v, want %s", c.Case, h, err, hash)
			}
			seen[hex.EncodeToString(hash[:])] = true
			nouns, err := set.Noun()
			if err != nil {
				t.Fatal(err)
			}
			again, hash2, err := wirepb.WrapUnsigned(wirepb.NewUnsignedDataSet(nouns))
			if err != nil || hash2 != hash || again.TypeUrl != v.TypeUrl {
				t.Errorf("%s: wrapped again: %s %x %v, want %x", c.Case, again.GetTypeUrl(), hash2, err, hash)
			}
		}
		for _, want := range []string{c.Fields.ValueHash, c.Fields.PreparedValueHash} {
			if strings.Trim(want, "0") != "" && !seen[want] {
				t.Errorf("%s: no value hashes to %s", c.Case, want)
			}
		}
		m.Round++
		by := key.PubKey()
		if err := wirepb.VerifyQBFT(m, func(h [32]byte, sig []byte) error { return enr.VerifyHash(by, h, sig) }); err == nil {
			t.Errorf("%s: a changed message passes", c.Case)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no vectors")
	}
}

func TestPriorityMessages(t *testing.T) {
	var all struct {
		Messages []struct {
			PeerIdx     int    `json:"peer_idx"`
			Unsigned    string `json:"unsigned_proto_bytes"`
			SigningHash string `json:"signing_hash"`
			Signature   string
			Proto       string `json:"proto_bytes"`
		}
		ResultHash  string `json:"result_hash"`
		ResultBytes string `json:"result_proto_bytes"`
	}
	load(t, "priority.json", &all)
	for _, c := range all.Messages {
		m := new(wirepb.PriorityMsg)
		if err := wirepb.Read(unhex(t, c.Proto), m); err != nil {
			t.Fatal(err)
		}
		hash, err := wirepb.SigningHash(m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "signing hash", hash[:], c.SigningHash)
		sig, err := testKey(t, c.PeerIdx).SignHash(hash)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "signature", sig, c.Signature)
		b, _ := wirepb.Encode(m)
		same(t, "bytes", b, c.Proto)
	}
	r := new(wirepb.PriorityResult)
	if err := wirepb.Read(unhex(t, all.ResultBytes), r); err != nil {
		t.Fatal(err)
	}
	hash, _ := wirepb.Hash(r)
	same(t, "result", hash[:], all.ResultHash)
}

func TestReadRefuses(t *testing.T) {
	enc := func(m proto.Message) []byte {
		b, err := wirepb.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	duty := &wirepb.Duty{Slot: 1, Type: 2}
	many := func(num protowire.Number, n int) []byte {
		return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), nil), n)
	}
	entries := func(n int) []byte {
		var b []byte
		for i := range n {
			e := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), string(rune('a'+i%26)))
			b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), e)
		}
		return b
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		into  proto.Message
		want  error // nil: any error
	}{
		{"no message", enc(&wirepb.QBFTConsensusMsg{}), new(wirepb.QBFTConsensusMsg), wirepb.ErrMissing},
		{"no duty", enc(&wirepb.QBFTConsensusMsg{Msg: &wirepb.QBFTMsg{Type: 1}}), new(wirepb.QBFTConsensusMsg), wirepb.ErrMissing},
		{"no duty in a justification", enc(&wirepb.QBFTConsensusMsg{Msg: &wirepb.QBFTMsg{Duty: duty}, Justification: []*wirepb.QBFTMsg{{Type: 1}}}), new(wirepb.QBFTConsensusMsg), wirepb.ErrMissing},
		{"no set", enc(&wirepb.ParSigExMsg{Duty: duty}), new(wirepb.ParSigExMsg), wirepb.ErrMissing},
		{"no topic", enc(&wirepb.PriorityMsg{Duty: duty, Topics: []*wirepb.PriorityTopicProposal{{}}}), new(wirepb.PriorityMsg), wirepb.ErrMissing},
		{"a million empty justifications", many(2, 1_000_000), new(wirepb.QBFTConsensusMsg), wirepb.ErrTooMany},
		{"a million empty values", many(3, 1_000_000), new(wirepb.QBFTConsensusMsg), wirepb.ErrTooMany},
		{"a million entries", entries(1_000_000), new(wirepb.UnsignedDataSet), wirepb.ErrTooMany},
		{"too long", make([]byte, wirepb.MaxQBFTBytes+1), new(wirepb.QBFTConsensusMsg), wirepb.ErrTooLarge},
		{"too long info", make([]byte, wirepb.MaxPeerInfoBytes+1), new(wirepb.PeerInfo), wirepb.ErrTooLarge},
		{"cut", enc(&wirepb.QBFTConsensusMsg{Msg: &wirepb.QBFTMsg{Duty: duty}})[:3], new(wirepb.QBFTConsensusMsg), nil},
		{"key that is no text", append([]byte{0x0a, 3, 0x0a, 1}, 0xff), new(wirepb.UnsignedDataSet), nil},
	} {
		err := wirepb.Read(c.bytes, c.into)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := wirepb.Read(enc(&wirepb.PeerInfo{CharonVersion: "v1.10.3"}), new(wirepb.PeerInfo)); err != nil {
		t.Errorf("timestamps are optional: %v", err)
	}
	if err := wirepb.Read(append(many(0, 0), 0x0a, 2, 0x12, 0), new(wirepb.QBFTConsensusMsg)); err != nil {
		t.Errorf("an empty duty is a duty: %v", err)
	}
}

func TestSetsOfNouns(t *testing.T) {
	var k cluster.PubKey
	for i := range k {
		k[i] = byte(i)
	}
	set := cluster.ParSignedDataSet{k: {Data: []byte("data"), Signature: cluster.Signature{1, 2}, Share: 3}}
	m := wirepb.NewParSigExMsg(cluster.Duty{Slot: 7, Type: cluster.DutyRandao}, set)
	got, err := m.DataSet.Noun()
	if err != nil {
		t.Fatal(err)
	}
	if p := got[k]; p.Share != 3 || string(p.Data) != "data" || p.Signature != (cluster.Signature{}) {
		t.Errorf("read back %v: the signature beside the data must not be believed", p)
	}
	if m.Duty.Noun() != (cluster.Duty{Slot: 7, Type: cluster.DutyRandao}) {
		t.Errorf("duty %v", m.Duty.Noun())
	}
	for _, bad := range []string{"", "0x12", strings.ToUpper(k.String()), strings.TrimPrefix(k.String(), "0x"), "0X" + k.String()[2:], k.String() + "00", strings.Repeat("g", 98)} {
		if _, err := (&wirepb.UnsignedDataSet{Set: map[string][]byte{bad: nil}}).Noun(); err == nil {
			t.Errorf("key %q passes", bad)
		}
	}
}

// The sample of each message is kept: whatever this program writes later, it must read these bytes.
func TestSamples(t *testing.T) {
	duty := &wirepb.Duty{Slot: 11, Type: 2}
	at := &timestamppb.Timestamp{Seconds: 1_700_000_000, Nanos: 5}
	samples := map[string]proto.Message{
		"peerinfo": &wirepb.PeerInfo{CharonVersion: "v1.10.3-provost", LockHash: bytes.Repeat([]byte{7}, 32), SentAt: at, StartedAt: at, GitHash: "0123abc", Nickname: "north", DvClient: "provost", BuilderApiEnabled: true},
		"parsigex": &wirepb.ParSigExMsg{Duty: duty, DataSet: &wirepb.ParSignedDataSet{Set: map[string]*wirepb.ParSignedData{"0x" + strings.Repeat("ab", 48): {Data: []byte{1}, Signature: []byte{2}, ShareIdx: 3}}}},
	}
	for name, want := range samples {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			b, err := wirepb.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := want.ProtoReflect().New().Interface()
		if err := wirepb.Read(unhex(t, strings.TrimSpace(string(text))), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
	}
}

func fuzz(f *testing.F, fresh func() proto.Message) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fresh()
		if err := wirepb.Read(b, m); err != nil {
			return
		}
		once, err := wirepb.Encode(m)
		if err != nil {
			t.Fatalf("read but not encoded: %v", err)
		}
		again := fresh()
		if err := wirepb.Read(once, again); err != nil {
			t.Fatalf("own bytes refused: %v", err)
		}
		if twice, _ := wirepb.Encode(again); !bytes.Equal(once, twice) {
			t.Fatalf("encoding isn't a fixed point: %x, then %x", once, twice)
		}
		if c, ok := m.(*wirepb.QBFTConsensusMsg); ok {
			for _, v := range c.Values {
				if set, _, _, err := wirepb.UnwrapUnsigned(v); err == nil {
					_, _ = set.Noun()
				}
			}
		}
	})
}

func FuzzReadConsensus(f *testing.F) {
	var cases []qbftVector
	load(f, "qbft_msgs.json", &cases)
	for _, c := range cases {
		f.Add(unhex(f, c.Consensus))
	}
	fuzz(f, func() proto.Message { return new(wirepb.QBFTConsensusMsg) })
}

func FuzzReadParSigEx(f *testing.F) {
	f.Add([]byte{0x0a, 0, 0x12, 0})
	f.Add([]byte{0x0a, 2, 0x08, 1, 0x12, 6, 0x0a, 4, 0x0a, 0, 0x12, 0})
	fuzz(f, func() proto.Message { return new(wirepb.ParSigExMsg) })
}

func FuzzReadPeerInfo(f *testing.F) {
	f.Add([]byte{0x0a, 1, 'v', 0x1a, 2, 8, 1})
	fuzz(f, func() proto.Message { return new(wirepb.PeerInfo) })
}

func FuzzReadPriority(f *testing.F) {
	f.Add([]byte{0x0a, 0})
	fuzz(f, func() proto.Message { return new(wirepb.PriorityMsg) })
}
