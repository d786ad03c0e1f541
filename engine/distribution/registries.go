// Package distribution speaks to image registries: it finds them, shows them
// credentials, and says in Docker's words what they refuse. It is the one part of the
// engine that knows HTTP.
//
// What is fetched and where it is kept is the image store's; nothing here has a state
// beyond one conversation.
package distribution

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
)

// Registries says how registries are reached. The zero value asks each by HTTPS,
// and those on this host's loopback by HTTP too.
type Registries struct {
	// Mirrors are URLs that are asked before Docker Hub, for its images alone.
	Mirrors []string
	// Insecure are registries, as HOST or HOST:PORT, and networks (CIDR) that are
	// asked whatever their certificate, and by HTTP where they speak no HTTPS.
	Insecure []string
	// CertDirs have a directory HOST[:PORT] for each registry that has authorities
	// (*.crt) or a client's certificate (*.cert and *.key) of its own; nil is
	// DefaultCertDirs.
	CertDirs []string
	// MaxDownloads and MaxUploads bound the layers that are on their way at once,
	// DownloadAttempts how often each is asked for; 0 is Docker's 3, 5 and 5.
	MaxDownloads, MaxUploads, DownloadAttempts int
}

// DefaultCertDirs is where certificates of registries are looked for: Docker's
// directory, and our own.
func DefaultCertDirs() []string { return []string{"/etc/docker/certs.d", "/etc/fairlead/certs.d"} }

// Limits that Docker has.
const (
	defaultDownloads = 3
	defaultUploads   = 5
	defaultAttempts  = 5
)

// Hosts of Docker Hub: what its images' names begin with, and who has them.
const (
	hub         = "docker.io"
	hubRegistry = "registry-1.docker.io"
)

// Check refuses, by name, what no registry can be reached by.
func (r Registries) Check() error {
	for _, m := range r.Mirrors {
		u, err := url.Parse(m)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
			return fmt.Errorf("invalid registry mirror %q: want a URL, as https://mirror.example.org: %w", m, errdefs.ErrInvalidArgument)
		case u.User != nil, u.RawQuery != "", u.Fragment != "":
			return fmt.Errorf("invalid registry mirror %q: it must not have a user, a query or a fragment: %w", m, errdefs.ErrInvalidArgument)
		}
	}
	for _, i := range r.Insecure {
		if _, err := netip.ParsePrefix(i); err == nil {
			continue
		}
		if strings.Contains(i, "/") || i == "" || strings.HasPrefix(i, "-") || strings.ContainsAny(i, " \t\n") {
			return fmt.Errorf("invalid insecure registry %q: want HOST, HOST:PORT or a network as 10.0.0.0/8: %w", i, errdefs.ErrInvalidArgument)
		}
	}
	if r.MaxDownloads < 0 || r.MaxUploads < 0 || r.DownloadAttempts < 0 {
		return fmt.Errorf("invalid number of concurrent downloads (%d), uploads (%d) or attempts (%d): it must not be negative: %w",
			r.MaxDownloads, r.MaxUploads, r.DownloadAttempts, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Downloads is how many layers are pulled at once.
func (r Registries) Downloads() int { return cmp.Or(r.MaxDownloads, defaultDownloads) }

// Uploads is how many layers of an image are pushed at once.
func (r Registries) Uploads() int { return cmp.Or(r.MaxUploads, defaultUploads) }

// Attempts is how often a layer is asked for.
func (r Registries) Attempts() int { return cmp.Or(r.DownloadAttempts, defaultAttempts) }

// insecure says whether the registry is asked whatever its certificate.
func (r Registries) insecure(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if docker.IsLocalhost(name) || slices.Contains(r.Insecure, host) || slices.Contains(r.Insecure, name) {
		return true
	}
	var networks []netip.Prefix
	for _, i := range r.Insecure {
		if p, err := netip.ParsePrefix(i); err == nil {
			networks = append(networks, p)
		}
	}
	if len(networks) == 0 {
		return false
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(name); err == nil {
		addrs = []netip.Addr{a}
	} else if ips, err := net.LookupIP(name); err == nil {
		for _, ip := range ips {
			if a, ok := netip.AddrFromSlice(ip); ok {
				addrs = append(addrs, a)
			}
		}
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	})
}

// transport is what a registry is spoken to through.
func (r Registries) transport(host string) (http.RoundTripper, *http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	dirs := r.CertDirs
	if dirs == nil {
		dirs = DefaultCertDirs()
	}
	for _, dir := range dirs {
		if err := certificates(config, filepath.Join(dir, host)); err != nil {
			return nil, nil, err
		}
	}
	if !r.insecure(host) {
		t := docker.DefaultHTTPTransport(config)
		return t, t, nil
	}
	config.InsecureSkipVerify = true
	t := docker.DefaultHTTPTransport(config)
	return &orPlain{RoundTripper: t}, t, nil
}

// certificates adds what the directory has for its registry.
func certificates(config *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the certificates of a registry: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read the certificates of a registry: %w", err)
			}
			if config.RootCAs == nil {
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					config.RootCAs = x509.NewCertPool()
				}
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s has no certificate in PEM: %w", path, errdefs.ErrFailedPrecondition)
			}
		case ".cert":
			key := strings.TrimSuffix(path, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(path, key)
			if err != nil {
				return fmt.Errorf("read the client's certificate %s and its key %s: %w: %w", path, key, err, errdefs.ErrFailedPrecondition)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	return nil
}
