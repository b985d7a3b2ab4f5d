package simnet

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// Bounds of request bodies, in bytes, and of the lists in them.
const (
	maxBody         = 1 << 20
	maxAttestations = 16 << 20
	maxBlockBody    = 8 << 20
	maxListed       = 16384
)

// Handler serves the Beacon API and, below /simnet/v1/, the practice chain's own requests:
//
//	GET  /simnet/v1/status   the account, as Status
//	GET  /simnet/v1/faults   the faults that are on
//	POST /simnet/v1/faults   begins or ends one, as Fault
func (n *Node) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "provost-simnet")
		if !strings.HasPrefix(r.URL.Path, "/simnet/") {
			if _, down := n.has(Down); down {
				panic(http.ErrAbortHandler)
			}
			if f, slow := n.has(Slow); slow {
				select {
				case <-time.After(time.Duration(f.DelayMS) * time.Millisecond):
				case <-r.Context().Done():
					return
				}
			}
		}
		if r.URL.Path != "/eth/v1/events" {
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30 * time.Second))
		}
		n.mu.Lock()
		n.advanceLocked(time.Now())
		n.mu.Unlock()
		n.mux.ServeHTTP(w, r)
	})
}

func (n *Node) routes() {
	n.mux = http.NewServeMux()
	on := func(pattern string, fn http.HandlerFunc) { n.mux.HandleFunc(pattern, fn) }
	// synced wraps what a node refuses while it is behind, executed what it also refuses while optimistic.
	synced := func(fn http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, on := n.has(Syncing); on {
				fail(w, http.StatusServiceUnavailable, "Beacon node is currently syncing and not serving request on that endpoint")
				return
			}
			fn(w, r)
		}
	}
	executed := func(fn http.HandlerFunc) http.HandlerFunc {
		return synced(func(w http.ResponseWriter, r *http.Request) {
			if _, on := n.has(Optimistic); on {
				fail(w, http.StatusServiceUnavailable, "head is optimistic")
				return
			}
			fn(w, r)
		})
	}
	on("GET /simnet/v1/status", func(w http.ResponseWriter, r *http.Request) { reply(w, n.Status()) })
	on("GET /simnet/v1/faults", func(w http.ResponseWriter, r *http.Request) { n.replyFaults(w) })
	on("POST /simnet/v1/faults", n.postFault)

	on("GET /eth/v1/beacon/genesis", n.getGenesis)
	on("GET /eth/v1/config/spec", func(w http.ResponseWriter, r *http.Request) { reply(w, data(n.spec())) })
	on("GET /eth/v1/config/fork_schedule", n.getSchedule)
	on("GET /eth/v1/config/deposit_contract", func(w http.ResponseWriter, r *http.Request) {
		net, _ := cluster.NetworkByFork(n.o.NetworkFork)
		reply(w, data(map[string]any{"chain_id": dec(net.ChainID), "address": cluster.ETHAddress{}.String()}))
	})
	on("GET /eth/v1/node/version", func(w http.ResponseWriter, r *http.Request) { reply(w, data(map[string]any{"version": Version})) })
	on("GET /eth/v1/node/syncing", n.getSyncing)
	on("GET /eth/v1/node/health", func(w http.ResponseWriter, r *http.Request) {
		if _, behind := n.has(Syncing); behind {
			w.WriteHeader(http.StatusPartialContent)
		}
	})
	on("GET /eth/v1/node/peers", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"data": []any{}, "meta": map[string]any{"count": 0}}) // a practice node is alone
	})
	on("GET /eth/v1/node/peer_count", func(w http.ResponseWriter, r *http.Request) {
		reply(w, data(map[string]any{"disconnected": "0", "connecting": "0", "connected": "0", "disconnecting": "0"}))
	})
	on("GET /eth/v1/beacon/states/{state}/validators", n.getValidators)
	on("POST /eth/v1/beacon/states/{state}/validators", n.postValidators)
	on("GET /eth/v1/beacon/states/{state}/validators/{id}", n.getValidator)
	on("GET /eth/v1/beacon/states/{state}/fork", func(w http.ResponseWriter, r *http.Request) {
		if head(w, r) {
			v := n.forks.of(string(n.o.Fork))
			n.replyState(w, map[string]any{"previous_version": v, "current_version": v, "epoch": "0"})
		}
	})
	on("GET /eth/v1/beacon/states/{state}/finality_checkpoints", n.getFinality)
	on("GET /eth/v1/beacon/headers", n.getHeaders)
	on("GET /eth/v1/beacon/headers/{block}", n.getHeader)
	on("GET /eth/v2/beacon/blocks/{block}", n.getBlock)
	on("GET /eth/v1/beacon/blocks/{block}/root", func(w http.ResponseWriter, r *http.Request) {
		if b, ok := n.find(w, r.PathValue("block")); ok {
			n.replyState(w, map[string]any{"root": b.root})
		}
	})
	on("POST /eth/v1/validator/duties/attester/{epoch}", synced(n.postAttesterDuties))
	on("GET /eth/v1/validator/duties/proposer/{epoch}", synced(n.getProposerDuties))
	on("POST /eth/v1/validator/duties/sync/{epoch}", synced(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := readIndices(w, r); ok {
			reply(w, map[string]any{"execution_optimistic": false, "data": []any{}}) // nobody sits in a sync committee here
		}
	}))
	on("POST /eth/v1/validator/liveness/{epoch}", synced(n.postLiveness))
	on("GET /eth/v1/validator/attestation_data", executed(n.getAttestationData))
	on("GET /eth/v3/validator/blocks/{slot}", executed(n.getProposal))
	on("POST /eth/v1/beacon/pool/attestations", synced(func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusBadRequest, "the chain is at "+string(n.o.Fork)+": from Electra on, send single attestations to /eth/v2/beacon/pool/attestations")
	}))
	on("POST /eth/v2/beacon/pool/attestations", synced(n.postAttestations))
	on("POST /eth/v2/beacon/blocks", synced(func(w http.ResponseWriter, r *http.Request) { n.postBlock(w, r, false) }))
	on("POST /eth/v2/beacon/blinded_blocks", synced(func(w http.ResponseWriter, r *http.Request) { n.postBlock(w, r, true) }))
	on("POST /eth/v1/beacon/pool/voluntary_exits", synced(n.postExit))
	on("POST /eth/v1/validator/prepare_beacon_proposer", n.postPrepare)
	on("POST /eth/v1/validator/register_validator", n.postRegistrations)
	// There are no subnets to join.
	for _, p := range []string{"beacon_committee_subscriptions", "sync_committee_subscriptions"} {
		on("POST /eth/v1/validator/"+p, func(w http.ResponseWriter, r *http.Request) {
			var list []json.RawMessage
			readJSON(w, r, maxBody, &list)
		})
	}
	on("GET /eth/v1/events", n.events)
	on("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "the simnet doesn't serve this request")
	})
}

func dec(v uint64) string { return strconv.FormatUint(v, 10) }

func data(v any) map[string]any { return map[string]any{"data": v} }

func reply(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		fail(w, http.StatusInternalServerError, "the answer can't be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(raw)
}

func (n *Node) replyState(w http.ResponseWriter, v any) {
	_, optimistic := n.has(Optimistic)
	reply(w, map[string]any{"execution_optimistic": optimistic, "finalized": false, "data": v})
}

func fail(w http.ResponseWriter, status int, message string) {
	raw, _ := json.Marshal(map[string]any{"code": status, "message": message})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(raw)
}

func media(r *http.Request) string {
	m, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return m
}

// readBody reads a bounded body; it has answered when ok is false.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", limit))
		return nil, false
	case err != nil:
		fail(w, http.StatusBadRequest, "the body can't be read")
		return nil, false
	}
	return raw, true
}

func readJSON(w http.ResponseWriter, r *http.Request, limit int64, into any) bool {
	// A page in a browser can't send this type elsewhere without asking first.
	if media(r) != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "send application/json")
		return false
	}
	raw, ok := readBody(w, r, limit)
	if !ok {
		return false
	}
	if err := json.Unmarshal(raw, into); err != nil {
		fail(w, http.StatusBadRequest, "the body isn't what is expected: "+err.Error())
		return false
	}
	return true
}

func pathNumber(w http.ResponseWriter, r *http.Request, name string) (uint64, bool) {
	v, err := strconv.ParseUint(r.PathValue(name), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Sprintf("invalid %s: %.40q", name, r.PathValue(name)))
		return 0, false
	}
	return v, true
}

// head tells whether the state that is asked for is served: there is only the newest one.
func head(w http.ResponseWriter, r *http.Request) bool {
	switch id := r.PathValue("state"); id {
	case "head", "justified", "finalized", "genesis":
		return true
	default:
		if _, err := strconv.ParseUint(id, 10, 64); err == nil {
			return true // the newest state stands for every slot
		}
		fail(w, http.StatusBadRequest, fmt.Sprintf("invalid state id: %.70q", id))
		return false
	}
}

func (n *Node) replyFaults(w http.ResponseWriter) {
	n.mu.Lock()
	list := n.faultsLocked()
	n.mu.Unlock()
	reply(w, map[string]any{"schema": "provost.simnet.faults/1", "simnet": true, "faults": list})
}

func (n *Node) postFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !readJSON(w, r, 4096, &f) {
		return
	}
	if err := n.Ask(f); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	n.replyFaults(w)
}

// posing is the network that the node shows: its own, or another while that fault is on.
func (n *Node) posing() (cluster.ForkVersion, cluster.Root) {
	v, root := n.o.NetworkFork, n.gvr
	if _, wrong := n.has(WrongNetwork); wrong {
		v[3] ^= 0xff
		root = madeUp("another network", root[:])
	}
	return v, root
}

func (n *Node) getGenesis(w http.ResponseWriter, r *http.Request) {
	v, root := n.posing()
	reply(w, data(map[string]any{"genesis_time": strconv.FormatInt(n.o.GenesisTime.Unix(), 10), "genesis_validators_root": root, "genesis_fork_version": v}))
}

func (n *Node) getSchedule(w http.ResponseWriter, r *http.Request) {
	list := []map[string]any{}
	previous := n.forks[0].version
	for _, f := range n.forks.until(n.o.Fork) {
		list = append(list, map[string]any{"previous_version": previous, "current_version": f.version, "epoch": "0"})
		previous = f.version
	}
	reply(w, data(list))
}

func (n *Node) spec() map[string]any {
	net, ok := cluster.NetworkByFork(n.o.NetworkFork)
	name := "simnet"
	if ok {
		name = "simnet-" + net.Name
	}
	out := map[string]any{
		"CONFIG_NAME": name, "PRESET_BASE": "mainnet",
		"SECONDS_PER_SLOT": dec(uint64(max(n.o.SlotDuration/time.Second, 1))), "SLOT_DURATION_MS": dec(uint64(n.o.SlotDuration.Milliseconds())),
		"SLOTS_PER_EPOCH": dec(n.clock.SlotsPerEpoch), "MIN_GENESIS_TIME": dec(uint64(n.o.GenesisTime.Unix())), "GENESIS_DELAY": "0",
		"ATTESTATION_DUE_BPS": "3333", "AGGREGATE_DUE_BPS": "6667", "SYNC_MESSAGE_DUE_BPS": "3333", "CONTRIBUTION_DUE_BPS": "6667", "PROPOSER_REORG_CUTOFF_BPS": "1667",
		"INTERVALS_PER_SLOT": "3", "MAX_COMMITTEES_PER_SLOT": "64", "TARGET_COMMITTEE_SIZE": "128", "MAX_VALIDATORS_PER_COMMITTEE": "2048",
		"TARGET_AGGREGATORS_PER_COMMITTEE": "16", "MIN_SEED_LOOKAHEAD": "1", "MAX_SEED_LOOKAHEAD": "4", "SHARD_COMMITTEE_PERIOD": "0", "MIN_VALIDATOR_WITHDRAWABILITY_DELAY": "256",
		"EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "256", "SYNC_COMMITTEE_SIZE": "512", "SYNC_COMMITTEE_SUBNET_COUNT": "4", "TARGET_AGGREGATORS_PER_SYNC_SUBCOMMITTEE": "16",
		"MAX_EFFECTIVE_BALANCE": "32000000000", "MAX_EFFECTIVE_BALANCE_ELECTRA": "2048000000000", "EJECTION_BALANCE": "16000000000", "MAX_ATTESTATIONS_ELECTRA": "8",
		"MAXIMUM_GOSSIP_CLOCK_DISPARITY": "500", "MAX_BLOBS_PER_BLOCK": "0", "MAX_BLOBS_PER_BLOCK_ELECTRA": "0", "BLOB_SCHEDULE": []any{},
		"DEPOSIT_CHAIN_ID": dec(net.ChainID), "DEPOSIT_NETWORK_ID": dec(net.ChainID), "DEPOSIT_CONTRACT_ADDRESS": cluster.ETHAddress{}.String(),
		"DOMAIN_BEACON_PROPOSER": "0x00000000", "DOMAIN_BEACON_ATTESTER": "0x01000000", "DOMAIN_RANDAO": "0x02000000", "DOMAIN_DEPOSIT": "0x03000000",
		"DOMAIN_VOLUNTARY_EXIT": "0x04000000", "DOMAIN_SELECTION_PROOF": "0x05000000", "DOMAIN_AGGREGATE_AND_PROOF": "0x06000000", "DOMAIN_SYNC_COMMITTEE": "0x07000000",
		"DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF": "0x08000000", "DOMAIN_CONTRIBUTION_AND_PROOF": "0x09000000", "DOMAIN_BLS_TO_EXECUTION_CHANGE": "0x0a000000",
		"DOMAIN_APPLICATION_BUILDER": "0x00000001", "DOMAIN_APPLICATION_MASK": "0x00000001", "FAR_FUTURE_EPOCH": dec(uint64(farFuture)),
	}
	shown, _ := n.posing()
	for i, f := range n.forks {
		if i == 0 {
			out["GENESIS_FORK_VERSION"] = shown
			continue
		}
		key := strings.ToUpper(f.name)
		out[key+"_FORK_VERSION"], out[key+"_FORK_EPOCH"] = f.version, "0"
		if i >= len(n.forks.until(n.o.Fork)) {
			out[key+"_FORK_EPOCH"] = dec(uint64(farFuture))
		}
	}
	return out
}

func (n *Node) getSyncing(w http.ResponseWriter, r *http.Request) {
	_, behind := n.has(Syncing)
	_, optimistic := n.has(Optimistic)
	n.mu.Lock()
	h, s := n.head().slot, n.chain.slot
	n.mu.Unlock()
	distance := uint64(0)
	if behind {
		distance = uint64(s-h) + 64
	}
	reply(w, data(map[string]any{"head_slot": dec(uint64(h)), "sync_distance": dec(distance), "is_syncing": behind, "is_optimistic": optimistic, "el_offline": false}))
}

func (n *Node) validatorJSON(i valIndex) any {
	e := n.clock.Epoch(n.chain.slot)
	exit := farFuture
	if x, ok := n.chain.exitAt[i]; ok {
		exit = phase0.Epoch(x)
	}
	return map[string]any{"index": dec(uint64(i)), "balance": dec(uint64(maxEffective)), "status": n.wordLocked(i, e), "validator": n.stateValidator(i, exit, false)}
}

// replyValidators answers with the validators of the ids, all when there are none. Ids that aren't on
// the chain are left out.
func (n *Node) replyValidators(w http.ResponseWriter, ids, statuses []string) {
	if len(ids) > maxListed {
		fail(w, http.StatusRequestURITooLong, "too many validator ids in request")
		return
	}
	var list []valIndex
	for _, id := range ids {
		i, found, err := n.validatorID(id)
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		if found {
			list = append(list, i)
		}
	}
	if len(ids) == 0 {
		for i := range n.keys {
			list = append(list, valIndex(i))
		}
	}
	n.mu.Lock()
	out := []any{}
	for _, i := range list {
		word := n.wordLocked(i, n.clock.Epoch(n.chain.slot))
		wanted := len(statuses) == 0
		for _, s := range statuses {
			wanted = wanted || s == word || strings.HasPrefix(word, s+"_")
		}
		if wanted {
			out = append(out, n.validatorJSON(i))
		}
	}
	n.mu.Unlock()
	n.replyState(w, out)
}

func (n *Node) validatorID(id string) (valIndex, bool, error) {
	if strings.HasPrefix(id, "0x") {
		var k cluster.PubKey
		if err := k.UnmarshalText([]byte(id)); err != nil {
			return 0, false, fmt.Errorf("invalid validator id: %.110q", id)
		}
		i, ok := n.index[k]
		return i, ok, nil
	}
	v, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("invalid validator id: %.110q", id)
	}
	return valIndex(v), v < uint64(len(n.keys)), nil
}

func listed(r *http.Request, key string) []string {
	var out []string
	for _, v := range r.URL.Query()[key] {
		out = append(out, strings.Split(v, ",")...)
	}
	return out
}

func (n *Node) getValidators(w http.ResponseWriter, r *http.Request) {
	if head(w, r) {
		n.replyValidators(w, listed(r, "id"), listed(r, "status"))
	}
}

func (n *Node) postValidators(w http.ResponseWriter, r *http.Request) {
	var body struct {
		IDs      []string `json:"ids"`
		Statuses []string `json:"statuses"`
	}
	if head(w, r) && readJSON(w, r, 4*maxBody, &body) {
		n.replyValidators(w, body.IDs, body.Statuses)
	}
}

func (n *Node) getValidator(w http.ResponseWriter, r *http.Request) {
	if !head(w, r) {
		return
	}
	i, found, err := n.validatorID(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if !found {
		fail(w, http.StatusNotFound, "validator not found")
		return
	}
	n.mu.Lock()
	v := n.validatorJSON(i)
	n.mu.Unlock()
	n.replyState(w, v)
}

func (n *Node) getFinality(w http.ResponseWriter, r *http.Request) {
	if !head(w, r) {
		return
	}
	n.mu.Lock()
	point := func(c checkpoint) any { return map[string]any{"epoch": dec(uint64(c.epoch)), "root": c.root} }
	v := map[string]any{"previous_justified": point(n.chain.justified), "current_justified": point(n.chain.justified), "finalized": point(n.chain.finalized)}
	n.mu.Unlock()
	n.replyState(w, v)
}

// find returns the block of an id; it has answered when ok is false.
func (n *Node) find(w http.ResponseWriter, id string) (*block, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out *block
	first := n.chain.canonical[0]
	at := func(root cluster.Root) *block {
		if root == (cluster.Root{}) {
			return n.blockAt(0)
		}
		return n.chain.blocks[root]
	}
	switch id {
	case "head":
		out = n.head()
	case "genesis":
		if first.slot == 0 {
			out = first
		}
	case "justified":
		out = at(n.chain.justified.root)
	case "finalized":
		out = at(n.chain.finalized.root)
	default:
		if strings.HasPrefix(id, "0x") {
			var root cluster.Root
			if root.UnmarshalText([]byte(id)) != nil {
				fail(w, http.StatusBadRequest, fmt.Sprintf("invalid block id: %.70q", id))
				return nil, false
			}
			out = n.chain.blocks[root]
			break
		}
		s, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Sprintf("invalid block id: %.70q", id))
			return nil, false
		}
		if b := n.blockAt(cluster.Slot(s)); uint64(b.slot) == s {
			out = b
		}
	}
	if out == nil {
		fail(w, http.StatusNotFound, "block not found")
	}
	return out, out != nil
}

func (n *Node) headerJSON(b *block) any {
	n.mu.Lock()
	canonical := n.blockAt(b.slot) == b
	n.mu.Unlock()
	return map[string]any{"root": b.root, "canonical": canonical, "header": &phase0.SignedBeaconBlockHeader{Message: b.header, Signature: b.signed.Signature}}
}

func (n *Node) getHeader(w http.ResponseWriter, r *http.Request) {
	if b, ok := n.find(w, r.PathValue("block")); ok {
		n.replyState(w, n.headerJSON(b))
	}
}

func (n *Node) getHeaders(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("slot")
	if id == "" {
		id = "head"
	}
	if b, ok := n.find(w, id); ok {
		n.replyState(w, []any{n.headerJSON(b)})
	}
}

func (n *Node) getBlock(w http.ResponseWriter, r *http.Request) {
	b, ok := n.find(w, r.PathValue("block"))
	if !ok {
		return
	}
	w.Header().Set("Eth-Consensus-Version", string(n.o.Fork))
	if wantsSSZ(r) {
		raw, err := b.signed.MarshalSSZ()
		if err != nil {
			fail(w, http.StatusInternalServerError, "the block can't be written")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(raw)
		return
	}
	_, optimistic := n.has(Optimistic)
	reply(w, map[string]any{"version": n.o.Fork, "execution_optimistic": optimistic, "finalized": false, "data": b.signed})
}

// wantsSSZ tells whether the client names SSZ, and JSON not before it.
func wantsSSZ(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	type option struct {
		media string
		q     float64
	}
	var list []option
	for _, part := range strings.Split(accept, ",") {
		m, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		list = append(list, option{m, q})
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].q > list[j].q })
	return len(list) > 0 && list[0].media == "application/octet-stream"
}

// readIndices reads a list of validator indices; those beyond the chain's are left out.
func readIndices(w http.ResponseWriter, r *http.Request) ([]uint64, bool) {
	var text []json.RawMessage
	if !readJSON(w, r, 4*maxBody, &text) {
		return nil, false
	}
	if len(text) > MaxValidators {
		fail(w, http.StatusBadRequest, "too many indices")
		return nil, false
	}
	out := make([]uint64, len(text))
	for i, t := range text {
		v, err := strconv.ParseUint(strings.Trim(string(t), `"`), 10, 64)
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Sprintf("invalid index: %.40q", t))
			return nil, false
		}
		out[i] = v
	}
	return out, true
}

// askedEpoch reads the epoch of a duty request: not older than two, not later than the next one.
func (n *Node) askedEpoch(w http.ResponseWriter, r *http.Request) (cluster.Epoch, bool) {
	v, ok := pathNumber(w, r, "epoch")
	if !ok {
		return 0, false
	}
	n.mu.Lock()
	now := n.clock.Epoch(n.chain.slot)
	n.mu.Unlock()
	e := cluster.Epoch(v)
	if e > now+1 || e+2 < now {
		fail(w, http.StatusBadRequest, fmt.Sprintf("epoch %d isn't near the current one, %d", v, now))
		return 0, false
	}
	return e, true
}

func (n *Node) postAttesterDuties(w http.ResponseWriter, r *http.Request) {
	e, ok := n.askedEpoch(w, r)
	if !ok {
		return
	}
	ids, ok := readIndices(w, r)
	if !ok {
		return
	}
	_, optimistic := n.has(Optimistic)
	n.mu.Lock()
	ep := n.epochLocked(e)
	list := []any{}
	seen := map[uint64]bool{}
	for _, id := range ids {
		i, ok := ep.of[valIndex(id)]
		if !ok || seen[id] {
			continue
		}
		seen[id] = true
		d := ep.duties[i]
		list = append(list, map[string]any{"pubkey": n.o.Validators[d.validator].PubKey, "validator_index": dec(uint64(d.validator)), "committee_index": dec(d.committee),
			"committee_length": dec(d.length), "committees_at_slot": dec(d.perSlot), "validator_committee_index": dec(d.place), "slot": dec(uint64(d.slot))})
	}
	root := n.dependentRoot(e, 1)
	n.mu.Unlock()
	reply(w, map[string]any{"dependent_root": root, "execution_optimistic": optimistic, "data": list})
}

func (n *Node) getProposerDuties(w http.ResponseWriter, r *http.Request) {
	e, ok := n.askedEpoch(w, r)
	if !ok {
		return
	}
	_, optimistic := n.has(Optimistic)
	n.mu.Lock()
	ep := n.epochLocked(e)
	list := []any{}
	for s := n.clock.First(e); s < n.clock.First(e+1); s++ {
		if i, ok := ep.proposer[s]; ok && s > 0 {
			list = append(list, map[string]any{"pubkey": n.o.Validators[i].PubKey, "validator_index": dec(uint64(i)), "slot": dec(uint64(s))})
		}
	}
	root := n.dependentRoot(e, 0)
	n.mu.Unlock()
	reply(w, map[string]any{"dependent_root": root, "execution_optimistic": optimistic, "data": list})
}

func (n *Node) postLiveness(w http.ResponseWriter, r *http.Request) {
	e, ok := n.askedEpoch(w, r)
	if !ok {
		return
	}
	ids, ok := readIndices(w, r)
	if !ok {
		return
	}
	n.mu.Lock()
	ep := n.chain.epochs[e]
	list := []any{}
	for _, id := range ids {
		if id < uint64(len(n.keys)) {
			list = append(list, map[string]any{"index": dec(id), "is_live": ep != nil && ep.votes[valIndex(id)] != nil})
		}
	}
	n.mu.Unlock()
	reply(w, data(list))
}

func (n *Node) getAttestationData(w http.ResponseWriter, r *http.Request) {
	s, err := strconv.ParseUint(r.URL.Query().Get("slot"), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "the slot is missing or no number")
		return
	}
	d, err := n.attestationData(cluster.Slot(s))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	reply(w, data(d))
}

func (n *Node) getProposal(w http.ResponseWriter, r *http.Request) {
	slot, ok := pathNumber(w, r, "slot")
	if !ok {
		return
	}
	q := r.URL.Query()
	var reveal cluster.Signature
	if err := reveal.UnmarshalText([]byte(q.Get("randao_reveal"))); err != nil {
		fail(w, http.StatusBadRequest, "randao_reveal: "+err.Error())
		return
	}
	var graffiti [32]byte
	if g := strings.TrimPrefix(q.Get("graffiti"), "0x"); g != "" {
		raw, err := hex.DecodeString(g)
		if err != nil || len(raw) > 32 {
			fail(w, http.StatusBadRequest, "graffiti isn't 32 bytes of hex")
			return
		}
		copy(graffiti[:], raw)
	}
	boost := uint64(100)
	if v := q.Get("builder_boost_factor"); v != "" {
		var err error
		if boost, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, "builder_boost_factor is out of range")
			return
		}
	}
	b, err := n.offer(r.Context(), cluster.Slot(slot), reveal, graffiti)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	// The practice builder pays twice as much: 1 of boost × 2 against 100.
	hidden := n.o.Builder && boost > 50
	value := localValue
	var object interface {
		MarshalSSZ() ([]byte, error)
	}
	if hidden {
		value = builderValue
		if object, err = blinded(b); err != nil {
			fail(w, http.StatusInternalServerError, err.Error())
			return
		}
	} else if p := n.contents(b); p.Electra != nil {
		object = p.Electra
	} else {
		object = p.Fulu
	}
	w.Header().Set("Eth-Consensus-Version", string(n.o.Fork))
	w.Header().Set("Eth-Execution-Payload-Blinded", strconv.FormatBool(hidden))
	w.Header().Set("Eth-Execution-Payload-Value", value)
	w.Header().Set("Eth-Consensus-Block-Value", "0")
	if wantsSSZ(r) {
		raw, err := object.MarshalSSZ()
		if err != nil {
			fail(w, http.StatusInternalServerError, "the block can't be written")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(raw)
		return
	}
	reply(w, map[string]any{"version": n.o.Fork, "execution_payload_blinded": hidden, "execution_payload_value": value, "consensus_block_value": "0", "data": object})
}

// versioned checks the header that must name the fork of what is sent.
func (n *Node) versioned(w http.ResponseWriter, r *http.Request) bool {
	switch v := r.Header.Get("Eth-Consensus-Version"); v {
	case string(n.o.Fork):
		return true
	case "":
		fail(w, http.StatusBadRequest, "the header Eth-Consensus-Version is missing")
	default:
		fail(w, http.StatusBadRequest, fmt.Sprintf("the chain is at %s, the header Eth-Consensus-Version says %.32q", n.o.Fork, v))
	}
	return false
}

func (n *Node) postAttestations(w http.ResponseWriter, r *http.Request) {
	var raw []json.RawMessage
	if !n.versioned(w, r) || !readJSON(w, r, maxAttestations, &raw) {
		return
	}
	if len(raw) > maxListed {
		fail(w, http.StatusBadRequest, fmt.Sprintf("more than %d attestations in one request", maxListed))
		return
	}
	list := make([]*electra.SingleAttestation, len(raw))
	unread := map[int]error{}
	for i, text := range raw {
		a := new(electra.SingleAttestation)
		if err := a.UnmarshalJSON(text); err != nil {
			unread[i] = fmt.Errorf("not a single attestation: %w", err)
			continue
		}
		list[i] = a
	}
	failures, err := n.takeAttestations(r.Context(), list)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "the request was given up")
		return
	}
	for i, err := range unread {
		failures[i] = err
	}
	replyFailures(w, failures)
}

// replyFailures answers with what was refused of a list; the rest was taken.
func replyFailures(w http.ResponseWriter, failures map[int]error) {
	if len(failures) == 0 {
		return
	}
	places := make([]int, 0, len(failures))
	for i := range failures {
		places = append(places, i)
	}
	sort.Ints(places)
	items := make([]any, len(places))
	for k, i := range places {
		items[k] = map[string]any{"index": i, "message": failures[i].Error()}
	}
	raw, _ := json.Marshal(map[string]any{"code": http.StatusBadRequest, "message": "some items were refused, the others were taken", "failures": items})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	w.Write(raw)
}

func (n *Node) postBlock(w http.ResponseWriter, r *http.Request, blind bool) {
	if !n.versioned(w, r) {
		return
	}
	kind := media(r)
	if kind != "application/json" && kind != "application/octet-stream" {
		fail(w, http.StatusUnsupportedMediaType, "send application/json or application/octet-stream")
		return
	}
	raw, ok := readBody(w, r, maxBlockBody)
	if !ok {
		return
	}
	p, err := readPublication(raw, kind == "application/octet-stream", blind, n.o.Fork)
	if err == nil {
		err = n.publish(r.Context(), p)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
	}
}

func (n *Node) postExit(w http.ResponseWriter, r *http.Request) {
	var x phase0.SignedVoluntaryExit
	if !readJSON(w, r, maxBody, &x) {
		return
	}
	if err := n.takeExit(r.Context(), &x); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
	}
}

func (n *Node) postPrepare(w http.ResponseWriter, r *http.Request) {
	var list []struct {
		Index string           `json:"validator_index"`
		Fee   cluster.HexBytes `json:"fee_recipient"`
	}
	if !readJSON(w, r, 8*maxBody, &list) {
		return
	}
	fees := map[valIndex]cluster.ETHAddress{}
	for _, x := range list {
		i, err := strconv.ParseUint(x.Index, 10, 64)
		if err != nil || len(x.Fee) != 20 {
			fail(w, http.StatusBadRequest, "an item has no index or no address")
			return
		}
		if i < uint64(len(n.keys)) {
			fees[valIndex(i)] = cluster.ETHAddress(x.Fee)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, a := range fees {
		n.chain.fees[i] = a
	}
}

// postRegistrations checks registrations; the practice builder pays nobody.
func (n *Node) postRegistrations(w http.ResponseWriter, r *http.Request) {
	type text = json.RawMessage
	var list []struct {
		Message struct {
			Fee       cluster.AddressText `json:"fee_recipient"`
			GasLimit  text                `json:"gas_limit"`
			Timestamp text                `json:"timestamp"`
			PubKey    cluster.PubKey      `json:"pubkey"`
		} `json:"message"`
		Signature cluster.Signature `json:"signature"`
	}
	if !readJSON(w, r, 8*maxBody, &list) {
		return
	}
	if len(list) > maxListed {
		fail(w, http.StatusBadRequest, fmt.Sprintf("more than %d registrations in one request", maxListed))
		return
	}
	for i, x := range list {
		gas, gasErr := strconv.ParseUint(strings.Trim(string(x.Message.GasLimit), `"`), 10, 64)
		at, atErr := strconv.ParseUint(strings.Trim(string(x.Message.Timestamp), `"`), 10, 64)
		who, known := n.index[x.Message.PubKey]
		if gasErr != nil || atErr != nil || !known {
			fail(w, http.StatusBadRequest, fmt.Sprintf("registration %d: no number, or no validator of this chain", i))
			return
		}
		root, err := cluster.RegistrationMessage{FeeRecipient: x.Message.Fee, GasLimit: gas, TimestampUnix: at, PubKey: x.Message.PubKey}.SigningRoot(n.o.NetworkFork)
		if err == nil {
			err = n.verifyOne(r.Context(), who, root, x.Signature)
		}
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Sprintf("registration %d: %v", i, err))
			return
		}
	}
}
