package create

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// either.
func parseDeposits(raw []byte) ([]depositEntry, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var out []depositEntry
	if err := dec.Decode(&out); err != nil {
		return nil, fmt.Errorf("not a deposit file: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a deposit file: something follows the list")
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
