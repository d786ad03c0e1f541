package distribution

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
)

// get asks for what the resolver does not: a path below /v2, answered by JSON. next
// is the path of the answer's next page, if it has one.
func (c *Session) get(ctx context.Context, path string, into any) (next string, err error) {
	hosts, err := c.hosts(c.host)
	if err != nil {
		return "", err
	}
	host := hosts[len(hosts)-1] // not a mirror
	resp, err := do(ctx, host, path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", remoteerrors.NewUnexpectedStatusErr(resp)
	}
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			return "", fmt.Errorf("the registry's answer cannot be read: %w", err)
		}
	}
	return nextPage(resp, host.Path), nil
}

// do asks, and again with credentials where they are asked for.
func do(ctx context.Context, host docker.RegistryHost, path string) (*http.Response, error) {
	var refusals []*http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, host.Scheme+"://"+host.Host+host.Path+path, http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		req.Header.Set("User-Agent", userAgent)
		if err := host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		resp, err := host.Client.Do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || len(refusals) == 2 {
			return resp, err
		}
		refusals = append(refusals, resp)
		err = host.Authorizer.AddResponses(ctx, refusals)
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
	}
}

// nextPage reads the header Link of RFC 8288, of this registry's own pages.
func nextPage(resp *http.Response, prefix string) string {
	link, _, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	if !ok {
		return ""
	}
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	next, ok := strings.CutPrefix(u.RequestURI(), prefix)
	if !ok {
		return ""
	}
	return next
}

// Tags asks the repository's registry for all its tags.
func Tags(ctx context.Context, r Registries, repo reference.Named, auth apiregistry.AuthConfig) ([]string, error) {
	c, err := Open(r, repo, auth, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx = docker.ContextWithAppendPullRepositoryScope(ctx, reference.Path(repo))
	var tags []string
	for path := "/" + reference.Path(repo) + "/tags/list?n=1000"; path != ""; {
		var page struct {
			Tags []string `json:"tags"`
		}
		next, err := c.get(ctx, path, &page)
		if err != nil {
			return nil, Refused("pull", repo, err)
		}
		tags = append(tags, page.Tags...)
		if len(page.Tags) == 0 || !strings.HasPrefix(next, "/") {
			break
		}
		path = next
	}
	return tags, nil
}
