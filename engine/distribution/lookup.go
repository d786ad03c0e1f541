package distribution

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Lookup asks the registry what it has under the name, and for which platforms,
// without bringing it here.
func Lookup(ctx context.Context, r Registries, ref reference.Named, auth apiregistry.AuthConfig) (apiregistry.DistributionInspect, error) {
	out := apiregistry.DistributionInspect{Platforms: []ocispec.Platform{}}
	c, err := Open(r, ref, auth, nil)
	if err != nil {
		return out, err
	}
	defer c.Close()
	_, desc, err := c.Resolver.Resolve(ctx, ref.String())
	if err != nil {
		return out, Refused("pull", ref, err)
	}
	out.Descriptor = desc
	fetcher, err := c.Resolver.Fetcher(ctx, ref.String())
	if err != nil {
		return out, Refused("pull", ref, err)
	}
	switch {
	case images.IsIndexType(desc.MediaType):
		var index ocispec.Index
		if err := readRemote(ctx, fetcher, desc, &index); err != nil {
			return out, Inside(ref, err)
		}
		for _, m := range index.Manifests {
			if m.Platform != nil {
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
	case images.IsManifestType(desc.MediaType):
		var m ocispec.Manifest
		if err := readRemote(ctx, fetcher, desc, &m); err != nil {
			return out, Inside(ref, err)
		}
		if !images.IsConfigType(m.Config.MediaType) {
			break
		}
		var config ocispec.Image
		if err := readRemote(ctx, fetcher, m.Config, &config); err != nil {
			return out, Inside(ref, err)
		}
		if config.Architecture != "" {
			out.Platforms = append(out.Platforms, config.Platform)
		}
	}
	return out, nil
}

// readRemote decodes what the registry has, if it is what its digest says.
func readRemote(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor, into any) error {
	if desc.Size > docker.MaxManifestSize {
		return Refuse(errdefs.ErrInvalidArgument, "%s has %d bytes, which is too large", desc.MediaType, desc.Size)
	}
	desc.URLs = nil
	body, err := fetcher.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, desc.Size+1))
	if err != nil {
		return err
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return Refuse(errdefs.ErrFailedPrecondition, "the registry sent %s where %s was asked for", got, desc.Digest)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode %s: %w: %w", desc.MediaType, err, errdefs.ErrInvalidArgument)
	}
	return nil
}
