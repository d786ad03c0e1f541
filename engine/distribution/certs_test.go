package distribution

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestCertificates: a registry's authority, and the certificate to show it, are taken
// from its own directory, for it alone.
func TestCertificates(t *testing.T) {
	t.Parallel()
	var shown int
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { shown = len(r.TLS.PeerCertificates) }))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	registries := Registries{CertDirs: []string{filepath.Join(dir, "absent"), dir}}
	// The server's certificate is for example.com.
	ask := func(host string) error {
		through, transport, err := registries.transport(host)
		if err != nil {
			return err
		}
		defer transport.CloseIdleConnections()
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("tcp", s.Listener.Addr().String())
		}
		resp, err := (&http.Client{Transport: through}).Get("https://" + host + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := ask("example.com"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without its authority: %v", err)
	}
	write := func(name string, kind string, raw []byte) {
		t.Helper()
		own := filepath.Join(dir, "example.com")
		if err := os.MkdirAll(own, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.crt", "CERTIFICATE", s.Certificate().Raw)
	if err := ask("example.com"); err != nil || shown != 0 {
		t.Errorf("with its authority: %v, %d certificates shown", err, shown)
	}
	if err := ask("www.example.com"); err == nil {
		t.Error("the authority of one registry is taken for another")
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write("client.cert", "CERTIFICATE", s.Certificate().Raw)
	if err := ask("example.com"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("a certificate without its key: %v", err)
	}
	write("client.key", "PRIVATE KEY", key)
	if err := ask("example.com"); err != nil || shown != 1 {
		t.Errorf("%v, %d certificates shown", err, shown)
	}
	write("ca.crt", "NONSENSE", nil)
	if err := ask("example.com"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("an authority that is none: %v", err)
	}
}
