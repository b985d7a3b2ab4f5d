// Package clustertest is for tests: a network in memory that HTTP runs over, and keys made from
// numbers.
//
// Everything in it may be used inside a testing/synctest bubble.
package clustertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
)

// Net connects listeners and HTTP clients of one process by host names, without sockets.
type Net struct {
	mu    sync.Mutex
	hosts map[string]*listener
}

// Listen opens a listener for connections to a host name such as "bn:80".
func (n *Net) Listen(host string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*listener{}
	}
	l := &listener{host: host, conns: make(chan net.Conn), done: make(chan struct{})}
	n.hosts[host] = l
	return l
}

// Transport returns a round tripper whose connections end at this network's listeners. Close its idle
// connections at the end.
func (n *Net) Transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, host string) (net.Conn, error) {
		n.mu.Lock()
		l := n.hosts[host]
		n.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("dial %s: connection refused", host)
		}
		here, there := net.Pipe()
		select {
		case l.conns <- there:
			return here, nil
		case <-l.done:
			return nil, fmt.Errorf("dial %s: connection refused", host)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

type listener struct {
	host  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, errors.Join(net.ErrClosed)
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.host) }

type addr string

func (a addr) Network() string { return "memory" }
func (a addr) String() string  { return string(a) }

// Keys returns n secret keys, the same in every run, and their public keys.
func Keys(t testing.TB, n int) ([]bls.SecretKey, []cluster.PubKey) {
	t.Helper()
	secrets, public := make([]bls.SecretKey, n), make([]cluster.PubKey, n)
	for i := range n {
		raw := sha256.Sum256(fmt.Appendf(nil, "key %d of a test", i))
		raw[0] &= 0x3f // below the group order
		var err error
		if secrets[i], err = bls.SecretKeyFromBytes(raw[:]); err != nil {
			t.Fatal(err)
		}
		if public[i], err = secrets[i].PubKey(); err != nil {
			t.Fatal(err)
		}
	}
	return secrets, public
}
