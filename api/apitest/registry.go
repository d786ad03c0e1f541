package apitest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/engine"
)

// ImagePull pretends to pull: an image of one layer, whatever its name, but for
// those named missing.
func (e *Engine) ImagePull(ctx context.Context, request engine.PullRequest) error {
	e.mu.Lock()
	e.Pulled = append(e.Pulled, request)
	e.mu.Unlock()
	name := tagged(request.Ref)
	if name == "missing:latest" {
		return fmt.Errorf("manifest for %s not found: manifest unknown: %w", name, errdefs.ErrNotFound)
	}
	tell := request.Progress
	if tell == nil {
		tell = func(jsonstream.Message) {}
	}
	tell(jsonstream.Message{ID: "latest", Status: "Pulling from library/" + name})
	tell(jsonstream.Message{ID: "0123456789ab", Status: "Pulling fs layer", Progress: &jsonstream.Progress{}})
	tell(jsonstream.Message{ID: "0123456789ab", Status: "Downloading", Progress: &jsonstream.Progress{Current: 10, Total: 20}})
	if name == "broken:latest" {
		return fmt.Errorf("filesystem layer verification failed: %w", errdefs.ErrFailedPrecondition)
	}
	tell(jsonstream.Message{ID: "0123456789ab", Status: "Pull complete", Progress: &jsonstream.Progress{}})
	tell(jsonstream.Message{Status: "Status: Downloaded newer image for " + name})
	_, err := e.ImageImport(ctx, strings.NewReader("layer"), name, []string{"CMD sh"}, "", "")
	return err
}

// ImagePush pretends to push an image that is there.
func (e *Engine) ImagePush(_ context.Context, request engine.PushRequest) error {
	e.mu.Lock()
	e.Pushed = append(e.Pushed, request)
	_, err := e.findImage(request.Ref)
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("An image does not exist locally with the tag: %s: %w", request.Ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if tell := request.Progress; tell != nil {
		tell(jsonstream.Message{Status: "The push refers to repository [docker.io/library/" + request.Ref + "]"})
		tell(jsonstream.Message{ID: "0123456789ab", Status: "Pushed", Progress: &jsonstream.Progress{}})
		tell(jsonstream.Message{Status: "latest: digest: sha256:" + strings.Repeat("0", 64) + " size: 1"})
	}
	return nil
}

// Login takes every password but "wrong".
func (e *Engine) Login(_ context.Context, auth registry.AuthConfig) (string, error) {
	if auth.Password == "wrong" {
		return "", fmt.Errorf("login to %s: unauthorized: incorrect username or password: %w", auth.ServerAddress, errdefs.ErrUnauthenticated)
	}
	return "", nil
}

// DistributionInspect knows one platform of everything but what is named missing.
func (e *Engine) DistributionInspect(_ context.Context, ref string, _ registry.AuthConfig) (registry.DistributionInspect, error) {
	if tagged(ref) == "missing:latest" {
		return registry.DistributionInspect{}, fmt.Errorf("manifest for %s not found: manifest unknown: %w", tagged(ref), errdefs.ErrNotFound)
	}
	return registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(ref), Size: 1},
		Platforms:  []ocispec.Platform{{OS: "linux", Architecture: "amd64"}},
	}, nil
}

// ImageDownload has nothing but what is said to be at http://x/y.tar.
func (e *Engine) ImageDownload(_ context.Context, source string, progress func(jsonstream.Message)) (io.ReadCloser, error) {
	progress(jsonstream.Message{Status: "Downloading from " + source})
	if source != "http://x/y.tar" {
		return nil, fmt.Errorf("download %s: no such host", source)
	}
	return io.NopCloser(strings.NewReader("tar")), nil
}
