package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/engine/image"
)

// registries are how the image store reaches registries at the moment.
func (e *Engine) registries() distribution.Registries {
	r := e.settings().Registries
	return distribution.Registries{
		Mirrors: r.Mirrors, Insecure: r.Insecure, CertDirs: e.cfg.RegistryCerts,
		MaxDownloads: r.MaxDownloads, MaxUploads: r.MaxUploads, DownloadAttempts: r.DownloadAttempts,
	}
}

// PullRequest asks for an image of a registry.
type PullRequest struct {
	// Ref is its name, with a tag or a digest; without either all tags are pulled.
	Ref string
	// Platform is the one to take of several, as linux/arm64; "" is the host's.
	Platform string
	Auth     apiregistry.AuthConfig
	// Progress is told each step, by one goroutine at a time; it may be nil.
	Progress func(jsonstream.Message)
}

// ImagePull gets an image from its registry. Where the registry does not have it,
// or does not give it to this client, the error is errdefs.ErrNotFound.
func (e *Engine) ImagePull(ctx context.Context, req PullRequest) error {
	ref, err := reference.ParseNormalizedNamed(req.Ref)
	if err != nil {
		return fmt.Errorf("invalid reference format %q: %w: %w", req.Ref, err, errdefs.ErrInvalidArgument)
	}
	if err := image.Ambiguous(ref); err != nil {
		return err
	}
	platform, err := parsePlatform(req.Platform)
	if err != nil {
		return err
	}
	refs := []reference.Named{ref}
	switch r := ref.(type) {
	case reference.Canonical:
		// As Docker does, a tag beside a digest is not looked at.
		if refs[0], err = reference.WithDigest(reference.TrimNamed(ref), r.Digest()); err != nil {
			return fmt.Errorf("invalid reference format %q: %w: %w", req.Ref, err, errdefs.ErrInvalidArgument)
		}
	case reference.Tagged:
	default:
		tags, err := distribution.Tags(ctx, e.registries(), ref, req.Auth)
		if err != nil {
			return err
		}
		if refs, err = tagged(ref, tags); err != nil {
			return err
		}
	}
	for _, one := range refs {
		img, err := e.images.Pull(ctx, one, image.PullOptions{Platform: platform, Auth: req.Auth, Progress: req.Progress})
		if err != nil {
			return err
		}
		e.emitImage(apievents.ActionPull, reference.FamiliarString(one), reference.FamiliarName(one), img)
	}
	return nil
}

// tagged is the repository with each tag that its registry gave.
func tagged(repo reference.Named, tags []string) ([]reference.Named, error) {
	if len(tags) == 0 {
		return nil, fmt.Errorf("repository %s has no tags: %w", reference.FamiliarName(repo), errdefs.ErrNotFound)
	}
	slices.Sort(tags)
	var out []reference.Named
	for _, tag := range tags {
		ref, err := reference.WithTag(repo, tag)
		if err != nil {
			return nil, fmt.Errorf("the registry gives %s the tag %q: %w: %w", reference.FamiliarName(repo), tag, err, errdefs.ErrInvalidArgument)
		}
		out = append(out, ref)
	}
	return out, nil
}

// emitImage tells what happened to an image: id is what was named by it, name its
// name, if it has one.
func (e *Engine) emitImage(action apievents.Action, id, name string, img image.Image) {
	attributes := maps.Clone(img.Config.Config.Labels)
	if attributes == nil {
		attributes = make(map[string]string)
	}
	if name != "" {
		attributes["name"] = name
	}
	e.emit(apievents.ImageEventType, action, id, attributes)
}
