package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/engine"
)

// registrySettings are how images come and go.
type registrySettings struct {
	Mirrors          []string `json:"registry-mirrors"`
	Insecure         []string `json:"insecure-registries"`
	MaxDownloads     int      `json:"max-concurrent-downloads"`
	MaxUploads       int      `json:"max-concurrent-uploads"`
	DownloadAttempts int      `json:"max-download-attempts"`
	HTTPProxy        string   `json:"http-proxy"`
	HTTPSProxy       string   `json:"https-proxy"`
	NoProxy          string   `json:"no-proxy"`
}

func registryDefaults() registrySettings {
	return registrySettings{MaxDownloads: 3, MaxUploads: 5, DownloadAttempts: 5}
}

func (r *registrySettings) register(f *pflag.FlagSet) {
	f.StringArrayVar(&r.Mirrors, "registry-mirror", nil, "ask this registry first for images of docker.io: https://host; several times for several")
	f.StringArrayVar(&r.Insecure, "insecure-registry", nil, "registry that may be without TLS, or have any certificate: host:port or a subnet; several times for several")
	f.IntVar(&r.MaxDownloads, "max-concurrent-downloads", r.MaxDownloads, "layers of an image that are pulled at once")
	f.IntVar(&r.MaxUploads, "max-concurrent-uploads", r.MaxUploads, "layers of an image that are pushed at once")
	f.IntVar(&r.DownloadAttempts, "max-download-attempts", r.DownloadAttempts, "times that a layer is tried")
	f.StringVar(&r.HTTPProxy, "http-proxy", "", "proxy for http:// (default: $HTTP_PROXY)")
	f.StringVar(&r.HTTPSProxy, "https-proxy", "", "proxy for https:// (default: $HTTPS_PROXY)")
	f.StringVar(&r.NoProxy, "no-proxy", "", "hosts that are reached without a proxy, by commas (default: $NO_PROXY)")
}

func (r *registrySettings) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"max-concurrent-downloads", r.MaxDownloads}, {"max-concurrent-uploads", r.MaxUploads}, {"max-download-attempts", r.DownloadAttempts}} {
		if n.value < 1 {
			return fmt.Errorf("--%s %d: want 1 or more", n.flag, n.value)
		}
	}
	for _, mirror := range r.Mirrors {
		if err := checkMirror(mirror); err != nil {
			return fmt.Errorf("--registry-mirror: invalid mirror: %q %w", mirror, err)
		}
	}
	for _, host := range r.Insecure {
		if err := checkInsecure(host); err != nil {
			return fmt.Errorf("--insecure-registry %q: %w", host, err)
		}
	}
	return nil
}

func checkMirror(mirror string) error {
	u, err := url.Parse(mirror)
	switch {
	case err != nil:
		return errors.New("is not a valid URI")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("has the unsupported scheme %q: want http or https", u.Scheme)
	case u.Host == "":
		return errors.New("names no host")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a query or fragment")
	case u.User != nil:
		return errors.New("has a username or password in it, which is not supported")
	}
	return nil
}

func checkInsecure(host string) error {
	if _, err := netip.ParsePrefix(host); err == nil {
		return nil
	}
	switch u, err := url.Parse("//" + host); {
	case strings.Contains(host, "://"):
		return errors.New("insecure registries are named without a scheme: host:port")
	case err != nil || host == "" || u.Host != host || strings.HasPrefix(host, "-"):
		return errors.New("want host, host:port or a subnet")
	}
	return nil
}

// proxy has this process, and those that it starts, use the proxies.
func (r *registrySettings) proxy() error {
	var errs []error
	for name, val := range map[string]string{"HTTP_PROXY": r.HTTPProxy, "HTTPS_PROXY": r.HTTPSProxy, "NO_PROXY": r.NoProxy} {
		if val != "" {
			errs = append(errs, os.Setenv(name, val), os.Setenv(strings.ToLower(name), val))
		}
	}
	return errors.Join(errs...)
}

// proxies are those of the moment, for `info`, without passwords.
func proxies() (http, https, none string) {
	of := func(name string) string { return cmp.Or(os.Getenv(name), os.Getenv(strings.ToLower(name))) }
	return masked(of("HTTP_PROXY")), masked(of("HTTPS_PROXY")), of("NO_PROXY")
}

// masked hides who a URL is used as.
func masked(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

func (r *registrySettings) engineRegistries() engine.Registries {
	return engine.Registries{
		Mirrors: r.Mirrors, Insecure: r.Insecure,
		MaxDownloads: r.MaxDownloads, MaxUploads: r.MaxUploads, DownloadAttempts: r.DownloadAttempts,
	}
}
