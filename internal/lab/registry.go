package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	registryserver "github.com/google/go-containerregistry/pkg/registry"
)

// RegistryOptions say what registry a test wants. The zero value is one without TLS
// that lets everybody in.
type RegistryOptions struct {
	// Address is where it listens; "" is a free port of 127.0.0.1.
	Address string
	// TLS has it speak HTTPS, with a certificate by an authority of its own.
	TLS bool
	// User and Password are asked for where User is not empty.
	User, Password string
	// Tokens has it send clients to get a token for these, instead of taking them
	// itself.
	Tokens bool
	// NoRanges has it refuse to begin anywhere but at the start of a blob.
	NoRanges bool
	// Wrap stands before it, to see or to spoil what passes; it may be nil.
	Wrap func(http.Handler) http.Handler
}

// Registry is an image registry on a host of the lab, empty at first. Its content is
// in memory.
type Registry struct {
	// Host is its HOST:PORT, what images' names begin with.
	Host string
	// CA is the file with the certificate of its authority, in PEM; "" without TLS.
	CA string

	options RegistryOptions
	// open lets everybody in.
	open   http.Handler
	server *http.Server
	mu     sync.Mutex
	asked  []string
}

// labToken is what a registry with Tokens gives and takes.
const labToken = "a-token-of-the-lab"

// Registry starts a registry on the host, which ends with the lab. A daemon on the
// host reaches one on 127.0.0.1 without more; one with TLS by
// DaemonOptions.Env "SSL_CERT_FILE="+CA.
func (h *Host) Registry(o RegistryOptions) *Registry {
	h.lab.t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp", o.Address)
		return err
	})
	if err != nil {
		h.lab.t.Fatalf("registry on %s: %v", h.name, err)
	}
	r, err := NewRegistry(listener, h.lab.Dir("registry-"+strings.ReplaceAll(listener.Addr().String(), ":", "-")), o)
	if err != nil {
		h.lab.t.Fatalf("registry on %s: %v", h.name, err)
	}
	h.lab.t.Cleanup(r.Close)
	return r
}

// NewRegistry serves a registry on the listener until Close; dir takes the file of
// its authority. It is for tests without a lab.
func NewRegistry(listener net.Listener, dir string, o RegistryOptions) (*Registry, error) {
	r := &Registry{Host: listener.Addr().String(), options: o}
	if o.TLS {
		config, authority, err := certify(listener.Addr().(*net.TCPAddr).IP)
		if err != nil {
			return nil, err
		}
		r.CA = filepath.Join(dir, "ca.crt")
		if err := os.WriteFile(r.CA, authority, 0o644); err != nil {
			return nil, err
		}
		listener = tls.NewListener(listener, config)
	}
	silent := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	r.open = registryserver.New(registryserver.Logger(silent))
	handler := r.open
	if !o.NoRanges {
		handler = ranges(handler)
	}
	if o.User != "" {
		handler = r.guard(handler)
	}
	if o.Wrap != nil {
		handler = o.Wrap(handler)
	}
	r.server = &http.Server{Handler: r.note(handler), ReadHeaderTimeout: time.Minute, ErrorLog: silent}
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

// Close ends the registry and its connections.
func (r *Registry) Close() { _ = r.server.Close() }

// Image is the whole name of a repository and tag of it: NAME:TAG.
func (r *Registry) Image(name string) string { return r.Host + "/" + name }

// Asked are the requests so far, METHOD PATH.
func (r *Registry) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

func (r *Registry) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

// ranges has the registry understand a range without an end, of which it wants to
// know the end.
func ranges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		begin, open := strings.CutSuffix(req.Header.Get("Range"), "-")
		if open {
			head := req.Clone(req.Context())
			head.Method = http.MethodHead
			size := httptest.NewRecorder()
			next.ServeHTTP(size, head)
			if n, err := strconv.Atoi(size.Header().Get("Content-Length")); err == nil {
				req.Header.Set("Range", fmt.Sprintf("%s-%d", begin, n-1))
			}
		}
		next.ServeHTTP(w, req)
	})
}

// guard lets in who knows the password, or has a token got with it.
func (r *Registry) guard(next http.Handler) http.Handler {
	scheme := "http"
	if r.options.TLS {
		scheme = "https"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, basic := req.BasicAuth()
		known := basic && user == r.options.User && password == r.options.Password
		challenge := `Basic realm="lab"`
		if r.options.Tokens {
			if req.URL.Path == "/token" {
				r.token(w, req, known)
				return
			}
			known = req.Header.Get("Authorization") == "Bearer "+labToken
			challenge = fmt.Sprintf(`Bearer realm="%s://%s/token",service="lab"`, scheme, r.Host)
		}
		if known {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
	})
}

// token answers as the token endpoint of the distribution specification.
func (r *Registry) token(w http.ResponseWriter, req *http.Request, known bool) {
	if req.Method == http.MethodPost {
		_ = req.ParseForm()
		known = req.Form.Get("username") == r.options.User && req.Form.Get("password") == r.options.Password ||
			req.Form.Get("refresh_token") == labToken
	}
	if !known {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`, http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": labToken, "access_token": labToken, "refresh_token": labToken, "expires_in": 300})
}

// certify makes an authority, and a server's certificate by it for the address and
// for localhost.
func certify(ip net.IP) (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab registry authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityRaw, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "lab registry"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{ip}, DNSNames: []string{"localhost"},
	}
	serverRaw, err := x509.CreateCertificate(rand.Reader, server, authority, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{serverRaw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityRaw}), nil
}
