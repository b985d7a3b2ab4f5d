package download

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content") })
	mux.HandleFunc("/on", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		for range MaxBytes>>20 + 1 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/exact", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxBytes)) })
	s := httptest.NewServer(mux)
	defer s.Close()
	for path, want := range map[string]int{"/": 7, "/on": 7, "/exact": MaxBytes} {
		if raw, err := Get(t.Context(), s.URL+path); err != nil || len(raw) != want {
			t.Errorf("%s: %d bytes, %v", path, len(raw), err)
		}
	}
	tls := httptest.NewTLSServer(mux)
	defer tls.Close()
	for address, want := range map[string]string{
		s.URL + "/round": "more than 3 times", s.URL + "/file": "no host", s.URL + "/gone": "HTTP 410", s.URL + "/big": "more than 16 MiB",
		tls.URL: "certificate", "http://192.0.2.1/": "plain HTTP", "http://example.invalid/": "plain HTTP", "https://": "no host", "ftp://x/": "isn't fetched",
		"https://a:secret@x/": "name or password", "http://%zz/": "not a URL",
	} {
		if _, err := Get(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

// From TLS nobody is sent on to plain HTTP, not even to this machine.
func TestNoStepDown(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer plain.Close()
	via := httptest.NewRequest(http.MethodGet, "https://example.org/", nil)
	to := httptest.NewRequest(http.MethodGet, plain.URL, nil)
	if err := follow(to, []*http.Request{via}); err == nil || !strings.Contains(err.Error(), "to plain HTTP") {
		t.Errorf("%v", err)
	}
}

func TestEndsInTime(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Get(ctx, s.URL); err == nil || !strings.Contains(err.Error(), "no whole answer") {
		t.Errorf("%v", err)
	}
}

func TestIsURL(t *testing.T) {
	for name, want := range map[string][2]bool{"https://x": {true, false}, "HTTP://x": {true, true}, "./http://x": {}, "cluster-definition.json": {}, "ftp://x": {}} {
		if IsURL(name) != want[0] || Plain(name) != want[1] {
			t.Errorf("%s: %v %v", name, IsURL(name), Plain(name))
		}
	}
}
