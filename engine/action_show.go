package engine

// Actions that only look at files and need nothing running.

// ShowCluster says what a lock or a definition says. It reads no file with a secret and verifies
// nothing. Read-only.
type ShowCluster struct {
	Path string `json:"path"` // absolute; a cluster, one node, a lock, a definition or a cluster.tar.gz
}

// ShowENR gives the node record of a private key, or decodes one. Exactly one field is set. Read-only.
type ShowENR struct {
	File   string `json:"file,omitempty"`   // absolute path of a charon-enr-private-key
	Record string `json:"record,omitempty"` // enr:…
}

const (
	KindShowCluster ActionKind = "show_cluster"
	KindShowENR     ActionKind = "show_enr"
)

func (ShowCluster) Kind() ActionKind        { return KindShowCluster }
func (ShowCluster) Doing() string           { return "show cluster" }
func (a ShowCluster) CommandLine() []string { return []string{"show", "cluster", a.Path} }

func (ShowENR) Kind() ActionKind { return KindShowENR }
func (ShowENR) Doing() string    { return "enr" }
func (a ShowENR) CommandLine() []string {
	if a.Record != "" {
		return []string{"enr", a.Record}
	}
	return words{"enr"}.flag("file", a.File)
}
