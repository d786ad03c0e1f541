package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameless is the name in containerd of an image that has none for the user,
// before its digest.
const nameless = "fairlead.local/nameless@"

// labelRegistry is on the names under which a registry has the same image: it was
// pulled or pushed by that name.
const labelRegistry = "io.fairlead/registry"

// Tag is the name for people, demo:latest; "" for an image without one, and for one
// that is known by its digest.
func (i Image) Tag() string {
	if i.canonical() {
		return ""
	}
	return familiar(i.Name)
}

// canonical says whether the name is one with a digest, as a pull by digest gives.
func (i Image) canonical() bool { return strings.Contains(i.Name, "@") }

// RepoDigest is by what name the registry has this very image, demo@sha256:…; ""
// where it is not known to have it.
func (i Image) RepoDigest() string {
	ref, err := reference.ParseNormalizedNamed(i.Name)
	if err != nil || !i.Registry || strings.HasPrefix(i.Name, nameless) {
		return ""
	}
	return reference.FamiliarName(ref) + "@" + i.ID.String()
}

// Repository is the name without tag or digest; "" for an image without one.
func (i Image) Repository() string {
	ref, err := reference.ParseNormalizedNamed(i.Name)
	if err != nil || strings.HasPrefix(i.Name, nameless) {
		return ""
	}
	return ref.Name()
}

// Familiar is a valid reference in its short form, with a tag: demo:latest.
func Familiar(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

func familiar(name string) string {
	if strings.HasPrefix(name, nameless) {
		return ""
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

// Tag gives the image another name, taking it from the image that had it.
func (s *Store) Tag(ctx context.Context, img Image, target string) error {
	named, err := newName(target)
	if err != nil {
		return err
	}
	aliases, err := s.Aliases(ctx, img.ID)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		// What a registry has in a repository it has whatever the tag.
		if a.Registry && a.Repository() == named.Name() {
			return s.name(ctx, named.String(), img.Target, labelRegistry, "true")
		}
	}
	return s.name(ctx, named.String(), img.Target)
}

// newName is the whole reference, with a tag, that an image is to get.
func newName(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid reference format %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, fmt.Errorf("refusing to create a tag with a digest reference %q: %w", ref, errdefs.ErrInvalidArgument)
	}
	return reference.TagNameOnly(named), Ambiguous(named)
}

// Ambiguous refuses a name that reads like an ID, sha256:…, by which another image
// could be had in the place of the one that is meant. The words are Docker's.
func Ambiguous(ref reference.Named) error {
	switch reference.FamiliarName(ref) {
	case digest.SHA256.String(), digest.SHA384.String(), digest.SHA512.String():
		return fmt.Errorf("refusing to create an ambiguous tag using digest algorithm as name: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// name points the name to the target, and gives it labels, key and value by turns. An
// image that loses its last name by this is kept without one.
func (s *Store) name(ctx context.Context, name string, target ocispec.Descriptor, labels ...string) error {
	unlock, err := s.naming.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	store := s.client.ImageService()
	in := images.Image{Name: name, Target: target, Labels: make(map[string]string)}
	for i := 0; i+1 < len(labels); i += 2 {
		in.Labels[labels[i]] = labels[i+1]
	}
	old, err := store.Get(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		_, err = store.Create(ctx, in)
	case err == nil && old.Target.Digest != target.Digest:
		if err = s.keep(ctx, old.Target, name); err == nil {
			_, err = store.Update(ctx, in, "target", "labels")
		}
	case err == nil && len(labels) > 0:
		_, err = store.Update(ctx, in, "labels")
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", familiar(name), err)
	}
	// What has a name needs no other.
	if !strings.HasPrefix(name, nameless) {
		if err := store.Delete(ctx, nameless+target.Digest.String()); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("name image %s: %w", familiar(name), err)
		}
	}
	return nil
}

// keep gives the target a name of ours unless it has another than except.
func (s *Store) keep(ctx context.Context, target ocispec.Descriptor, except string) error {
	aliases, err := s.Aliases(ctx, target.Digest)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		if a.Name != except {
			return nil
		}
	}
	_, err = s.client.ImageService().Create(ctx, images.Image{Name: nameless + target.Digest.String(), Target: target})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Aliases are all names of the image, without its details.
func (s *Store) Aliases(ctx context.Context, id digest.Digest) ([]Image, error) {
	list, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []Image
	for _, in := range list {
		if in.Target.Digest == id {
			out = append(out, bare(in))
		}
	}
	return out, nil
}

// bare is an image of which nothing was read.
func bare(in images.Image) Image {
	return Image{
		Name: in.Name, ID: in.Target.Digest, Target: in.Target, Tagged: in.UpdatedAt,
		Registry: in.Labels[labelRegistry] != "",
	}
}

// Remove takes names of an image away. When they are its last its content goes with
// them, before Remove returns, as far as nothing else uses it.
func (s *Store) Remove(ctx context.Context, names ...Image) error {
	if err := s.RemoveNames(ctx, names...); err != nil {
		return err
	}
	return s.Collect(ctx)
}

// RemoveNames is Remove, and what nobody needs any more is there until the next Collect.
func (s *Store) RemoveNames(ctx context.Context, names ...Image) error {
	for _, n := range names {
		if err := s.client.ImageService().Delete(ctx, n.Name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", familiar(n.Name), err)
		}
	}
	return nil
}

// Collect removes what no name, container nor lease needs any more, and waits for that. It
// takes as long for many images as for one: containerd looks at all that there is.
func (s *Store) Collect(ctx context.Context) error {
	service := s.client.LeasesService()
	lease, err := service.Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err == nil {
		err = service.Delete(ctx, lease, leases.SynchronousDelete)
	}
	if err != nil {
		return fmt.Errorf("collect what no image needs: %w", err)
	}
	return nil
}

// Disown has the names be the image's here alone, whatever a registry has by them.
func (s *Store) Disown(ctx context.Context, names ...Image) error {
	for _, n := range names {
		in := images.Image{Name: n.Name, Target: n.Target, Labels: map[string]string{}}
		if _, err := s.client.ImageService().Update(ctx, in, "labels"); err != nil {
			return fmt.Errorf("name image %s: %w", familiar(n.Name), err)
		}
	}
	return nil
}
