package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/fairlead/fairlead/engine/image"
)

// ImageListOptions choose images and what is told of them.
type ImageListOptions struct {
	// Filters are Docker's: before, dangling, label, label!, reference, since, until.
	Filters map[string][]string
	// SharedSize has what images share counted, Manifests what is here of each
	// platform.
	SharedSize, Manifests bool
}

// named is an image with those of its names that were chosen.
type named struct {
	image.Image
	names []image.Image
}

// ImageList returns images with their names, newest first.
func (e *Engine) ImageList(ctx context.Context, o ImageListOptions) ([]apiimage.Summary, error) {
	chosen, err := e.chooseImages(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	used := e.imageUsers()
	var shared map[digest.Digest]int64
	if o.SharedSize {
		if shared, err = e.sharedSizes(ctx); err != nil {
			return nil, err
		}
	}
	out := make([]apiimage.Summary, 0, len(chosen))
	for _, img := range chosen {
		target := img.Target
		s := apiimage.Summary{
			ID: img.ID.String(), Created: created(img.Image).Unix(), Size: img.Size, SharedSize: -1, Containers: int64(len(used[img.ID.String()])),
			Labels: img.Config.Config.Labels, RepoTags: tagsOfNames(img.names), RepoDigests: repoDigests(img.names), Descriptor: &target,
		}
		if o.SharedSize {
			s.SharedSize = shared[img.ID]
		}
		if o.Manifests {
			if s.Manifests, err = e.imageManifests(ctx, img.Image); ctx.Err() != nil {
				return nil, ctx.Err()
			} else if err != nil {
				// One that is broken does not hide the others.
				e.log.Warn("an image's manifests cannot be read", "operation", "list", "image", img.ID, "err", err)
			}
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b apiimage.Summary) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

// tagsOfNames and repoDigests are what the names are for people, in order.
func tagsOfNames(names []image.Image) []string {
	return textOf(names, image.Image.Tag)
}

func repoDigests(names []image.Image) []string {
	return textOf(names, image.Image.RepoDigest)
}

func textOf(names []image.Image, text func(image.Image) string) []string {
	out := []string{}
	for _, n := range names {
		if t := text(n); t != "" {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// chooseImages groups the names that pass the filters by their image, in the order
// of these names.
func (e *Engine) chooseImages(ctx context.Context, filters map[string][]string) ([]*named, error) {
	list, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b image.Image) int { return cmp.Compare(a.Tag(), b.Tag()) })
	tagged := make(map[digest.Digest]bool)
	for _, img := range list {
		tagged[img.ID] = tagged[img.ID] || img.Tag() != ""
	}
	match, err := e.imageFilter(ctx, filters, tagged)
	if err != nil {
		return nil, err
	}
	var out []*named
	at := make(map[digest.Digest]*named)
	for _, img := range list {
		if !match(img) {
			continue
		}
		one := at[img.ID]
		if one == nil {
			one = &named{Image: img}
			at[img.ID] = one
			out = append(out, one)
		}
		one.names = append(one.names, img)
	}
	return out, nil
}

// sharedSizes is for each image what of its layers others have too, in bytes.
func (e *Engine) sharedSizes(ctx context.Context) (map[digest.Digest]int64, error) {
	list, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	layers := make(map[digest.Digest][]image.Layer)
	users := make(map[string]int)
	for _, img := range list {
		if _, seen := layers[img.ID]; seen {
			continue
		}
		layers[img.ID] = e.images.Layers(ctx, img)
		for _, l := range layers[img.ID] {
			users[l.Chain]++
		}
	}
	out := make(map[digest.Digest]int64)
	for id, all := range layers {
		for _, l := range all {
			if users[l.Chain] > 1 {
				out[id] += l.Size
			}
		}
	}
	return out, nil
}

func created(img image.Image) time.Time {
	if img.Config.Created != nil {
		return *img.Config.Created
	}
	return time.Unix(0, 0)
}

// imageFilter makes one test of all filters; tagged says which images have a tag.
func (e *Engine) imageFilter(ctx context.Context, filters map[string][]string, tagged map[digest.Digest]bool) (func(image.Image) bool, error) {
	var tests []func(image.Image) bool
	for key, values := range filters {
		test, err := e.oneImageFilter(ctx, key, values, tagged)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	return func(i image.Image) bool {
		return !slices.ContainsFunc(tests, func(t func(image.Image) bool) bool { return !t(i) })
	}, nil
}

func (e *Engine) oneImageFilter(ctx context.Context, key string, values []string, tagged map[digest.Digest]bool) (func(image.Image) bool, error) {
	switch key {
	case "dangling":
		want, err := boolFilter(key, values)
		return func(i image.Image) bool { return tagged[i.ID] != want }, err
	case "label":
		return func(i image.Image) bool { return labelsMatch(i.Config.Config.Labels, values) }, nil
	case "label!":
		return func(i image.Image) bool {
			return !slices.ContainsFunc(values, func(v string) bool { return labelsMatch(i.Config.Config.Labels, []string{v}) })
		}, nil
	case "reference":
		for _, v := range values {
			if _, err := reference.FamiliarMatch(v, mustParse("a")); err != nil {
				return nil, fmt.Errorf("invalid filter 'reference=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
			}
		}
		return func(i image.Image) bool { return matchesReference(i, values) }, nil
	case "before", "since":
		return e.imageOrder(ctx, key, values)
	case "until":
		return imageUntil(values)
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// imageOrder is the filters before and since: made before or after another image.
func (e *Engine) imageOrder(ctx context.Context, key string, values []string) (func(image.Image) bool, error) {
	var limits []time.Time
	for _, v := range values {
		other, err := e.images.Get(ctx, v)
		if err != nil {
			return nil, err
		}
		limits = append(limits, created(other))
	}
	return func(i image.Image) bool {
		t := created(i)
		return !slices.ContainsFunc(limits, func(l time.Time) bool { return t.Equal(l) || t.Before(l) != (key == "before") })
	}, nil
}

// imageUntil is the filter of what was made before a moment.
func imageUntil(values []string) (func(image.Image) bool, error) {
	if len(values) != 1 {
		return nil, fmt.Errorf("more than one until filter specified: %w", errdefs.ErrInvalidArgument)
	}
	limit, err := moment(values[0], time.Now())
	if err != nil {
		return nil, fmt.Errorf("invalid filter 'until=%s': %w: %w", values[0], err, errdefs.ErrInvalidArgument)
	}
	return func(i image.Image) bool { return created(i).Before(limit) }, nil
}

// boolFilter reads a filter that is true or false.
func boolFilter(key string, values []string) (bool, error) {
	if len(values) != 1 {
		return false, fmt.Errorf("invalid filter '%s': want true or false: %w", key, errdefs.ErrInvalidArgument)
	}
	want, err := strconv.ParseBool(values[0])
	if err != nil {
		return false, fmt.Errorf("invalid filter '%s=%s': want true or false: %w", key, values[0], errdefs.ErrInvalidArgument)
	}
	return want, nil
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
