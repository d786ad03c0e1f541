package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/engine/image"
)

// PushRequest asks for an image to be sent to its registry.
type PushRequest struct {
	// Ref is its name with a tag; without one every tag of the repository is pushed.
	Ref string
	// Platform is the one to push of several, as linux/arm64; "" is all of them.
	Platform string
	Auth     apiregistry.AuthConfig
	// Progress is told each step, by one goroutine at a time; it may be nil.
	Progress func(jsonstream.Message)
}

// ImagePush sends an image to the registry that its name is of.
func (e *Engine) ImagePush(ctx context.Context, req PushRequest) error {
	ref, err := reference.ParseNormalizedNamed(req.Ref)
	if err != nil {
		return fmt.Errorf("invalid reference format %q: %w: %w", req.Ref, err, errdefs.ErrInvalidArgument)
	}
	if _, ok := ref.(reference.Digested); ok {
		return fmt.Errorf("cannot push a digest reference %q: push it by a tag: %w", req.Ref, errdefs.ErrInvalidArgument)
	}
	platform, err := parsePlatform(req.Platform)
	if err != nil {
		return err
	}
	var refs []reference.NamedTagged
	if one, ok := ref.(reference.NamedTagged); ok {
		refs = append(refs, one)
	} else if refs, err = e.tagsOf(ctx, ref); err != nil {
		return err
	}
	for _, one := range refs {
		img, err := e.images.Push(ctx, one, image.PushOptions{Platform: platform, Auth: req.Auth, Progress: req.Progress})
		if err != nil {
			return err
		}
		e.emitImage(apievents.ActionPush, reference.FamiliarString(one), reference.FamiliarName(one), img)
	}
	return nil
}

// tagsOf are the names with a tag that images here have in the repository.
func (e *Engine) tagsOf(ctx context.Context, repo reference.Named) (out []reference.NamedTagged, err error) {
	list, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, img := range list {
		ref, err := reference.ParseNormalizedNamed(img.Name)
		if err != nil || ref.Name() != repo.Name() {
			continue
		}
		if tagged, ok := ref.(reference.NamedTagged); ok {
			out = append(out, tagged)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("An image does not exist locally with the tag: %s: %w", reference.FamiliarName(repo), errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	slices.SortFunc(out, func(a, b reference.NamedTagged) int {
		switch {
		case a.Tag() < b.Tag():
			return -1
		case a.Tag() > b.Tag():
			return 1
		}
		return 0
	})
	return out, nil
}

// Login asks a registry whether it takes the credentials, and returns the token to
// use instead of the password, if it gives one.
func (e *Engine) Login(ctx context.Context, auth apiregistry.AuthConfig) (token string, err error) {
	return distribution.Login(ctx, e.registries(), auth)
}

// DistributionInspect asks a registry what it has under the name.
func (e *Engine) DistributionInspect(ctx context.Context, ref string, auth apiregistry.AuthConfig) (apiregistry.DistributionInspect, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return apiregistry.DistributionInspect{}, fmt.Errorf("invalid reference format %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	return distribution.Lookup(ctx, e.registries(), named, auth)
}
