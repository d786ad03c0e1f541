package distribution

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
)

func TestRegistriesCheck(t *testing.T) {
	t.Parallel()
	for _, good := range []Registries{
		{},
		{Mirrors: []string{"https://mirror.example.org", "http://10.0.0.1:5000/path"}, Insecure: []string{"example.org", "example.org:5000", "10.0.0.0/8", "[::1]:5000"}},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for named, bad := range map[string]Registries{
		"ftp://a": {Mirrors: []string{"ftp://a"}}, "a.example": {Mirrors: []string{"a.example"}}, "https://u:p@a": {Mirrors: []string{"https://u:p@a"}},
		"http://a": {Insecure: []string{"http://a"}}, "10.0.0.0/99": {Insecure: []string{"10.0.0.0/99"}}, `""`: {Insecure: []string{""}}, "-1": {MaxDownloads: -1},
	} {
		if err := bad.Check(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), named) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestInsecure(t *testing.T) {
	t.Parallel()
	r := Registries{Insecure: []string{"plain.example:5000", "any.example", "10.1.0.0/16", "fd00::/8"}}
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.8.9.1": true, "localhost": true, "localhost:1": true, "[::1]:5000": true,
		"plain.example:5000": true, "plain.example:5001": false, "plain.example": false, "any.example": true, "any.example:99": true,
		"10.1.2.3:5000": true, "10.2.2.3:5000": false, "[fd00::1]:80": true, "[2001:db8::1]:80": false, "192.0.2.1": false,
	} {
		if got := r.insecure(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestCredentialsAreForTheirRegistryAlone(t *testing.T) {
	t.Parallel()
	ask := credentials("a.example:5000", apiregistry.AuthConfig{Username: "me", Password: "secret"})
	if user, secret, err := ask("a.example:5000"); user != "me" || secret != "secret" || err != nil {
		t.Error(user, secret, err)
	}
	for _, other := range []string{"b.example:5000", "a.example", "a.example:5001", ""} {
		if user, secret, err := ask(other); user != "" || secret != "" || err != nil {
			t.Errorf("%s is told %s %s %v", other, user, secret, err)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/a/manifests/moved":
			http.Redirect(w, r, "/elsewhere/blobs/x", http.StatusFound)
			return
		case "/small":
			_, _ = w.Write([]byte("small"))
			return
		}
		for range 12 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	c := &http.Client{Transport: bounded{http.DefaultTransport}}
	read := func(path string) (int, error) {
		resp, err := c.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n := 0
		for buf := make([]byte, 64<<10); ; {
			m, err := resp.Body.Read(buf)
			n += m
			if err != nil {
				return n, err
			}
		}
	}
	for path, want := range map[string]int{"/small": 5, "/v2/a/manifests/latest": int(docker.MaxManifestSize), "/v2/a/manifests/moved": int(docker.MaxManifestSize), "/v2/a/blobs/x": 12 << 20} {
		if n, err := read(path); n != want || errdefs.IsInvalidArgument(err) != (want == int(docker.MaxManifestSize)) {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
	}
}

func TestNextPage(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		"": "", `</v2/a/tags/list?n=2&last=b>; rel="next"`: "/a/tags/list?n=2&last=b", `<https://r.example/v2/a/tags/list?last=b>; rel="next"`: "/a/tags/list?last=b",
		"</other>; rel=next": "", "nonsense": "", "<:>": "",
	} {
		if got := nextPage(&http.Response{Header: http.Header{"Link": {link}}}, "/v2"); got != want {
			t.Errorf("%q: %q", link, got)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	ref, _ := reference.ParseNormalizedNamed("example.org/a:1")
	for want, tc := range map[string]struct {
		err  error
		kind error
	}{
		"manifest for example.org/a:1 not found: manifest unknown":                                      {fmt.Errorf("x: %w", errdefs.ErrNotFound), errdefs.ErrNotFound},
		"pull access denied for example.org/a, repository does not exist or may require 'docker login'": {fmt.Errorf("x: %w", errdefs.ErrPermissionDenied), errdefs.ErrNotFound},
		"pull example.org/a:1: dial": {&net.OpError{Op: "dial", Err: errors.New("refused")}, errdefs.ErrUnknown},
	} {
		if err := Refused("pull", ref, tc.err); !strings.HasPrefix(err.Error(), want) || !errors.Is(err, tc.kind) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := Refused("pull", ref, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
