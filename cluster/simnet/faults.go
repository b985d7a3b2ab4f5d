package simnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"app.provost/cluster"
)

// FaultKind names a fault that the practice node can be asked to have.
type FaultKind string

// The faults.
const (
	Syncing      FaultKind = "syncing"       // says that it is behind, answers 503 where a real node would
	Optimistic   FaultKind = "optimistic"    // follows blocks it hasn't executed
	LateBlock    FaultKind = "late_block"    // blocks arrive delay_ms after their slot's start
	Reorg        FaultKind = "reorg"         // at once the newest depth blocks are thrown out
	Slow         FaultKind = "slow"          // every answer takes delay_ms longer
	WrongNetwork FaultKind = "wrong_network" // answers with another fork version and genesis validators root
	EventsCut    FaultKind = "events_cut"    // event streams end, new ones are refused
	EventsSilent FaultKind = "events_silent" // event streams stay open and say nothing
	Lying        FaultKind = "lying"         // attestation data names a head that doesn't exist
	Down         FaultKind = "down"          // connections break; only /simnet/ is answered
)

var faultKinds = []FaultKind{Syncing, Optimistic, LateBlock, Reorg, Slow, WrongNetwork, EventsCut, EventsSilent, Lying, Down}

// Fault is one fault, as it is asked for.
type Fault struct {
	Kind    FaultKind `json:"kind"`
	Off     bool      `json:"off,omitempty"`      // end it
	Slots   uint64    `json:"slots,omitempty"`    // ends by itself after so many slots; 0: until it is ended
	DelayMS uint64    `json:"delay_ms,omitempty"` // late_block and slow
	Depth   uint64    `json:"depth,omitempty"`    // reorg; 1 when 0
	until   cluster.Slot
}

const maxDelayMS = 10 * 60 * 1000

// Ask begins or ends a fault.
func (n *Node) Ask(f Fault) error {
	if !slices.Contains(faultKinds, f.Kind) {
		words := make([]string, len(faultKinds))
		for i, k := range faultKinds {
			words[i] = string(k)
		}
		return fmt.Errorf("ask for fault %.40q: the kinds are %s", f.Kind, strings.Join(words, ", "))
	}
	if f.DelayMS > maxDelayMS || f.Slots > 1<<20 || f.Depth > 64 {
		return fmt.Errorf("ask for fault %s: at most %d delay_ms, %d slots and depth 64", f.Kind, maxDelayMS, 1<<20)
	}
	if (f.Kind == LateBlock || f.Kind == Slow) && f.DelayMS == 0 && !f.Off {
		return fmt.Errorf("ask for fault %s: delay_ms is missing", f.Kind)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Info("fault asked for", "kind", f.Kind, "off", f.Off, "slots", f.Slots)
	switch {
	case f.Off:
		delete(n.chain.faults, f.Kind)
	case f.Kind == Reorg:
		if len(n.chain.canonical) < 2 {
			return errors.New("ask for fault reorg: there is no block yet that could be thrown out")
		}
		n.reorgLocked(max(f.Depth, 1))
	default:
		f.until = n.chain.slot + cluster.Slot(f.Slots)
		n.chain.faults[f.Kind] = &f
		if f.Kind == EventsCut || f.Kind == Down {
			n.hub.closeAll()
		}
	}
	return nil
}

// faultsAtSlotLocked ends the faults whose time is over.
func (n *Node) faultsAtSlotLocked(s cluster.Slot) {
	for k, f := range n.chain.faults {
		if f.Slots > 0 && s >= f.until {
			delete(n.chain.faults, k)
		}
	}
}

func (n *Node) faultsLocked() []Fault {
	out := []Fault{}
	for _, k := range faultKinds {
		if f := n.chain.faults[k]; f != nil {
			out = append(out, *f)
		}
	}
	return out
}

func (n *Node) has(k FaultKind) (Fault, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.chain.faults[k]; f != nil {
		return *f, true
	}
	return Fault{}, false
}
