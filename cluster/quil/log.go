package quil

// LogLine is a line of the node's log that tells state.
type LogLine struct {
	ID   string `yaml:"id" json:"id"`
	Text string `yaml:"text" json:"text"`
}
