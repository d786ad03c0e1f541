package engine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/engine/runtime"
)

// ImageLoad reads an archive of images and returns the names it had; progress
// is told each one.
func (e *Engine) ImageLoad(ctx context.Context, archive io.Reader, progress func(string)) ([]string, error) {
	return e.images.Load(ctx, archive, progress)
}

// ImageImport makes an image of a root file system and returns its ID. changes
// are instructions as in a Dockerfile.
func (e *Engine) ImageImport(ctx context.Context, archive io.Reader, ref string, changes []string, message string) (string, error) {
	id, err := e.images.Import(ctx, archive, ref, changes, message)
	if err == nil {
		e.log.Info("image imported", "image", ref, "id", id)
	}
	return id, err
}

// ImageTag gives the image another name.
func (e *Engine) ImageTag(ctx context.Context, ref, target string) error {
	img, err := e.images.Get(ctx, ref)
	if err != nil {
		return err
	}
	return e.images.Tag(ctx, img, target)
}

// ImageList returns images with all their names, newest first. Filters are
// Docker's: before, dangling, label, reference, since.
func (e *Engine) ImageList(ctx context.Context, _ bool, filters map[string][]string) ([]apiimage.Summary, error) {
	list, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b image.Image) int { return cmp.Compare(a.Tag(), b.Tag()) })
	match, err := e.imageFilter(ctx, filters)
	if err != nil {
		return nil, err
	}
	used := e.imageUsers()
	out := []apiimage.Summary{}
	at := make(map[string]int)
	for _, img := range list {
		if !match(img) {
			continue
		}
		id := img.ID.String()
		i, seen := at[id]
		if !seen {
			i = len(out)
			at[id] = i
			target := img.Target
			out = append(out, apiimage.Summary{
				ID: id, Created: created(img).Unix(), Size: img.Size, SharedSize: -1, Containers: int64(len(used[id])),
				Labels: img.Config.Config.Labels, RepoTags: []string{}, RepoDigests: []string{}, Descriptor: &target,
			})
		}
		if tag := img.Tag(); tag != "" {
			out[i].RepoTags = append(out[i].RepoTags, tag)
			out[i].RepoDigests = append(out[i].RepoDigests, repoDigest(img))
		}
	}
	slices.SortStableFunc(out, func(a, b apiimage.Summary) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

func created(img image.Image) time.Time {
	if img.Config.Created != nil {
		return *img.Config.Created
	}
	return time.Unix(0, 0)
}

func repoDigest(img image.Image) string {
	named, err := reference.ParseNormalizedNamed(img.Name)
	if err != nil {
		return img.ID.String()
	}
	return reference.FamiliarName(named) + "@" + img.ID.String()
}

func (e *Engine) imageFilter(ctx context.Context, filters map[string][]string) (func(image.Image) bool, error) {
	var tests []func(image.Image) bool
	for key, values := range filters {
		switch key {
		case "dangling":
			want := len(values) > 0 && (values[0] == "true" || values[0] == "1")
			tests = append(tests, func(i image.Image) bool { return (i.Tag() == "") == want })
		case "label":
			tests = append(tests, func(i image.Image) bool { return labelsMatch(i.Config.Config.Labels, values) })
		case "reference":
			for _, v := range values {
				if _, err := reference.FamiliarMatch(v, mustParse("a")); err != nil {
					return nil, fmt.Errorf("invalid filter 'reference=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
				}
			}
			tests = append(tests, func(i image.Image) bool { return matchesReference(i, values) })
		case "before", "since":
			for _, v := range values {
				other, err := e.images.Get(ctx, v)
				if err != nil {
					return nil, err
				}
				limit := created(other)
				tests = append(tests, func(i image.Image) bool {
					t := created(i)
					return !t.Equal(limit) && t.Before(limit) == (key == "before")
				})
			}
		default:
			return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return func(i image.Image) bool {
		return !slices.ContainsFunc(tests, func(t func(image.Image) bool) bool { return !t(i) })
	}, nil
}

func mustParse(s string) reference.Named {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		panic(err) // a constant
	}
	return named
}

func matchesReference(i image.Image, patterns []string) bool {
	named, err := reference.ParseNormalizedNamed(i.Name)
	if err != nil || i.Tag() == "" {
		return false
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		whole, err := reference.FamiliarMatch(p, named)
		if err == nil && whole {
			return true
		}
		name, err := reference.FamiliarMatch(p, reference.TrimNamed(named))
		return err == nil && name
	})
}

// ImageInspect tells everything of an image.
func (e *Engine) ImageInspect(ctx context.Context, ref string) (apiimage.InspectResponse, error) {
	img, err := e.images.Get(ctx, ref)
	if err != nil {
		return apiimage.InspectResponse{}, err
	}
	names, err := e.images.Names(ctx, img.ID)
	if err != nil {
		return apiimage.InspectResponse{}, err
	}
	config, target := img.Config.Config, img.Target
	out := apiimage.InspectResponse{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{},
		Created: created(img).Format(time.RFC3339Nano), Author: img.Config.Author, Config: &config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: img.Size, GraphDriver: &storage.DriverData{Name: runtime.Snapshotter},
		RootFS: apiimage.RootFS{Type: "layers"}, Descriptor: &target, Metadata: apiimage.Metadata{LastTagTime: img.Tagged},
	}
	for _, d := range img.Config.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	if h := img.Config.History; len(h) > 0 {
		out.Comment = h[len(h)-1].Comment
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Compare(image.Image{Name: a}.Tag(), image.Image{Name: b}.Tag())
	})
	for _, n := range names {
		one := image.Image{Name: n, ID: img.ID}
		if tag := one.Tag(); tag != "" {
			out.RepoTags = append(out.RepoTags, tag)
			out.RepoDigests = append(out.RepoDigests, repoDigest(one))
		}
	}
	return out, nil
}

// imageUsers maps an image's ID to the containers made from it.
func (e *Engine) imageUsers() map[string][]Record {
	out := make(map[string][]Record)
	for _, c := range e.registry.all() {
		r := c.record()
		out[r.ImageID] = append(out[r.ImageID], r)
	}
	return out
}

// ImageRemove takes a name away, and with the last one the image. Given an ID it
// takes all names.
func (e *Engine) ImageRemove(ctx context.Context, ref string, force bool) ([]apiimage.DeleteResponse, error) {
	img, byID, err := e.images.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	all, err := e.images.Names(ctx, img.ID)
	if err != nil {
		return nil, err
	}
	names := []string{img.Name}
	if byID {
		if len(all) > 1 && !force {
			return nil, fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories: %w",
				short(img.ID.Encoded()), errdefs.ErrConflict)
		}
		names = all
	}
	last := len(names) == len(all)
	if last {
		if err := e.imageUnused(ref, img, byID, force); err != nil {
			return nil, err
		}
	}
	out := []apiimage.DeleteResponse{}
	slices.Sort(names)
	for _, n := range names {
		if err := e.images.Remove(ctx, n); err != nil {
			return out, err
		}
		if tag := (image.Image{Name: n}).Tag(); tag != "" {
			out = append(out, apiimage.DeleteResponse{Untagged: tag})
		}
	}
	if last {
		out = append(out, apiimage.DeleteResponse{Deleted: img.ID.String()})
	}
	return out, nil
}

// imageUnused refuses to take the last name of an image that containers use: of
// running ones always, of others unless forced.
func (e *Engine) imageUnused(ref string, img image.Image, byID, force bool) error {
	id := short(img.ID.Encoded())
	for _, r := range e.imageUsers()[img.ID.String()] {
		switch {
		case r.State.Running && byID:
			return fmt.Errorf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s: %w",
				id, short(r.ID), errdefs.ErrConflict)
		case r.State.Running && force:
			return fmt.Errorf("conflict: unable to remove repository reference %q (cannot be forced) - container %s is using its referenced image %s: %w",
				ref, short(r.ID), id, errdefs.ErrConflict)
		case force:
		case byID:
			return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s: %w",
				id, short(r.ID), errdefs.ErrConflict)
		default:
			return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s: %w",
				ref, short(r.ID), id, errdefs.ErrConflict)
		}
	}
	return nil
}
