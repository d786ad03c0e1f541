package daemon

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// serveTLS serves h as the settings say, and returns its address.
func serveTLS(t *testing.T, a *lab.Authority, h http.Handler, args ...string) string {
	t.Helper()
	a.Sign("server", "127.0.0.1")
	cfg, err := parseAs(t, asDockerd, ``, append([]string{
		"-H", "tcp://127.0.0.1:0", "--tlscacert", a.Path("ca.pem"),
		"--tlscert", a.Path("server.pem"), "--tlskey", a.Path("server-key.pem"),
	}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := cfg.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	ls, err := listen(&cfg, secure)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(ls[0]) }()
	return strings.TrimPrefix(ls[0].host, "tcp://")
}

func get(address string, config *tls.Config) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + address + "/_ping")
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

func TestOnlyOurClientsAreServed(t *testing.T) {
	t.Parallel()
	ours, theirs := lab.NewAuthority(t), lab.NewAuthority(t)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	address := serveTLS(t, ours, ok, "--tlsverify")
	if err := get(address, ours.Client("client")); err != nil {
		t.Errorf("with our certificate: %v", err)
	}
	if err := get(address, ours.Client("")); err == nil {
		t.Error("served without a certificate")
	}
	foreign := theirs.Client("client")
	foreign.RootCAs = ours.Client("").RootCAs
	if err := get(address, foreign); err == nil {
		t.Error("served with another CA's certificate")
	}
	old := ours.Client("old")
	old.MaxVersion = tls.VersionTLS11
	if err := get(address, old); err == nil {
		t.Error("served with TLS 1.1")
	}
	if resp, err := http.Get("http://" + address + "/_ping"); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("served without TLS")
	}
	// --tls alone verifies too; who does not want it says so.
	if err := get(serveTLS(t, ours, ok, "--tls"), ours.Client("")); err == nil {
		t.Error("--tls serves anybody")
	}
	if err := get(serveTLS(t, ours, ok, "--tls", "--tlsverify=false"), ours.Client("")); err != nil {
		t.Errorf("--tlsverify=false: %v", err)
	}
}

// TestStreamsOverTLS: a connection that is taken over is handed on as a file, and
// both directions end by themselves.
func TestStreamsOverTLS(t *testing.T) {
	t.Parallel()
	a := lab.NewAuthority(t)
	address := serveTLS(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		ahead, _ := buffered.Peek(buffered.Reader.Buffered())
		f, err := conn.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
		go func() { // another process, say
			defer f.Close()
			if r.URL.Path == "/ends" {
				_, _ = io.WriteString(f, "that is all")
				return
			}
			_, _ = f.Write(ahead)
			rest, err := io.ReadAll(f) // until the client ends its input
			if err != nil {
				t.Error(err)
			}
			_, _ = f.Write(rest)
		}()
	}), "--tlsverify")
	dial := func() *tls.Conn {
		conn, err := tls.Dial("tcp", address, a.Client("client"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	conn := dial()
	body := strings.Repeat("to and fro\n", 100_000)
	go func() {
		_, _ = io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_, _ = io.WriteString(conn, body)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, back, _ := strings.Cut(string(got), "\r\n\r\n"); back != body {
		t.Errorf("%d bytes came back, want %d", len(back), len(body))
	}
	// The end comes although the client has not ended its input.
	conn = dial()
	if _, err := io.WriteString(conn, "POST /ends HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err = io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), "that is all") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	a := lab.NewAuthority(t)
	a.Sign("server", "127.0.0.1")
	for args, says := range map[string]string{
		"--tlscert /none --tlskey /none":                                                                                           "--tlscert /none",
		"--tlscert " + a.Path("server.pem") + " --tlskey " + a.Path("ca-key.pem"):                                                  "does not match",
		"--tlscert " + a.Path("server.pem") + " --tlskey " + a.Path("server-key.pem") + " --tlscacert /none":                       "--tlscacert",
		"--tlscert " + a.Path("server.pem") + " --tlskey " + a.Path("server-key.pem") + " --tlscacert " + a.Path("server-key.pem"): "has no certificate",
	} {
		cfg, err := parseAs(t, asDockerd, ``, append(strings.Fields(args), "--tlsverify")...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.tlsConfig(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want one saying %q", args, err, says)
		}
	}
}
