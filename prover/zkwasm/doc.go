// Package zkwasm is the adapter of zkWasm prover nodes: what each version of the
// node needs, which files configure it, and which of its directories are on a disk.
//
// Promises. A version is data (Versions): nothing here asks which version it has,
// but for what the version's own fields say. Nothing of the node is ever run,
// fetched or copied: its image is named in a compose file, and starting that is the
// operator's act. Files are made in memory (Tree); writing them is somebody else's
// work. Reading foreign files is bounded in size and number, follows no links and
// never fails for a stranger's mistake: what cannot be read is told.
//
// A private key lives in Key, which prints and encodes as a mark. It leaves only
// into the bytes of the files that the node reads it from. No error text, plan or
// warning holds a part of one; keys are told apart by the address that they give.
//
// Facts come from the public repository github.com/DelphinusLab/prover-node-docker
// and are cited where they stand.
package zkwasm
