package super

// Handles keeps what an engine must know to find its processes again. The store
// implements it; all methods may be called from several goroutines.
type Handles interface {
	// SaveHandle replaces the handle of id; it is durable when this returns.
	SaveHandle(id string, json []byte) error
	// LoadHandles gives all handles by id.
	LoadHandles() (map[string][]byte, error)
	// DeleteHandle forgets one; an unknown id is no error.
	DeleteHandle(id string) error
}
