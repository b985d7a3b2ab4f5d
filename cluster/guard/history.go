package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"app.provost/cluster"
)

// ReadInterchange checks an EIP-3076 file of the chain with this genesis validators root and reduces it
// to the marks of each validator. It needs no open guard. A zero root takes any chain. It returns the
// root that the file names.
func ReadInterchange(from io.Reader, root cluster.Root) (map[cluster.PubKey]Marks, cluster.Root, error) {
	raw, err := io.ReadAll(io.LimitReader(from, maxInterchangeBytes))
	if err != nil {
		return nil, root, fmt.Errorf("read slashing history: %w", err)
	}
	if root == (cluster.Root{}) {
		var head struct {
			Meta interchangeMeta `json:"metadata"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, root, fmt.Errorf("read slashing history: %w", err)
		}
		if head.Meta.Root == nil {
			return nil, root, errors.New("read slashing history: it names no genesis validators root")
		}
		root = *head.Meta.Root
	}
	marks, _, err := readInterchange(bytes.NewReader(raw), root)
	if err != nil {
		return nil, root, fmt.Errorf("read slashing history: %w", err)
	}
	return marks, root, nil
}
