package engine

// Codes of findings and problems. One list, so that a test can hold the
// catalogue, the generated page and the code to each other. A code never
// changes its meaning and is never used again for another.
const (
	// Problems: what a request or a start is answered with.
	CodeUnexpected     Code = "engine.unexpected"      // a fault of ours, or of the system below
	CodeUsage          Code = "request.usage"          // a flag or field is missing or wrong
	CodePlanChanged    Code = "request.plan-changed"   // the digest names another plan than now
	CodePlanNeeded     Code = "request.plan-needed"    // Do without a digest
	CodeNoMatch        Code = "request.no-match"       // the selector matches nothing that can be acted on
	CodeNotFound       Code = "request.not-found"      // no such job, act, alert
	CodeLocked         Code = "request.locked"         // screens are locked
	CodeDenied         Code = "request.denied"         // this actor may not
	CodeNotConfigured  Code = "request.not-configured" // the engine does not carry the role
	CodeStopping       Code = "engine.stopping"        // no new acts while stopping
	CodeBusy           Code = "engine.busy"            // a bounded queue is full
	CodeNoEngine       Code = "engine.none"            // nobody answers on the socket
	CodeProtocol       Code = "engine.protocol"        // the other side speaks another version
	CodeStateLocked    Code = "state.locked"           // another engine runs on this state directory
	CodeStoreDamaged   Code = "state.damaged"          // the store cannot be read
	CodeStoreNewer     Code = "state.newer"            // written by a newer version
	CodeDirUnwritable  Code = "state.unwritable"       // a directory cannot be written
	CodeNoSpace        Code = "state.no-space"         // the disk is full
	CodeSocketTaken    Code = "socket.taken"           // somebody else listens there
	CodePortTaken      Code = "port.taken"             // the TCP port is in use
	CodeConfigInvalid  Code = "config.invalid"         // unknown key, wrong value
	CodeZkeyDamaged    Code = "job.zkey-damaged"
	CodeZkeyUnfit      Code = "job.zkey-unfit" // another curve or protocol
	CodeWitnessDamaged Code = "job.witness-damaged"
	CodeWitnessOther   Code = "job.witness-other-circuit"
	CodeJobNotVerified Code = "job.not-verified" // fetch before it is verified
	CodeClusterParams  Code = "cluster.params"   // wrong address, threshold, count …
	CodeClusterExists  Code = "cluster.exists"   // the target directory is taken
	CodeClusterBroken  Code = "cluster.broken"   // verify found a failed check
	CodeSharesFew      Code = "combine.too-few"  // fewer nodes than the threshold
	CodeNoHistory      Code = "combine.no-history"
	CodeArchiveBroken  Code = "archive.unreadable" // not an export of a node, damaged, or sealed for somebody else
	CodeProverParams   Code = "prover.params"      // a GPU, key, server or name of a prover is not valid
	CodeProverTwice    Code = "prover.twice"       // a key, GPU or name is used by another prover already
	CodeProverUnfit    Code = "prover.unfit"       // the machine lacks what the provers need

	// Findings: what the engine raises by itself.
	FindWorkerDown     Code = "worker.down"             // its process died and will be restarted
	FindWorkerDying    Code = "worker.keeps-dying"      // the policy has given up
	FindWorkerStale    Code = "worker.stale"            // heartbeat late
	FindWorkerShared   Code = "worker.core-shared"      // no free core: shares one
	FindPauseEnding    Code = "worker.pause-ending"     // resumes soon although held by hand
	FindJobFailed      Code = "job.failed"              // a job failed for good
	FindJobsWaiting    Code = "jobs.waiting"            // jobs queue and no worker can take them
	FindHostMemory     Code = "host.memory-low"         // MemAvailable is low
	FindHostDisk       Code = "host.disk-low"           // a filesystem we write to is nearly full
	FindHostClock      Code = "host.clock-off"          // clock offset beyond the limit
	FindHostHugepages  Code = "host.hugepages-full"     // the pool is used up
	FindHostSilent     Code = "host.reading-old"        // a reading is older than five periods
	FindGPULost        Code = "gpu.lost"                // answered once, does not any more
	FindGPUHot         Code = "gpu.hot"                 // clocks held back by heat
	FindGPUXid         Code = "gpu.xid"                 // the driver reported a critical error
	FindGPUSilent      Code = "gpu.silent"              // the driver call does not return
	FindVerifierDown   Code = "verifier.down"           // nothing counts until it is back
	FindNodeBroken     Code = "node.unreadable"         // a node directory cannot be used
	FindNodeLoose      Code = "node.loose-modes"        // keys readable by others
	FindNodeNotSigning Code = "node.not-signing"        // shown, and not run by this engine
	FindNodeMoved      Code = "node.moved"              // it was exported to run elsewhere
	FindDutyMissed     Code = "dv.duty-missed"          // no group signature by the deadline
	FindQuorumLost     Code = "dv.quorum-lost"          // too few nodes to sign anything
	FindPeerDown       Code = "dv.peer-down"            // a node of the cluster is not reachable
	FindBeaconDown     Code = "dv.beacon-down"          // a beacon node does not answer, or is of another network
	FindBeaconSyncing  Code = "dv.beacon-syncing"       // a beacon node is behind the chain
	FindDVClock        Code = "dv.clock-off"            // a node's clock differs from the others'
	FindNoActive       Code = "dv.no-active-validators" // none of the cluster's validators has duties
	FindKeyInUse       Code = "dv.key-in-use"           // two copies of a node
	FindGuardRefused   Code = "dv.guard-refused"        // slashing protection refused to sign
	FindEngineCrash    Code = "engine.room-crashed"     // a named task panicked and was restarted
	FindStoreSlow      Code = "state.slow-disk"         // a commit took longer than a second
)

// Codes lists every code there is, for the completeness test of the catalogue.
var Codes = []Code{
	CodeUnexpected, CodeUsage, CodePlanChanged, CodePlanNeeded, CodeNoMatch, CodeNotFound, CodeLocked, CodeDenied,
	CodeNotConfigured, CodeStopping, CodeBusy, CodeNoEngine, CodeProtocol, CodeStateLocked, CodeStoreDamaged,
	CodeStoreNewer, CodeDirUnwritable, CodeNoSpace, CodeSocketTaken, CodePortTaken, CodeConfigInvalid,
	CodeZkeyDamaged, CodeZkeyUnfit, CodeWitnessDamaged, CodeWitnessOther, CodeJobNotVerified,
	CodeClusterParams, CodeClusterExists, CodeClusterBroken, CodeSharesFew, CodeNoHistory, CodeArchiveBroken,
	CodeProverParams, CodeProverTwice, CodeProverUnfit,
	FindWorkerDown, FindWorkerDying, FindWorkerStale, FindWorkerShared, FindPauseEnding, FindJobFailed, FindJobsWaiting,
	FindHostMemory, FindHostDisk, FindHostClock, FindHostHugepages, FindHostSilent,
	FindGPULost, FindGPUHot, FindGPUXid, FindGPUSilent, FindVerifierDown,
	FindNodeBroken, FindNodeLoose, FindNodeNotSigning, FindNodeMoved,
	FindDutyMissed, FindQuorumLost, FindPeerDown, FindBeaconDown, FindBeaconSyncing, FindDVClock, FindNoActive, FindKeyInUse, FindGuardRefused,
	FindEngineCrash, FindStoreSlow,
}
