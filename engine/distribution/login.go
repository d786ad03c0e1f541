package distribution

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	apiregistry "github.com/moby/moby/api/types/registry"
)

// Login asks a registry whether it takes the credentials; ServerAddress says which,
// "" is Docker Hub. It returns the token to use from then on instead of the password,
// if the registry gives one. Refused credentials are errdefs.ErrUnauthenticated.
func Login(ctx context.Context, r Registries, auth apiregistry.AuthConfig) (token string, err error) {
	host := registryOf(auth.ServerAddress)
	if host == "" || strings.ContainsAny(host, " \t\n@?#") {
		return "", fmt.Errorf("invalid address of a registry %q: want HOST or HOST:PORT: %w", auth.ServerAddress, errdefs.ErrInvalidArgument)
	}
	keep := func(_ context.Context, refresh string, _ *http.Request) { token = refresh }
	c, err := openHost(r, host, auth, nil, docker.WithFetchRefreshToken(keep))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err = c.get(ctx, "/", nil); err == nil {
		return token, nil
	}
	var status remoteerrors.ErrUnexpectedStatus
	if errors.Is(err, docker.ErrInvalidAuthorization) || (errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)) {
		return "", fmt.Errorf("login to %s: unauthorized: incorrect username or password: %s: %w", host, Said(err), errdefs.ErrUnauthenticated)
	}
	return "", fmt.Errorf("login to %s: %s: %w", host, Said(err), Kind(err))
}

// registryOf is the host of a registry's address, which clients write as a host, or
// as a URL with or without a path.
func registryOf(address string) string {
	if address == "" {
		return hub
	}
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	host, _, _ := strings.Cut(address, "/")
	switch host {
	case "index.docker.io", hubRegistry:
		return hub
	}
	return host
}
