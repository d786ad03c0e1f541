package distribution

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
)

// userAgent is what registries are told who asks.
const userAgent = "Fairlead"

// Session is one conversation with the registry of an image's repository.
type Session struct {
	registries Registries
	auth       apiregistry.AuthConfig
	// host is the registry's, as in images' names.
	host        string
	authOptions []docker.AuthorizerOpt
	// Resolver asks for what the repository has.
	Resolver   remotes.Resolver
	transports []*http.Transport
}

// Open begins a conversation about the repository; Close ends it. tracker may be nil.
func Open(r Registries, ref reference.Named, auth apiregistry.AuthConfig, tracker docker.StatusTracker) (*Session, error) {
	return openHost(r, reference.Domain(ref), auth, tracker)
}

func openHost(r Registries, host string, auth apiregistry.AuthConfig, tracker docker.StatusTracker, more ...docker.AuthorizerOpt) (*Session, error) {
	c := &Session{registries: r, auth: auth, host: host, authOptions: more}
	if err := c.registries.Check(); err != nil {
		return nil, err
	}
	hosts, err := c.hosts(c.host)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.Resolver = docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(string) ([]docker.RegistryHost, error) { return hosts, nil },
		Headers: http.Header{"User-Agent": {userAgent}},
		Tracker: tracker,
	})
	return c, nil
}

// Close lets go of the connections.
func (c *Session) Close() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// hosts are whom to ask for what is of the host, the first to answer wins.
func (c *Session) hosts(host string) ([]docker.RegistryHost, error) {
	var out []docker.RegistryHost
	if host == hub {
		for _, m := range c.registries.Mirrors {
			u, err := url.Parse(m)
			if err != nil {
				return nil, fmt.Errorf("invalid registry mirror %q: %w: %w", m, err, errdefs.ErrInvalidArgument)
			}
			mirror, err := c.registryHost(u.Host, apiregistry.AuthConfig{})
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

func (c *Session) registryHost(host string, auth apiregistry.AuthConfig) (docker.RegistryHost, error) {
	through, transport, err := c.registries.transport(host)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	c.transports = append(c.transports, transport)
	web := &http.Client{Transport: bounded{through}}
	h := docker.RegistryHost{
		Client: web, Host: host, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
		Authorizer: &oneAtATime{Authorizer: docker.NewDockerAuthorizer(append(c.authOptions,
			docker.WithAuthClient(web), docker.WithAuthCreds(credentials(host, auth)))...)},
	}
	if auth.RegistryToken != "" {
		h.Authorizer = bearer{host: host, token: auth.RegistryToken}
	}
	return h, nil
}

// oneAtATime lets one request at a time get its token: those of containerd 2.4 read
// how long one lasts while another request writes it.
type oneAtATime struct {
	mu sync.Mutex
	docker.Authorizer
}

// Authorize sets the request's Authorization.
func (o *oneAtATime) Authorize(ctx context.Context, r *http.Request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Authorizer.Authorize(ctx, r)
}

// credentials are for the registry that they were given for and for no other that
// it may send us to; an identity token is a secret without a user.
func credentials(host string, auth apiregistry.AuthConfig) func(string) (string, string, error) {
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
