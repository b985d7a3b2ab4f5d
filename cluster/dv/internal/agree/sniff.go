package agree

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"app.provost/cluster"
	"app.provost/cluster/internal/wirepb"
)

// sniffed is one message, ours or a peer's, as it was kept to explain failed rounds.
type sniffed struct {
	at   time.Time
	duty cluster.Duty
	msg  *wirepb.QBFTConsensusMsg
}

// sniffLocked keeps a message without its values, which can be whole blocks; the oldest one goes.
func (c *Consensus) sniffLocked(duty cluster.Duty, m *wirepb.QBFTConsensusMsg) {
	s := sniffed{time.Now(), duty, &wirepb.QBFTConsensusMsg{Msg: m.GetMsg(), Justification: m.GetJustification()}}
	if len(c.sniffed) < maxSniffed {
		c.sniffed = append(c.sniffed, s)
		return
	}
	c.sniffed[c.next] = s
	c.next = (c.next + 1) % maxSniffed
}

// Sniffed returns the last few thousand messages by duty, in the order in which duties came up, for
// explaining failed rounds. Values are left out. The messages are shared and must not be changed.
func (c *Consensus) Sniffed() *wirepb.SniffedConsensusInstances {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &wirepb.SniffedConsensusInstances{}
	of := map[cluster.Duty]*wirepb.SniffedConsensusInstance{}
	for k := range c.sniffed {
		s := c.sniffed[(c.next+k)%len(c.sniffed)]
		i := of[s.duty]
		if i == nil {
			i = &wirepb.SniffedConsensusInstance{StartedAt: timestamppb.New(s.at), Nodes: int64(c.o.Nodes), PeerIdx: int64(c.o.Self), ProtocolId: wirepb.ProtocolQBFT}
			of[s.duty] = i
			out.Instances = append(out.Instances, i)
		}
		i.Msgs = append(i.Msgs, &wirepb.SniffedConsensusMsg{Timestamp: timestamppb.New(s.at), Msg: s.msg})
	}
	return out
}
