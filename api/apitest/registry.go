package apitest

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"

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
	_, err := e.ImageImport(ctx, strings.NewReader("layer"), name, []string{"CMD sh"}, "")
	return err
}
