package daemon

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"
)

// tlsSettings are how tcp:// is served. Who reaches the API is root here, so that
// it is served to those with a certificate of our CA, unless it is said otherwise.
type tlsSettings struct {
	// TLS and Verify are nil where nothing was said.
	TLS    *bool  `json:"tls"`
	Verify *bool  `json:"tlsverify"`
	CA     string `json:"tlscacert"`
	Cert   string `json:"tlscert"`
	Key    string `json:"tlskey"`
}

func tlsDefaults(dir string) tlsSettings {
	return tlsSettings{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
}

// dockerTLSDefaults are by dockerd's environment.
func dockerTLSDefaults() tlsSettings {
	home, _ := os.UserHomeDir()
	t := tlsDefaults(cmp.Or(os.Getenv("DOCKER_CERT_PATH"), os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")))
	if os.Getenv("DOCKER_TLS_VERIFY") != "" {
		t.Verify = new(true)
	}
	return t
}

func (t *tlsSettings) register(f *pflag.FlagSet) {
	for _, flag := range []struct {
		name, usage string
		value       **bool
	}{
		{"tls", "serve tcp:// with TLS; --tls=false serves it plainly, to anybody", &t.TLS},
		{"tlsverify", "serve tcp:// with TLS, to those with a certificate of the CA", &t.Verify},
	} {
		f.Var(optionalBool{flag.value}, flag.name, flag.usage)
		f.Lookup(flag.name).NoOptDefVal = "true"
	}
	f.StringVar(&t.CA, "tlscacert", t.CA, "certificate of the CA of the API's clients")
	f.StringVar(&t.Cert, "tlscert", t.Cert, "certificate of the API")
	f.StringVar(&t.Key, "tlskey", t.Key, "key of the API's certificate")
}

// on says whether TLS is served: also where clients' certificates were spoken of.
func (t *tlsSettings) on() bool { return t.Verify != nil || t.TLS != nil && *t.TLS }

// verifies says whether clients have to have a certificate.
func (t *tlsSettings) verifies() bool { return t.on() && (t.Verify == nil || *t.Verify) }

// plain says that it was asked for to serve anybody.
func (t *tlsSettings) plain() bool { return t.TLS != nil && !*t.TLS && t.Verify == nil }

// checkTCP refuses to serve a machine's root to the network by oversight.
func (t *tlsSettings) checkTCP(host string) error {
	if t.on() || t.plain() {
		return nil
	}
	return fmt.Errorf("--host %s: whoever reaches it is root on this machine: give --tlsverify with --tlscacert, --tlscert and --tlskey, or reach a unix:// socket by ssh (DOCKER_HOST=ssh://…); --tls=false serves it to anybody", host)
}

// tlsConfig reads the certificates; it is nil without TLS.
func (t *tlsSettings) tlsConfig() (*tls.Config, error) {
	if !t.on() {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("invalid TLS configuration: --tlscert %s, --tlskey %s: %w", t.Cert, t.Key, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if !t.verifies() {
		return out, nil
	}
	raw, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("invalid TLS configuration: --tlscacert: %w", err)
	}
	// Those alone: a certificate that the system trusts says who a site is, and
	// not who may be root here.
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("invalid TLS configuration: --tlscacert %s has no certificate", t.CA)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}

// certified says of names whether the API's certificate has them: by those a client
// may call this host, and no page can have one of them lead here.
func certified(secure *tls.Config) func(name string) bool {
	if secure == nil {
		return nil
	}
	return func(name string) bool {
		return slices.ContainsFunc(secure.Certificates, func(c tls.Certificate) bool {
			return c.Leaf != nil && c.Leaf.VerifyHostname(name) == nil
		})
	}
}

// optionalBool is a flag of which it counts whether it was given.
type optionalBool struct{ value **bool }

func (o optionalBool) Type() string { return "bool" }

func (o optionalBool) String() string {
	if o.value == nil || *o.value == nil {
		return "false"
	}
	return fmt.Sprint(**o.value)
}

func (o optionalBool) Set(v string) error {
	switch v {
	case "true", "1", "t", "T", "TRUE", "True":
		*o.value = new(true)
	case "false", "0", "f", "F", "FALSE", "False":
		*o.value = new(false)
	default:
		return errors.New("want true or false")
	}
	return nil
}

// IsBoolFlag lets the flag stand without a value.
func (o optionalBool) IsBoolFlag() bool { return true }
