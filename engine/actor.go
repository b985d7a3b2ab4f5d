package engine

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// Via says through which face somebody acts. The timed lock holds for screens;
// a command line or an HTTP client gives its consent by naming the plan.
type Via string

const (
	ViaScreen Via = "screen"
	ViaCLI    Via = "cli"
	ViaHTTP   Via = "http"
	ViaRule   Via = "rule" // the engine itself, following a rule or a timer
)

// Actor is who asked. UID is null when the system cannot tell it.
type Actor struct {
	Name string `json:"name"`
	UID  *int   `json:"uid"`
	Host string `json:"host,omitempty"` // where the viewer comes from, if known (SSH)
	Via  Via    `json:"via"`
}

// String is "ana@bastion" or "ana".
func (a Actor) String() string {
	switch {
	case a.Name == "" && a.UID != nil:
		return fmt.Sprintf("uid %d", *a.UID)
	case a.Host != "":
		return a.Name + "@" + a.Host
	}
	return a.Name
}

// NewKey makes an idempotency key: 26 characters, 128 random bits.
func NewKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// Key says where a row belongs. Every row of a snapshot, the store and JSON
// carries one. Empty parts mean "none": a GPU belongs to a machine and to no cluster.
type Key struct {
	Machine string `json:"machine"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// ID is unique inside the section for this machine, cluster and node.
	ID string `json:"id"`
}

// String is "machine/cluster/node/id" without its empty parts' neighbours lost:
// empty parts stay as "-".
func (k Key) String() string {
	p := []string{k.Machine, k.Cluster, k.Node, k.ID}
	for i, s := range p {
		if s == "" {
			p[i] = "-"
		}
	}
	return strings.Join(p, "/")
}
