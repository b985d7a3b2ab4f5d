package simnet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxStatus bounds the account that is read: 65,536 validators are about 20 MB.
const maxStatus = 64 << 20

// ReadStatus asks a practice chain at an address (host:port) for its account.
func ReadStatus(ctx context.Context, address string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fail := func(err error) (Status, error) {
		return Status{}, fmt.Errorf("read the practice chain's account from %s: %w", address, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/simnet/v1/status", nil)
	if err != nil {
		return fail(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("it answers %s", res.Status))
	}
	var s Status
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatus)).Decode(&s); err != nil {
		return fail(err)
	}
	if !s.Simnet {
		return fail(fmt.Errorf("it is no practice chain"))
	}
	return s, nil
}
