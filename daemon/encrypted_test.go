package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a CA that signs in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign(name, true)
	return a
}

// sign writes NAME.pem and NAME-key.pem.
func (a *authority) sign(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: ca, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(a.path(path), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// client is a TLS client with the certificate NAME, none for the empty string.
func (a *authority) client(name string) *tls.Config {
	a.t.Helper()
	out := &tls.Config{RootCAs: x509.NewCertPool()}
	out.RootCAs.AddCert(a.cert)
	if name != "" {
		a.sign(name, false)
		cert, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+"-key.pem"))
		if err != nil {
			a.t.Fatal(err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out
}

// serveTLS serves h as the settings say, and returns its address.
func serveTLS(t *testing.T, a *authority, h http.Handler, args ...string) string {
	t.Helper()
	a.sign("server", false)
	cfg, err := parseAs(t, asDockerd, ``, append([]string{
		"-H", "tcp://127.0.0.1:0", "--tlscacert", a.path("ca.pem"),
		"--tlscert", a.path("server.pem"), "--tlskey", a.path("server-key.pem"),
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
	ours, theirs := newAuthority(t, "ca"), newAuthority(t, "ca")
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	address := serveTLS(t, ours, ok, "--tlsverify")
	if err := get(address, ours.client("client")); err != nil {
		t.Errorf("with our certificate: %v", err)
	}
	if err := get(address, ours.client("")); err == nil {
		t.Error("served without a certificate")
	}
	foreign := theirs.client("client")
	foreign.RootCAs = ours.client("").RootCAs
	if err := get(address, foreign); err == nil {
		t.Error("served with another CA's certificate")
	}
	old := ours.client("old")
	old.MaxVersion = tls.VersionTLS11
	if err := get(address, old); err == nil {
		t.Error("served with TLS 1.1")
	}
	if resp, err := http.Get("http://" + address + "/_ping"); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("served without TLS")
	}
	// --tls alone verifies too; who does not want it says so.
	if err := get(serveTLS(t, ours, ok, "--tls"), ours.client("")); err == nil {
		t.Error("--tls serves anybody")
	}
	if err := get(serveTLS(t, ours, ok, "--tls", "--tlsverify=false"), ours.client("")); err != nil {
		t.Errorf("--tlsverify=false: %v", err)
	}
}

// TestStreamsOverTLS: a connection that is taken over is handed on as a file, and
// both directions end by themselves.
func TestStreamsOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "ca")
	address := serveTLS(t, a, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
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
			_, _ = f.Write(ahead)
			rest, err := io.ReadAll(f) // until the client ends its input
			if err != nil {
				t.Error(err)
			}
			_, _ = f.Write(rest)
		}()
	}), "--tlsverify")
	conn, err := tls.Dial("tcp", address, a.client("client"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
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
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "ca")
	a.sign("server", false)
	for args, says := range map[string]string{
		"--tlscert /none --tlskey /none":                                                                                           "--tlscert /none",
		"--tlscert " + a.path("server.pem") + " --tlskey " + a.path("ca-key.pem"):                                                  "does not match",
		"--tlscert " + a.path("server.pem") + " --tlskey " + a.path("server-key.pem") + " --tlscacert /none":                       "--tlscacert",
		"--tlscert " + a.path("server.pem") + " --tlskey " + a.path("server-key.pem") + " --tlscacert " + a.path("server-key.pem"): "has no certificate",
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
