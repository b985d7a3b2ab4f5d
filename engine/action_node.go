package engine

import "strings"

// The kinds of acts on directories of nodes.
const (
	KindCombineCluster ActionKind = "combine_cluster"
	KindExportNode     ActionKind = "export_node"
	KindImportNode     ActionKind = "import_node"
)

// CombineCluster makes the whole validator keys from the directories of as many nodes as the threshold
// says, with the history that belongs to them. Nothing of the directories is changed.
type CombineCluster struct {
	Dirs       []string `json:"dirs,omitempty"`        // of nodes, absolute
	ClusterDir string   `json:"cluster_dir,omitempty"` // absolute; every node directory in it
	OutputDir  string   `json:"output_dir"`            // absolute; nothing may be there
	// NoSlashingHistory is the sentence that accepts keys without their history; its plan's problem tells it.
	NoSlashingHistory string `json:"no_slashing_history,omitempty"`
}

// ExportNode seals one node's directory into a file. Without Backup it never runs there again.
type ExportNode struct {
	Dir    string `json:"dir"` // absolute
	Out    string `json:"out"` // absolute; nothing may be there
	Backup bool   `json:"backup,omitempty"`
	// Recipients are of age (age1…) or public keys of SSH. Or PassphraseFile is the absolute path of a file
	// with a passphrase; it is read once, when the act is carried out.
	Recipients     []string `json:"recipients,omitempty"`
	PassphraseFile string   `json:"passphrase_file,omitempty"`
}

// ImportNode unseals what ExportNode sealed, checks it, and puts it in place.
type ImportNode struct {
	File string `json:"file"`          // absolute
	Dir  string `json:"dir,omitempty"` // absolute; nothing may be there, or an empty directory
	// Check makes all of it and removes it again: a restore test. Dir may be empty then.
	Check bool `json:"check,omitempty"`
	// IdentityFile is of age or SSH; or PassphraseFile has the passphrase and is read once.
	IdentityFile   string `json:"identity_file,omitempty"`
	PassphraseFile string `json:"passphrase_file,omitempty"`
}

// Kind is combine_cluster.
func (CombineCluster) Kind() ActionKind { return KindCombineCluster }

// Doing is "combine".
func (CombineCluster) Doing() string { return "combine" }

// CommandLine is the command that asks for the same.
func (a CombineCluster) CommandLine() []string {
	return append(words{"combine"}, a.Dirs...).flag("cluster-dir", a.ClusterDir).flag("output-dir", a.OutputDir).flag("no-slashing-history", a.NoSlashingHistory)
}

// Kind is export_node.
func (ExportNode) Kind() ActionKind { return KindExportNode }

// Doing is "export node".
func (ExportNode) Doing() string { return "export node" }

// CommandLine is the command that asks for the same; a passphrase that was typed is asked for again.
func (a ExportNode) CommandLine() []string {
	w := words{"node", "export", a.Dir}.flag("out", a.Out).bool("backup", a.Backup)
	for _, r := range a.Recipients {
		w = w.flag("recipient", r)
	}
	return w.secret("passphrase-file", a.PassphraseFile)
}

// Kind is import_node.
func (ImportNode) Kind() ActionKind { return KindImportNode }

// Doing is "import node".
func (ImportNode) Doing() string { return "import node" }

// CommandLine is the command that asks for the same; a passphrase that was typed is asked for again.
func (a ImportNode) CommandLine() []string {
	return words{"node", "import", a.File}.flag("data-dir", a.Dir).bool("check", a.Check).flag("identity-file", a.IdentityFile).secret("passphrase-file", a.PassphraseFile)
}

// TypedSecret is where the paths of secrets begin that were typed: open files of this process, which
// no other can name.
const TypedSecret = "/dev/fd/"

// secret is flag for the path of a secret.
func (w words) secret(name, path string) words {
	if strings.HasPrefix(path, TypedSecret) {
		return w
	}
	return w.flag(name, path)
}
