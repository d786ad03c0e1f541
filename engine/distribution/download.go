package distribution

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
)

// Download opens the archive that a URL has, by HTTP or HTTPS; a source without a
// scheme is by HTTP. progress is told how much was read; it may be nil.
func Download(ctx context.Context, source string, progress func(jsonstream.Message)) (io.ReadCloser, error) {
	if !strings.Contains(source, "://") {
		source = "http://" + source
	}
	u, err := url.Parse(source)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("invalid source %q: want a URL of http or https, or - for the request's body: %w", source, errdefs.ErrInvalidArgument)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("invalid source %q: %w: %w", source, err, errdefs.ErrInvalidArgument)
	}
	req.Header.Set("User-Agent", userAgent)
	if progress == nil {
		progress = func(jsonstream.Message) {}
	}
	progress(jsonstream.Message{Status: "Downloading from " + u.Redacted()})
	transport := docker.DefaultHTTPTransport(nil)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w: %w", u.Redacted(), err, errdefs.ErrUnknown)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		return nil, fmt.Errorf("download %s: the server answered %s: %w", u.Redacted(), resp.Status, errdefs.ErrUnknown)
	}
	return &download{ReadCloser: resp.Body, tell: progress, total: resp.ContentLength, close: transport.CloseIdleConnections}, nil
}

// download tells how much of it was read.
type download struct {
	io.ReadCloser
	tell           func(jsonstream.Message)
	n, told, total int64
	close          func()
}

// downloadStep is how many bytes are read between two messages.
const downloadStep = 1 << 20

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if d.n += int64(n); d.n-d.told >= downloadStep {
		d.told = d.n
		d.tell(jsonstream.Message{Status: "Importing", Progress: &jsonstream.Progress{Current: d.n, Total: max(0, d.total)}})
	}
	return n, err
}

func (d *download) Close() error {
	defer d.close()
	return d.ReadCloser.Close()
}
