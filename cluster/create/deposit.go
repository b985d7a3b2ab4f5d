package create

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"app.provost/cluster"
)

// Deposit files follow the format of the Ethereum staking deposit tool, which the launchpads read.
const depositToolVersion = "2.7.0"

// depositEntry is one deposit; hex is without 0x.
type depositEntry struct {
	PubKey                string `json:"pubkey"`
	WithdrawalCredentials string `json:"withdrawal_credentials"`
	Amount                uint64 `json:"amount"` // gwei
	Signature             string `json:"signature"`
	DepositMessageRoot    string `json:"deposit_message_root"`
	DepositDataRoot       string `json:"deposit_data_root"`
	ForkVersion           string `json:"fork_version"`
	NetworkName           string `json:"network_name"`
	DepositCLIVersion     string `json:"deposit_cli_version"`
}

func newDepositEntry(d cluster.Deposit, network cluster.Network) depositEntry {
	message, data := d.DepositMessage.Root(), d.DataRoot(d.Signature)
	return depositEntry{
		PubKey:                hex.EncodeToString(d.PubKey[:]),
		WithdrawalCredentials: hex.EncodeToString(d.WithdrawalCredentials[:]),
		Amount:                uint64(d.Amount),
		Signature:             hex.EncodeToString(d.Signature[:]),
		DepositMessageRoot:    hex.EncodeToString(message[:]),
		DepositDataRoot:       hex.EncodeToString(data[:]),
		ForkVersion:           hex.EncodeToString(network.Fork[:]),
		NetworkName:           network.Name,
		DepositCLIVersion:     depositToolVersion,
	}
}

// parseDeposits reads a deposit file. Unknown keys are refused: a launchpad would not know them
// either. An error about one deposit is a *cluster.FieldError with its place.
func parseDeposits(raw []byte) ([]depositEntry, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("not a deposit file: %w", err)
	}
	out := make([]depositEntry, len(list))
	for i, one := range list {
		dec := json.NewDecoder(bytes.NewReader(one))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&out[i]); err != nil {
			return nil, &cluster.FieldError{Path: index("", i), Err: fmt.Errorf("not a deposit: %w", err)}
		}
	}
	return out, nil
}

// depositLabel names an amount in file names and check names: 1eth, 32eth, 1500000000gwei.
func depositLabel(a cluster.Gwei) string {
	if a%cluster.Ether != 0 {
		return strconv.FormatUint(uint64(a), 10) + "gwei"
	}
	return strconv.FormatUint(uint64(a/cluster.Ether), 10) + "eth"
}

// depositFileName is deposit-data.json for 32 ETH and has the amount in it for others.
func depositFileName(a cluster.Gwei) string {
	if a == 32*cluster.Ether {
		return "deposit-data.json"
	}
	return "deposit-data-" + depositLabel(a) + ".json"
}

var depositFilePattern = regexp.MustCompile(`^deposit-data(-[0-9]+(eth|gwei))?\.json$`)
