package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/go-connections/tlsconfig"
	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// tlsFlags are docker's flags for a daemon that is reached over the network.
type tlsFlags struct {
	tls, verify   bool
	ca, cert, key string
	configDir     string
}

func (f *tlsFlags) register(fl *pflag.FlagSet) {
	fl.BoolVar(&f.tls, "tls", false, "talk TLS to the daemon, whoever it is")
	fl.BoolVar(&f.verify, "tlsverify", false, "talk TLS, and see that the daemon is who it says it is (also $"+client.EnvTLSVerify+")")
	fl.StringVar(&f.ca, "tlscacert", "", "certificates that sign daemons' (default ca.pem in $"+client.EnvOverrideCertPath+", else in ~/.docker)")
	fl.StringVar(&f.cert, "tlscert", "", "our certificate (default cert.pem there)")
	fl.StringVar(&f.key, "tlskey", "", "its key (default key.pem there)")
	fl.StringVar(&f.configDir, "config", "", "directory of docker's configuration file (default $DOCKER_CONFIG, else ~/.docker)")
}

// wanted says whether TLS is asked for.
func (f *tlsFlags) wanted() bool {
	return f.tls || f.verify || f.ca != "" || f.cert != "" || f.key != "" || os.Getenv(client.EnvTLSVerify) != ""
}

// config reads the certificates. Ours are left out where no file was named and none is
// there: the daemon may not ask for one.
func (f *tlsFlags) config() (*tls.Config, error) {
	directory := os.Getenv(client.EnvOverrideCertPath)
	if directory == "" {
		directory = config.Dir()
	}
	file := func(given, name string) string {
		if given != "" {
			return given
		}
		path := filepath.Join(directory, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && name != "ca.pem" {
			return ""
		}
		return path
	}
	options := tlsconfig.Options{
		CertFile: file(f.cert, "cert.pem"), KeyFile: file(f.key, "key.pem"),
		InsecureSkipVerify: !f.verify && os.Getenv(client.EnvTLSVerify) == "" && f.ca == "",
		ExclusiveRootPools: true, MinVersion: tls.VersionTLS12,
	}
	if !options.InsecureSkipVerify {
		options.CAFile = file(f.ca, "ca.pem")
	}
	made, err := tlsconfig.Client(options)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return made, nil
}

// hostOptions are what a client of the daemon's address is made with.
func (a *app) hostOptions(host string) ([]client.Opt, error) {
	parsed, err := url.Parse(host)
	if err != nil {
		return nil, usagef("invalid daemon address %q: want unix://PATH or tcp://HOST:PORT", host)
	}
	secure := a.tls.wanted()
	var options []client.Opt
	switch parsed.Scheme {
	case "unix":
	case "tcp", "http", "https":
		if parsed.Hostname() == "" {
			return nil, usagef("invalid daemon address %q: want tcp://HOST:PORT", host)
		}
		if parsed.Port() == "" {
			port := "2375"
			if secure {
				port = "2376"
			}
			parsed.Host = net.JoinHostPort(parsed.Hostname(), port)
			host = parsed.String()
		}
		if secure || parsed.Scheme == "https" {
			made, err := a.tls.config()
			if err != nil {
				return nil, err
			}
			options = append(options, client.WithHTTPClient(&http.Client{
				Transport: &http.Transport{TLSClientConfig: made}, CheckRedirect: client.CheckRedirect,
			}))
		}
	case "ssh":
		return nil, usagef("ssh:// is not supported: forward the socket, as `ssh -nNT -L /tmp/fairlead.sock:/run/fairlead/fairlead.sock %s`, and use -H unix:///tmp/fairlead.sock", parsed.Host)
	default:
		return nil, usagef("invalid daemon address %q: want unix://PATH or tcp://HOST:PORT", host)
	}
	return append(options, client.WithHost(host)), nil
}

// plainAnswer says whether one side of the connection talked TLS and the other did not.
func plainAnswer(err error) bool {
	text := err.Error()
	return strings.Contains(text, "server gave HTTP response to HTTPS client") ||
		strings.Contains(text, "Client sent an HTTP request to an HTTPS server")
}

// tlsRefusal is what one side has against the other's certificate, or nil.
func tlsRefusal(err error) error {
	var verify *tls.CertificateVerificationError
	var alert *net.OpError
	switch {
	case errors.As(err, &verify):
		return fmt.Errorf("%w; its authority's certificate goes with --tlscacert", verify)
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls's word for an alert
		return fmt.Errorf("our certificate was refused: %w; name one with --tlscert and --tlskey", alert)
	}
	return nil
}
