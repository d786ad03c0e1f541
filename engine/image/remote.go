package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// userAgent is what registries are told who asks.
const userAgent = "Fairlead"

// session is one conversation with the registry of an image's repository.
type session struct {
	registries Registries
	auth       registry.AuthConfig
	// host is the registry's, as in images' names.
	host        string
	authOptions []docker.AuthorizerOpt
	resolver    remotes.Resolver
	transports  []*http.Transport
}

// open begins a conversation about the repository; close ends it. tracker may be nil.
func (s *Store) open(ref reference.Named, auth registry.AuthConfig, tracker docker.StatusTracker) (*session, error) {
	return s.openHost(reference.Domain(ref), auth, tracker)
}

func (s *Store) openHost(host string, auth registry.AuthConfig, tracker docker.StatusTracker, more ...docker.AuthorizerOpt) (*session, error) {
	c := &session{registries: s.registries(), auth: auth, host: host, authOptions: more}
	if err := c.registries.Check(); err != nil {
		return nil, err
	}
	hosts, err := c.hosts(c.host)
	if err != nil {
		c.close()
		return nil, err
	}
	c.resolver = docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(string) ([]docker.RegistryHost, error) { return hosts, nil },
		Headers: http.Header{"User-Agent": {userAgent}},
		Tracker: tracker,
	})
	return c, nil
}

func (c *session) close() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// hosts are whom to ask for what is of the host, the first to answer wins.
func (c *session) hosts(host string) ([]docker.RegistryHost, error) {
	var out []docker.RegistryHost
	if host == hub {
		for _, m := range c.registries.Mirrors {
			u, err := url.Parse(m)
			if err != nil {
				return nil, fmt.Errorf("invalid registry mirror %q: %w: %w", m, err, errdefs.ErrInvalidArgument)
			}
			mirror, err := c.registryHost(u.Host, registry.AuthConfig{})
			if err != nil {
				return nil, err
			}
			mirror.Scheme, mirror.Path = u.Scheme, strings.TrimSuffix(u.Path, "/")+"/v2"
			mirror.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
			out = append(out, mirror)
		}
		host = hubRegistry
	}
	own, err := c.registryHost(host, c.auth)
	if err != nil {
		return nil, err
	}
	return append(out, own), nil
}

func (c *session) registryHost(host string, auth registry.AuthConfig) (docker.RegistryHost, error) {
	through, transport, err := c.registries.transport(host)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	c.transports = append(c.transports, transport)
	web := &http.Client{Transport: bounded{through}}
	h := docker.RegistryHost{
		Client: web, Host: host, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
		Authorizer: docker.NewDockerAuthorizer(append(c.authOptions,
			docker.WithAuthClient(web), docker.WithAuthCreds(credentials(host, auth)))...),
	}
	if auth.RegistryToken != "" {
		h.Authorizer = bearer{host: host, token: auth.RegistryToken}
	}
	return h, nil
}

// credentials are for the registry that they were given for and for no other that
// it may send us to; an identity token is a secret without a user.
func credentials(host string, auth registry.AuthConfig) func(string) (string, string, error) {
	return func(asking string) (user, secret string, err error) {
		switch {
		case asking != host:
			return "", "", nil
		case auth.IdentityToken != "":
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}
}

// bearer gives a token that the client got by itself to its registry.
type bearer struct{ host, token string }

func (b bearer) Authorize(_ context.Context, r *http.Request) error {
	if r.URL.Host == b.host {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return fmt.Errorf("the registry does not take the token: %w", errdefs.ErrUnauthenticated)
}

// refused puts what a registry answered into Docker's words and the engine's kinds
// of error. what is the verb, pull or push.
func refused(what string, ref reference.Named, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	name := reference.FamiliarName(ref)
	var status remoteerrors.ErrUnexpectedStatus
	code := 0
	if errors.As(err, &status) {
		code = status.StatusCode
	}
	said := said(err)
	switch {
	case code == http.StatusUnauthorized || errors.Is(err, docker.ErrInvalidAuthorization) || errors.Is(err, errdefs.ErrUnauthenticated):
		if what == "push" {
			return fmt.Errorf("push access denied, repository does not exist or may require authorization: unauthorized: %s; log in with `docker login %s`: %w",
				said, reference.Domain(ref), errdefs.ErrUnauthenticated)
		}
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': unauthorized: %s: %w", name, said, errdefs.ErrNotFound)
	case code == http.StatusForbidden || errors.Is(err, errdefs.ErrPermissionDenied):
		if what == "push" {
			return fmt.Errorf("denied: requested access to the resource is denied: %s: %w", said, errdefs.ErrPermissionDenied)
		}
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': denied: %s: %w", name, said, errdefs.ErrNotFound)
	case what == "pull" && (errdefs.IsNotFound(err) || code == http.StatusNotFound):
		return fmt.Errorf("manifest for %s not found: manifest unknown: %s: %w", reference.FamiliarString(ref), said, errdefs.ErrNotFound)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("toomanyrequests: %s asks to wait with requests for %s: %s: %w", reference.Domain(ref), name, said, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("%s %s: %s: %w", what, reference.FamiliarString(ref), said, kind(err))
}

// said is the error's text in one line, without the sentinels' own words.
func said(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", ": ")
	for _, sentinel := range []error{errdefs.ErrNotFound, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied} {
		text = strings.TrimSuffix(text, ": "+sentinel.Error())
	}
	return text
}

// kind is the sentinel that the error has, or the one for what is not to blame on
// the request.
func kind(err error) error {
	for _, k := range []error{errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented} {
		if errors.Is(err, k) {
			return k
		}
	}
	return errdefs.ErrUnknown
}
