package distribution

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
)

// bounded cuts off answers that should be small and are not: all but blobs, whose
// size is known beforehand and is checked where they are stored.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil && resp.Body != nil && !strings.Contains(asked(r).URL.Path, "/blobs/") {
		resp.Body = &boundedBody{resp.Body, docker.MaxManifestSize}
	}
	return resp, err
}

// asked is the request that led here by way of redirections.
func asked(r *http.Request) *http.Request {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return r
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// The end may be just there.
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("the registry's answer is larger than %d bytes: %w", docker.MaxManifestSize, errdefs.ErrInvalidArgument)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
