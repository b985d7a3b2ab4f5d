package flow

import (
	"errors"
	"path/filepath"
	"strings"

	"app.provost/engine"
)

// The flows of leaving: whole keys out of a cluster, and one node to another place or into a
// backup. Their names are the words of their commands.
const (
	CombineID    ID = "combine"
	NodeExportID ID = "node export"
	NodeImportID ID = "node import"
)

// minPassphrase is the shortest that is taken for sealing, in characters.
const minPassphrase = 12

// Combine is the flow that puts whole validator keys together, to leave a cluster.
func Combine() Flow {
	return Flow{
		ID: CombineID, Title: "Leave a cluster: put whole keys together",
		Needs: "the directories of as many nodes as the threshold says, as they ran last, and all nodes stopped for good",
		Makes: "an ordinary keystore for each validator with its password, and the history of what was signed; nothing leaves this machine, and the nodes' directories stay as they are",
		Takes: "about 2 minutes; nothing is written before you agree at the end",
		Steps: []Step{
			{ID: "nodes", Title: "nodes", Intro: "Whose shares are put together. All that are given are checked, and one node of the cluster that runs on gets the validators slashed.",
				Fields: []Field{
					{
						Key: "dirs", Title: "Node directories", Kind: File, Several: true, Optional: true, Arg: true, Example: "./node0,./node1,./node2",
						Help: "Leave it empty if the nodes' directories all lie in one. Otherwise those in which they ran last, by commas.",
					},
					{
						Key: "cluster-dir", Title: "Directory of them all", Kind: File, Example: "./nodes-of-all-operators",
						When: func(a Answers) bool { return a["dirs"] == "" }, Idle: "the nodes' directories are named one by one",
						Help:    "Each node that is found in it is taken. The directory in which the nodes' directories lie.",
						Default: func(Facts, Answers) string { return "." }, Offered: true,
					},
				}},
			{ID: "place", Title: "where to", Intro: "The keys are written aside and put in place in one step. Whoever has them can sign alone.",
				Fields: []Field{
					{
						Key: "output-dir", Title: "Directory", Kind: NewDir, Example: "./validator_keys",
						Help:    "What is there is never overwritten. A directory that is not there yet, or is empty.",
						Default: func(Facts, Answers) string { return "./validator_keys" },
					},
					{
						Key: "no-slashing-history", Title: "No history", Kind: Sentence, Optional: true,
						Help: "Leave it empty: the history of what was signed comes from the nodes. Where it is not whole, the checks refuse and name a sentence to type here.",
					},
				}},
		},
		Consent: func(a Answers) string {
			// The cluster is named by its directory where that has a name of its own.
			return "combine " + nameOf(a["cluster-dir"], nameOf(a["output-dir"], "keys"))
		},
		Build: func(a Answers) (engine.Action, error) {
			return engine.CombineCluster{Dirs: a.Items("dirs"), ClusterDir: a["cluster-dir"], OutputDir: a["output-dir"], NoSlashingHistory: a["no-slashing-history"]}, nil
		},
	}
}

// NodeExport is the flow that seals one node's directory, to move the node or to keep a copy.
func NodeExport() Flow {
	backup := func(a Answers) bool { return a.Yes("backup") }
	return Flow{
		ID: NodeExportID, Title: "Move a node, or back it up",
		Needs: "the node's directory, and who can open the result: an age or SSH key, or a passphrase",
		Makes: "one sealed file with all that is the node; nothing leaves this machine. A node that is moved never runs at its old place again",
		Takes: "about a minute; nothing is written before you agree at the end",
		Steps: []Step{
			{ID: "node", Title: "node", Intro: "Which node, and whether it moves. Two copies of a node that both run can get validators slashed.",
				Fields: []Field{
					{
						Key: "dir", Title: "Node directory", Kind: File, Arg: true, Example: "./node2",
						Help: "To move the node, it must be stopped. Its directory is the one with the cluster-lock.json.",
					},
					{
						Key: "backup", Title: "Backup", Kind: Bool,
						Help:    "Yes: a copy to keep, and the node goes on; restored from it, it waits two epochs. No: the node moves, and never runs here again.",
						Default: func(Facts, Answers) string { return "false" },
					},
					{
						Key: "out", Title: "Sealed file", Kind: NewDir, Example: "./node2.age",
						Help: "Nothing is overwritten. A new file in a directory that is there.",
						Check: func(v string, _ Answers) error {
							if strings.HasSuffix(v, "/") {
								return errors.New("it ends with /: want the name of a file, as in ./node2.age")
							}
							return nil
						},
					},
				}},
			{ID: "seal", Title: "seal", Intro: "Who can open it. There is no other way in: without key or passphrase it is lost.",
				Fields: []Field{
					{
						Key: "recipient", Title: "Recipients", Kind: Rows, Optional: true, Example: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Check: recipient,
						Help: "Leave it empty for a passphrase. Otherwise public keys, of age or whole lines of SSH's .pub files, one to a line.",
					},
					{
						Key: "passphrase-file", Title: "Passphrase", Kind: SecretFile, Example: "./passphrase", When: func(a Answers) bool { return a["recipient"] == "" }, Idle: "the file is sealed for its recipients",
						Help: "Take several words that nobody could guess together, 12 characters or more. They come from a file of mode 0600.", Check: notStdin,
						NewSecret: minPassphrase, Once: true, Prompted: true,
					},
				}},
		},
		Consent: func(a Answers) string {
			if backup(a) {
				return "" // nothing ends by it
			}
			return "move " + nameOf(a["dir"], "node")
		},
		Build: func(a Answers) (engine.Action, error) {
			act := engine.ExportNode{Dir: a["dir"], Out: a["out"], Backup: backup(a), PassphraseFile: a["passphrase-file"]}
			for row := range strings.SplitSeq(a["recipient"], "\n") {
				if row = strings.TrimSpace(row); row != "" {
					act.Recipients = append(act.Recipients, row)
				}
			}
			return act, nil
		},
	}
}

// NodeImport is the flow that unseals a node and checks it.
func NodeImport() Flow {
	return Flow{
		ID: NodeImportID, Title: "Put a node in place, or test a backup",
		Needs: "a file that provost node export wrote, and the key or the passphrase that opens it",
		Makes: "the node's directory, after every check of it; or, for a test, nothing that stays",
		Takes: "about a minute; nothing is written before you agree at the end",
		Steps: []Step{
			{ID: "file", Title: "file", Intro: "What is unsealed, and where to. Import a moved node once: two copies that both run can get validators slashed.",
				Fields: []Field{
					{
						Key: "file", Title: "Sealed file", Kind: File, Arg: true, Example: "./node2.age",
						Help: "It stays as it is. The file that provost node export wrote.",
					},
					{
						Key: "check", Title: "Only check", Kind: Bool,
						Help:    "Yes: a restore test, which unseals and checks everything and removes it again. No: the node's directory is put in place.",
						Default: func(Facts, Answers) string { return "false" },
					},
					{
						Key: "data-dir", Title: "Directory", Kind: NewDir, Example: "./node2", When: func(a Answers) bool { return !a.Yes("check") }, Idle: "a check leaves no directory",
						Help: "The node's new place: a directory that is not there yet, or is empty.",
					},
				}},
			{ID: "key", Title: "key", Intro: "What opens it: the key of one of its recipients, or its passphrase.",
				Fields: []Field{
					{
						Key: "identity-file", Title: "Identity file", Kind: File, Optional: true, Example: "~/.age/key.txt",
						Help: "Leave it empty for a passphrase. Otherwise the private half: an age identity, or an SSH key without a passphrase of its own.",
					},
					{
						Key: "passphrase-file", Title: "Passphrase", Kind: SecretFile, Example: "./passphrase", When: func(a Answers) bool { return a["identity-file"] == "" }, Idle: "the identity opens it",
						Help: "The passphrase that it was sealed with, in a file of mode 0600.", Check: notStdin,
						Once: true, Prompted: true,
					},
				}},
		},
		Consent: func(Answers) string { return "" }, // what the plan asks for is enough
		Build: func(a Answers) (engine.Action, error) {
			return engine.ImportNode{File: a["file"], Dir: a["data-dir"], Check: a.Yes("check"), IdentityFile: a["identity-file"], PassphraseFile: a["passphrase-file"]}, nil
		},
	}
}

// nameOf is what a directory is called, or another word where it has no name of its own.
func nameOf(path, other string) string {
	if name := filepath.Base(path); path != "" && strings.Trim(name, "./~") != "" {
		return name
	}
	return other
}

func recipient(v string, _ Answers) error {
	switch {
	case strings.HasPrefix(strings.ToUpper(v), "AGE-SECRET-KEY-"):
		return errors.New("this is a secret key: want its public half, which begins with age1")
	case strings.HasPrefix(v, "age1"), strings.HasPrefix(v, "ssh-ed25519 "), strings.HasPrefix(v, "ssh-rsa "):
		return nil
	}
	return errors.New("want a public key that begins with age1, or a line of a .pub file that begins with ssh-ed25519 or ssh-rsa")
}

func notStdin(v string, _ Answers) error {
	if v == "-" {
		return errors.New("standard input is for a command without questions: name a file, as in ./passphrase")
	}
	return nil
}
