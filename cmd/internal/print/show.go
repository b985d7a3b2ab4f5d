package print

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"app.provost/cluster"
)

// ClusterRowSchema is the version of the JSON of one validator of a lock.
const ClusterRowSchema = "provost.cluster.validator/1"

// Cluster writes what a lock or a definition says. Text is short for people, Wide has every key
// and record whole; JSONL, CSV and Name are about the validators.
func Cluster(w io.Writer, s *cluster.Summary, f Format, st Style) error {
	switch f {
	case AJSON:
		return JSON(w, s)
	case JSONL:
		for _, v := range s.Validators {
			if err := JSONLine(w, struct {
				Schema   string        `json:"schema"`
				LockHash *cluster.Root `json:"lock_hash"`
				Row      any           `json:"row"`
			}{ClusterRowSchema, s.LockHash, v}); err != nil {
				return err
			}
		}
		return nil
	case CSV:
		return clusterCSV(w, s)
	case Name:
		for _, v := range s.Validators {
			if v.PubKey == nil {
				continue // before keys are made a validator has no name
			}
			if _, err := fmt.Fprintf(w, "validator/%s\n", v.PubKey); err != nil {
				return err
			}
		}
		return nil
	}
	if err := grid(w, st, clusterHead(s, st), nil, nil); err != nil {
		return err
	}
	wide := f == Wide
	nodes := [][]string{{"NODE", "SHARE", "PEER", "OPERATOR", "SIGNED"}}
	if wide {
		nodes[0] = append(nodes[0], "RECORD")
	}
	for _, n := range s.Nodes {
		row := []string{strconv.Itoa(int(n.Node)), strconv.Itoa(int(n.ShareIndex)), peerWord(n, wide, st), address(n.Operator.Address, wide, st), st.clean(signedWord(s, n))}
		if wide {
			row = append(row, st.clean(n.ENR))
		}
		nodes = append(nodes, row)
	}
	validators := [][]string{{"VALIDATOR", "PUBLIC KEY", "WITHDRAWAL", "FEE RECIPIENT", "DEPOSITS"}}
	if wide {
		validators[0] = append(validators[0], "GAS LIMIT", "REGISTERED")
		for i := range s.Nodes {
			validators[0] = append(validators[0], fmt.Sprintf("SHARE %d", i+1))
		}
	}
	for _, v := range s.Validators {
		key := "-"
		if v.PubKey != nil {
			key = shortHex(v.PubKey.String(), wide, st)
		}
		row := []string{strconv.Itoa(v.Validator), key, address(v.Withdrawal, wide, st), address(v.FeeRecipient, wide, st), amounts(v.DepositGwei)}
		if wide {
			gas, at := "-", "-"
			if v.GasLimit != nil {
				gas = strconv.FormatUint(*v.GasLimit, 10)
			}
			if v.RegisteredUnix != nil && *v.RegisteredUnix < 1<<40 {
				at = time.Unix(int64(*v.RegisteredUnix), 0).UTC().Format(time.RFC3339)
			}
			row = append(row, gas, at)
			for _, share := range v.PublicShares {
				row = append(row, share.String())
			}
		}
		validators = append(validators, row)
	}
	for _, table := range [][][]string{nodes, validators} {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		words := make([][]string, len(table))
		words[0] = make([]string, len(table[0]))
		for i := range words[0] {
			words[0][i] = "head"
		}
		if err := grid(w, st, table, nil, words); err != nil {
			return err
		}
	}
	if len(s.UnknownKeys) > 0 {
		if _, err := fmt.Fprintf(w, "\nkeys that this version of the format doesn't have: %s\n", st.clean(strings.Join(s.UnknownKeys, ", "))); err != nil {
			return err
		}
	}
	for _, n := range s.Notes {
		if _, err := fmt.Fprintf(w, "%s %s\n", st.paint("warn", "note:"), st.clean(n)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\nthis is what the file says; to check it: provost verify cluster %s\n", st.clean(s.Path))
	return err
}

// clusterHead are the lines above the tables.
func clusterHead(s *cluster.Summary, st Style) [][]string {
	var rows [][]string
	line := func(name, value string) { rows = append(rows, []string{name, st.clean(value)}) }
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	line("name", or(s.Name, "-"))
	network := "unknown, fork version " + s.ForkVersion
	if s.Network != nil {
		network = fmt.Sprintf("%s, fork version %s, chain %d", *s.Network, s.ForkVersion, *s.ChainID)
	}
	line("network", network)
	line("nodes", fmt.Sprintf("%d, threshold %d: %d may be down", len(s.Nodes), s.Threshold, s.MayBeDown))
	line("validators", strconv.Itoa(s.NumValidators))
	deposits := "defaults"
	if s.DepositGwei != nil {
		deposits = amounts(s.DepositGwei)
	}
	if s.Compounding {
		deposits += ", compounding (0x02)"
	}
	line("deposits", deposits)
	if s.TargetGasLimit != nil {
		line("gas limit", strconv.FormatUint(*s.TargetGasLimit, 10))
	}
	line("consensus", or(s.ConsensusProtocol, "any"))
	line("key generation", or(s.DKGAlgorithm, "-"))
	creator := "none: one process made it"
	if s.Creator.Address != "" {
		creator = s.Creator.Address + ", " + yes(s.Creator.Signed, "signed", "not signed")
	}
	line("creator", creator)
	line("created", or(s.Created, "-"))
	line("format", fmt.Sprintf("%s %s", s.Kind, s.Version))
	line("uuid", or(s.UUID, "-"))
	if s.LockHash != nil {
		line("lock hash", s.LockHash.String())
	}
	line("definition hash", s.DefinitionHash.String())
	line("config hash", s.ConfigHash.String())
	if s.Kind == "lock" {
		signed := 0
		for _, n := range s.Nodes {
			if n.LockSigned {
				signed++
			}
		}
		of := fmt.Sprintf("of %d of %d nodes", signed, len(s.Nodes))
		if !cluster.FormatVersion(s.Version).HasNodeSignatures() {
			of = "of no node: the format has none"
		}
		line("signatures", fmt.Sprintf("of all key shares: %s; %s", yes(s.Aggregate, "there", "missing"), of))
	}
	line("file", s.Path)
	return rows
}

func yes(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// signedWord is what a node and its operator signed.
func signedWord(s *cluster.Summary, n cluster.SummaryNode) string {
	var all []string
	if n.Operator.Signed {
		all = append(all, "configuration")
	}
	if n.RecordSigned {
		all = append(all, "record")
	}
	if n.LockSigned {
		all = append(all, "lock")
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

func peerWord(n cluster.SummaryNode, whole bool, st Style) string {
	switch {
	case n.PeerID == nil && n.ENR == "":
		return "not joined yet"
	case n.PeerID == nil:
		return "record not valid"
	case whole || len(*n.PeerID) < 16:
		return *n.PeerID
	default:
		// All begin alike.
		return "16U" + st.dots() + (*n.PeerID)[len(*n.PeerID)-8:]
	}
}

func address(a string, whole bool, st Style) string {
	if a == "" {
		return "-"
	}
	return shortHex(st.clean(a), whole, st)
}

// shortHex keeps the beginning and the end of a long hex text.
func shortHex(s string, whole bool, st Style) string {
	if whole || len(s) <= 20 || !strings.HasPrefix(s, "0x") || strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) >= 0 {
		return s
	}
	return s[:10] + st.dots() + s[len(s)-6:]
}

// dots stand for what was left out.
func (st Style) dots() string {
	if st.ASCII {
		return ".."
	}
	return "…"
}

func amounts(all []cluster.Gwei) string {
	if len(all) == 0 {
		return "-"
	}
	words := make([]string, len(all))
	for i, g := range all {
		words[i] = g.String()
	}
	return strings.Join(words, ", ")
}

func clusterCSV(w io.Writer, s *cluster.Summary) error {
	out := csv.NewWriter(w)
	out.Write([]string{"validator", "pubkey", "withdrawal_address", "fee_recipient_address", "deposits_gwei", "gas_limit", "registered_unix"}) // errors stay until Error
	for _, v := range s.Validators {
		row := []string{strconv.Itoa(v.Validator), "", Clean(v.Withdrawal), Clean(v.FeeRecipient), "", "", ""}
		if v.PubKey != nil {
			row[1] = v.PubKey.String()
		}
		var gwei []string
		for _, g := range v.DepositGwei {
			gwei = append(gwei, strconv.FormatUint(uint64(g), 10))
		}
		row[4] = strings.Join(gwei, " ")
		if v.GasLimit != nil {
			row[5] = strconv.FormatUint(*v.GasLimit, 10)
		}
		if v.RegisteredUnix != nil {
			row[6] = strconv.FormatUint(*v.RegisteredUnix, 10)
		}
		out.Write(row)
	}
	out.Flush()
	return out.Error()
}

// Identity writes the text of a node record; with all also what is in it.
func Identity(w io.Writer, id *cluster.Identity, all bool, st Style) error {
	if _, err := fmt.Fprintln(w, st.clean(id.ENR)); err != nil || !all {
		return err
	}
	rows := [][]string{{"peer id", id.PeerID}, {"public key", id.PublicKey}, {"node id", id.NodeID}, {"sequence", strconv.FormatUint(id.Seq, 10)}, {"signature", id.Signature + " (good)"}}
	for _, p := range id.Pairs {
		if p.Key != "secp256k1" {
			rows = append(rows, []string{"pair " + st.clean(p.Key), st.clean(p.Value)})
		}
	}
	if id.File != "" {
		rows = append(rows, []string{"key file", st.clean(id.File)})
	}
	return grid(w, st, rows, nil, nil)
}
