package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// apiClient is a client of the API on a host, over TCP; secure is nil without TLS.
func apiClient(from *lab.Host, secure *tls.Config) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: secure,
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return from.Dial(network, address, 5*time.Second)
		},
	}}
}

// TestAttackPlainAPI is row 28 of the attacks: no daemon serves the API over TCP to
// who has no certificate of its CA, and none starts that would.
func TestAttackPlainAPI(t *testing.T) {
	t.Parallel()
	a, other := lab.NewAuthority(t), lab.NewAuthority(t)
	cert, key := a.Sign("server", host4, host6, "docker.site.example")
	with := []string{"--tlscacert", a.Path("ca.pem"), "--tlscert", cert, "--tlskey", key}
	s := newSite(t, append([]string{"-H", "tcp://[::]:2376", "--tlsverify"}, with...)...)
	for _, host := range []string{host4, "[" + host6 + "]"} {
		url := "https://" + host + ":2376/containers/json"
		get := func(client *http.Client, url, host string) (int, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := client.Do(req)
			if err != nil {
				return 0, err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode, err
		}
		for name, status := range map[string]int{"": 200, "docker.site.example": 200, "evil.example": 403} {
			if got, err := get(apiClient(s.outside, a.Client("client")), url, name); err != nil || got != status {
				t.Errorf("%s as %q with a certificate: %d %v, want %d", url, name, got, err, status)
			}
		}
		strange := a.Client("")
		strange.Certificates = other.Client("client").Certificates
		for what, client := range map[string]*http.Client{"no certificate": apiClient(s.outside, a.Client("")), "another CA's": apiClient(s.outside, strange)} {
			if got, err := get(client, url, ""); err == nil {
				t.Errorf("%s with %s: %d", url, what, got)
			}
		}
		if got, err := get(apiClient(s.outside, nil), strings.Replace(url, "https", "http", 1), ""); err == nil && got < 400 {
			t.Errorf("%s without TLS: %d", url, got)
		}
	}
	for _, args := range [][]string{
		{"-H", "tcp://0.0.0.0:2375"},
		{"-H", "tcp://" + host4 + ":2375"},
		{"-H", "tcp://127.0.0.1:2375"},
		{"-H", host4 + ":2375"},
		{"-H", "tcp://[::]:2375"},
		append([]string{"-H", "tcp://0.0.0.0:2375", "--tlsverify"}, "--tlscacert", a.Path("none.pem"), "--tlscert", cert, "--tlskey", key),
	} {
		d := s.lab.NewDaemon(s.host, lab.DaemonOptions{Args: append(args, "--bridge", "none")})
		if err := d.TryStart(); err == nil || !containsAny(d.LogTail(5), "whoever reaches it is root on this machine", "--tlscacert") {
			t.Errorf("%v: %v\n%s", args, err, d.LogTail(5))
		}
		barred(t, [2]lab.Probe{from(s.outside, "tcp", at(host4, "2375")), from(s.outside, "tcp", at(host4, "2376"))})
	}
	s.consistent()
}

// pageTries are requests that a page, or a form, can make a browser send, and bodies
// that are none: each would remove a1 and its network's others, or make something.
func pageTries() []struct {
	name    string
	status  int
	path    string
	headers map[string]string
	body    string
	chunked bool
} {
	const kill, create = "/containers/a1/kill", "/networks/create"
	network, json := `{"Name":"evil"}`, map[string]string{"Content-Type": "application/json"}
	large := `{"Name":"` + strings.Repeat("x", 9<<20) + `"}`
	header := func(kv ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	return []struct {
		name    string
		status  int
		path    string
		headers map[string]string
		body    string
		chunked bool
	}{
		{"a page's script", 403, kill, header("Origin", "http://evil.example"), "", false},
		{"a page's script with JSON", 403, create, header("Origin", "null", "Content-Type", "application/json"), network, false},
		{"a page's image", 403, kill, header("Sec-Fetch-Site", "cross-site"), "", false},
		{"a page whose name leads here", 403, kill, header("Host", "evil.example:2375"), "", false},
		{"a page whose name begins as ours", 403, kill, header("Host", "localhost.evil.example"), "", false},
		{"a form", 403, kill, header("Content-Type", "application/x-www-form-urlencoded"), "a=b", false},
		{"a form of JSON", 403, create, header("Content-Type", "application/x-www-form-urlencoded"), network, false},
		{"a form with files", 403, kill, header("Content-Type", "multipart/form-data; boundary=x"), "--x--", false},
		{"a form of text", 400, kill, header("Content-Type", "text/plain"), "a=b", false},
		{"a form of text with JSON", 400, create, header("Content-Type", "text/plain"), network, false},
		{"JSON of no type", 400, create, header(), network, false},
		{"an empty body", 400, create, json, "", false},
		{"an empty body in chunks", 400, create, json, "", true},
		{"a body that is too large", 413, create, json, large, false},
		{"one in chunks", 413, create, json, large, true},
		{"one that is not needed", 413, kill, json, large, true},
		{"half a body", 400, create, json, `{"Name":"evil"`, true},
		{"two bodies", 400, create, json, network + network, true},
	}
}

// TestAttackPages is row 30 of the attacks: over the socket and over TCP that is served
// to anybody alike, nothing is done for what a page makes a browser send, nor for a body
// that is none.
func TestAttackPages(t *testing.T) {
	attacked(t, []string{"-H", "tcp://0.0.0.0:2375", "--tls=false"}, nil, func(t *testing.T, r *attackRange) {
		was := r.picture()
		for where, client := range map[string]*http.Client{"the socket": r.HTTP(), "TCP": apiClient(r.lan, nil)} {
			post := func(path string, headers map[string]string, body string, chunked bool) (int, string) {
				var content io.Reader = strings.NewReader(body)
				if chunked {
					content = io.MultiReader(content) // of no known length
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host4+":2375"+path, content)
				if err != nil {
					t.Fatal(err)
				}
				for key, value := range headers {
					req.Header.Set(key, value)
				}
				req.Host = headers["Host"]
				resp, err := client.Do(req)
				if err != nil {
					return 0, err.Error()
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(text)
			}
			for _, try := range pageTries() {
				// A server that has said no may close before it was sent all of it.
				status, text := post(try.path, try.headers, try.body, try.chunked)
				if cut := status == 0 && try.status == 413; status != try.status && !cut {
					t.Errorf("%s, by %s: %d %s, want %d", try.name, where, status, text, try.status)
				}
			}
			r.unchanged(was)
			// So it is for who is none of them.
			name := "made" + fmt.Sprint(len(where))
			if status, text := post("/networks/create", map[string]string{"Content-Type": "application/json"}, `{"Name":"`+name+`"}`, true); status != http.StatusCreated {
				t.Errorf("cannot tell: a client by %s: %d %s", where, status, text)
			}
			r.Must("network", "rm", name)
			if status, text := post("/containers/a2/kill?signal=CONT", map[string]string{"Content-Type": "text/plain"}, "", false); status != http.StatusNoContent {
				t.Errorf("cannot tell: a client by %s: %d %s", where, status, text)
			}
		}
		r.unchanged(was)
	})
}
