package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/keystore"
)

const secret = "api-token-0123456789abcdef"

func token(t *testing.T) Token {
	t.Helper()
	all, err := ParseTokens([]byte(secret + "\n"))
	if err != nil || len(all) != 1 {
		t.Fatal(err)
	}
	return all[0]
}

func TestParseTokens(t *testing.T) {
	for file, want := range map[string]int{"": 0, "# none\n\n": 0, "one": 1, "one\ntwo\n": 2, "one\r\ntwo\r\n": 2, "Bearer one\n  two  \n": 2} {
		all, err := ParseTokens([]byte(file))
		if err != nil || len(all) != want {
			t.Errorf("%q: %d, %v", file, len(all), err)
		}
	}
	for _, file := range []string{"one two", "ein\x00zwei", "schlüssel", strings.Repeat("x", maxTokenBytes+1), strings.Repeat("x\n", MaxTokenFileBytes)} {
		if _, err := ParseTokens([]byte(file)); err == nil || strings.Contains(err.Error(), "zwei") {
			t.Errorf("%.20q: %v", file, err)
		}
	}
	all, err := ParseTokens([]byte("Bearer " + secret))
	if err != nil || *all[0].t != secret {
		t.Error("the word Bearer is not part of the token")
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{"https://vc:5062": "https://vc:5062", "http://127.0.0.1:1/": "http://127.0.0.1:1", "https://h/base/": "https://h/base"} {
		u, err := ParseAddress(text)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v %v", text, u, err)
		}
	}
	for _, text := range []string{"", "vc:5062", "ftp://x", "https://", "https://me:pw@x", "https://x/?token=a", "https://x/#a", "http://%zz@x", "https://" + strings.Repeat("x", 3000)} {
		if _, err := ParseAddress(text); err == nil || strings.Contains(err.Error(), "pw") || len(err.Error()) > 2500 {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	for text, want := range map[string]bool{"https://vc": false, "http://localhost:1": false, "http://[::1]:1": false, "http://127.9.9.9": false, "http://10.0.0.1": true, "http://vc": true} {
		if u, err := ParseAddress(text); err != nil || Exposed(u) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A server gets the token and what the API says, and whatever it answers, no secret comes back in an
// error.
func TestHostileServers(t *testing.T) {
	password, err := keystore.NewPassword()
	if err != nil {
		t.Fatal(err)
	}
	pw := string(password.Export())
	items := []Item{{PubKey: cluster.PubKey{1}, Keystore: []byte(`{"x":1}`), Password: password}}
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, body string)
		want   string // of the error, "" for none
		state  State
	}{
		"imported": {func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, `{"data":[{"status":"imported"}]}`) }, "", Imported},
		"error": {func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"data":[{"status":"error","message":"\u001b[2Jno"}]}`)
		}, "", Failed},
		"says it all back": {func(w http.ResponseWriter, body string) {
			w.WriteHeader(400)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": body})
		}, "HTTP 400: ", ""},
		"echoes a status": {func(w http.ResponseWriter, _ string) { fmt.Fprintf(w, `{"data":[{"status":"%s"}]}`, pw) }, "[secret]", ""},
		"endless": {func(w http.ResponseWriter, _ string) {
			for range maxAnswerBytes>>20 + 2 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "more than 16 MiB", ""},
		"elsewhere": {func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(307)
		}, "isn't followed", ""},
		"refuses": {func(w http.ResponseWriter, _ string) { w.WriteHeader(403) }, "refuses the token", ""},
		"cut off": {func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}, "unexpected EOF", ""},
		"delete's status": {func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, `{"data":[{"status":"deleted"}]}`) }, "isn't known", ""},
		"two for one": {func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"data":[{"status":"imported"},{"status":"imported"}]}`)
		}, "2 statuses for 1 keys", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.Header.Get("Authorization") != "Bearer "+secret || r.URL.Path != "/eth/v1/keystores" || r.Method != http.MethodPost || !strings.Contains(string(body), pw) || !strings.Contains(string(body), `"slashing_protection":"hist"`) {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				tt.answer(w, string(body)+r.Header.Get("Authorization"))
			}))
			defer s.Close()
			c, err := New(s.URL, token(t))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := c.Import(t.Context(), items, "hist")
			if tt.want == "" && (err != nil || len(got) != 1 || got[0].State != tt.state || strings.Contains(got[0].Message, "\x1b")) {
				t.Errorf("%+v %v", got, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), pw) || strings.Contains(err.Error(), secret) || len(err.Error()) > 400) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if again := errors.Is(err, ErrNoAnswer); again != (name == "cut off") {
				t.Errorf("worth asking again: %v", again)
			}
		})
	}
	c, err := New("http://127.0.0.1:1", token(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context()); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}

// A server that keeps silent is called that.
func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	c, err := New(s.URL, token(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Check(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time") || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v", err)
	}
}

// A server whose certificate nobody vouches for gets no token, and the operator is told how to vouch.
func TestUnknownCertificate(t *testing.T) {
	asked := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	c, err := New(s.URL, token(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "SSL_CERT_FILE") || asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}

func TestTokenCannotLeak(t *testing.T) {
	k := token(t)
	told := fmt.Sprintf("%v %+v %#v %s %x %q %d", k, k, k, k, k, k, struct{ T Token }{k})
	if strings.Contains(told, secret) || strings.Contains(told, fmt.Sprintf("%x", secret)) {
		t.Errorf("told %s", told)
	}
	if _, err := json.Marshal(k); err == nil {
		t.Error("a token was encoded")
	}
	if _, err := New("https://x", Token{}); err == nil {
		t.Error("a client without a token")
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add([]byte("one\ntwo"))
	f.Add([]byte("# x\nBearer y\r\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		all, err := ParseTokens(file)
		for _, k := range all {
			if err == nil && (*k.t == "" || strings.ContainsAny(*k.t, " \r\n")) {
				t.Errorf("token %q", *k.t)
			}
		}
	})
}
