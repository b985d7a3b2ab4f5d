package launch

import (
	"net"
	"strings"
	"time"
)

// notifier tells a service manager how the engine stands (sd_notify(3)). Without a
// manager it does nothing.
type notifier struct{ path string }

func newNotifier(path string) notifier { return notifier{path} }

// send is best effort: a manager that does not listen must not hold the engine.
func (n notifier) send(state string) {
	if n.path == "" {
		return
	}
	path := n.path
	if strings.HasPrefix(path, "@") { // the abstract namespace
		path = "\x00" + path[1:]
	}
	c, err := net.DialTimeout("unixgram", path, time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte(strings.ReplaceAll(state, "\n", " ")))
}
