// Package image keeps images in containerd's image and content stores: import,
// load, names, removal, and what a container is made from.
//
// An image's ID is the digest of what its name points to, as with Docker's
// containerd image store. Whether a container uses an image is the engine's to
// know; nothing here does.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/fairlead/fairlead/engine/distribution"
)

// Image is one name of an image with what a container needs to know of it.
type Image struct {
	// Name is the whole reference in containerd, docker.io/library/demo:latest.
	Name string
	// ID is the digest of the target.
	ID     digest.Digest
	Target ocispec.Descriptor
	// Tagged is when the name was given to this image.
	Tagged time.Time
	// Registry is whether the name's registry has the image under it.
	Registry bool
	Details
	// Size is that of the layers in bytes, as unpacked.
	Size int64
}

// Details are what the image's own content says; they never change.
type Details struct {
	Config dockerspec.DockerOCIImage
	// Parent names the snapshot that containers stand on; "" for an image
	// without layers.
	Parent string
	// stored are the sizes of the layers as they are stored, in bytes, and chains the
	// names of their snapshots.
	stored []int64
	chains []string
	// Manifest is that of the host's platform, or the one that is here.
	Manifest ocispec.Descriptor
	// ConfigDigest is the ID that Docker without its containerd store gives.
	ConfigDigest digest.Digest
}

// Store is containerd's image store, in the client's namespace.
type Store struct {
	client      *client.Client
	snapshotter string
	platform    platforms.MatchComparer

	registries func() distribution.Registries
	// applying are the layers being unpacked, by chain ID.
	applying locks
	// naming are the names being given.
	naming locks

	mu        sync.Mutex
	details   map[digest.Digest]Details
	sizes     map[string]int64 // of snapshots, by chain ID
	transfers map[digest.Digest]*transfer
	// downloads has a slot for each of the slots layers that may be on their way.
	downloads *semaphore.Weighted
	slots     int
}

// NewStore returns the image store behind the client. registries says how they are
// reached at the moment; nil is the defaults.
func NewStore(c *client.Client, snapshotter string, registries func() distribution.Registries) *Store {
	if registries == nil {
		registries = func() distribution.Registries { return distribution.Registries{} }
	}
	return &Store{
		client: c, snapshotter: snapshotter, platform: platforms.Default(), registries: registries,
		details: make(map[digest.Digest]Details), sizes: make(map[string]int64), transfers: make(map[digest.Digest]*transfer),
	}
}

// changed forgets what was read of the image: more of it is here now.
func (s *Store) changed(id digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.details, id)
}

// List returns every name of every image.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	list, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	out := make([]Image, 0, len(list))
	for _, in := range list {
		img, _ := s.fill(ctx, in) // one that cannot be read does not hide the others
		out = append(out, img)
	}
	return out, nil
}

// Get finds an image by ID, name or unique prefix of an ID, tried in this order.
// errdefs.ErrNotFound carries Docker's words.
func (s *Store) Get(ctx context.Context, ref string) (Image, error) {
	img, _, err := s.Find(ctx, ref)
	return img, err
}

// Find is Get that says too whether it was by ID. Of an image that is there but cannot
// be read it returns the names and the ID with the error.
func (s *Store) Find(ctx context.Context, ref string) (img Image, byID bool, err error) {
	if len(strings.TrimPrefix(ref, "sha256:")) == digest.SHA256.Size()*2 && hexadecimal(strings.TrimPrefix(ref, "sha256:")) {
		img, err = s.byID(ctx, ref)
		return img, true, err
	}
	named, nameErr := parse(ref)
	if nameErr == nil {
		in, err := s.client.ImageService().Get(ctx, named)
		if err == nil {
			img, err = s.fill(ctx, in)
			return img, false, err
		}
		if !errdefs.IsNotFound(err) {
			return Image{}, false, fmt.Errorf("find image %s: %w", ref, err)
		}
	}
	if nameErr == nil && strings.Contains(named, "@") {
		img, err = s.byDigest(ctx, named)
		return img, false, err
	}
	if !hexadecimal(strings.TrimPrefix(ref, "sha256:")) && nameErr != nil {
		return Image{}, false, nameErr
	}
	img, err = s.byID(ctx, ref)
	return img, true, err
}

// shortestID is how many digits of an ID are enough to ask for it, as in Docker: the
// name of an image that is not there must not be another's.
const shortestID = 4

func (s *Store) byID(ctx context.Context, ref string) (Image, error) {
	prefix := strings.TrimPrefix(ref, "sha256:")
	if !hexadecimal(prefix) || len(prefix) < shortestID || len(prefix) > 64 {
		return Image{}, notFound(ref)
	}
	list, err := s.client.ImageService().List(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("find image %s: %w", ref, err)
	}
	var found *images.Image
	for i, in := range list {
		if !strings.HasPrefix(in.Target.Digest.Encoded(), prefix) {
			continue
		}
		if found != nil && found.Target.Digest != in.Target.Digest {
			return Image{}, fmt.Errorf("image ID prefix %s is ambiguous: %w", ref, errdefs.ErrInvalidArgument)
		}
		found = &list[i]
	}
	if found == nil {
		return Image{}, notFound(ref)
	}
	return s.fill(ctx, *found)
}

// byDigest finds an image that a registry has by the name, NAME@DIGEST, though it goes
// by another here.
func (s *Store) byDigest(ctx context.Context, name string) (Image, error) {
	list, err := s.client.ImageService().List(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("find image %s: %w", familiar(name), err)
	}
	for _, in := range list {
		if one := bare(in); one.Registry && one.Repository()+"@"+one.ID.String() == name {
			return s.fill(ctx, in)
		}
	}
	return Image{}, notFound(name)
}

func notFound(ref string) error {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		ref = reference.FamiliarString(reference.TagNameOnly(named))
	}
	return fmt.Errorf("No such image: %s: %w", ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words, which clients look for
}

func hexadecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// parse returns the name in containerd for a user's reference.
func parse(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("invalid reference format %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	return named.String(), nil
}

// fill reads the image; where that fails the image has at least its name.
func (s *Store) fill(ctx context.Context, in images.Image) (Image, error) {
	img := bare(in)
	d, err := s.describe(ctx, in.Target)
	if err != nil {
		return img, fmt.Errorf("read image %s: %w", familiar(in.Name), err)
	}
	img.Details = d
	for _, l := range s.layersOf(ctx, d) {
		img.Size += l.Size
	}
	return img, nil
}

func (s *Store) describe(ctx context.Context, target ocispec.Descriptor) (Details, error) {
	s.mu.Lock()
	d, ok := s.details[target.Digest]
	s.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := s.detail(ctx, target, nil)
	if err == nil {
		s.mu.Lock()
		s.details[target.Digest] = d
		s.mu.Unlock()
	}
	return d, err
}

// detail reads what there is of the platform; nil is as manifestFor has it.
func (s *Store) detail(ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform) (d Details, err error) {
	store := s.client.ContentStore()
	if d.Manifest, err = s.manifestFor(ctx, target, platform); err != nil {
		return d, err
	}
	manifest, err := images.Manifest(ctx, store, d.Manifest, platforms.All)
	if err != nil {
		return d, err
	}
	raw, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return d, err
	}
	d.ConfigDigest = manifest.Config.Digest
	if err := json.Unmarshal(raw, &d.Config); err != nil {
		return d, fmt.Errorf("decode its configuration: %w", err)
	}
	d.chains = chains(d.Config.RootFS.DiffIDs)
	if n := len(d.chains); n > 0 {
		d.Parent = d.chains[n-1]
	}
	for _, l := range manifest.Layers {
		d.stored = append(d.stored, l.Size)
	}
	return d, nil
}

// For is the image as it is for another platform than the host's. Where there is
// nothing of it here the error is errdefs.ErrNotFound, in the words by which Docker's
// clients know to pull it.
func (s *Store) For(ctx context.Context, img Image, platform ocispec.Platform) (Image, error) {
	if img.Config.Architecture == "" {
		return img, nil // it does not say what it is for
	}
	d, err := s.detail(ctx, img.Target, &platform)
	if errdefs.IsNotFound(err) {
		return img, fmt.Errorf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s: %w",
			familiar(img.Name), platforms.Format(platform), platforms.Format(img.Config.Platform), errdefs.ErrNotFound)
	}
	if err != nil {
		return img, fmt.Errorf("read image %s: %w", familiar(img.Name), err)
	}
	img.Details, img.Size = d, 0
	for _, l := range s.layersOf(ctx, d) {
		img.Size += l.Size
	}
	return img, nil
}

// Unpack makes the image's layers into snapshots, where they are not yet.
func (s *Store) Unpack(ctx context.Context, img Image) error {
	return s.unpackManifest(ctx, img.Name, img.Manifest)
}

func (s *Store) unpack(ctx context.Context, in images.Image) error {
	one, err := s.manifestFor(ctx, in.Target, nil)
	if err != nil {
		return fmt.Errorf("unpack image %s: %w", familiar(in.Name), err)
	}
	return s.unpackManifest(ctx, in.Name, one)
}

func (s *Store) unpackManifest(ctx context.Context, name string, one ocispec.Descriptor) error {
	if err := client.NewImageWithPlatform(s.client, images.Image{Name: name, Target: one}, platforms.All).Unpack(ctx, s.snapshotter); err != nil {
		return fmt.Errorf("unpack image %s: %w", familiar(name), err)
	}
	return nil
}
