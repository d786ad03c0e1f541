package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	apiimage "github.com/moby/moby/api/types/image"

	"github.com/fairlead/fairlead/engine/image"
)

// ImageRemove takes a name away, and with the last one the image. Given an ID it
// takes all names.
func (e *Engine) ImageRemove(ctx context.Context, ref string, force bool) ([]apiimage.DeleteResponse, error) {
	img, byID, err := e.images.Find(ctx, ref)
	if err != nil && img.ID == "" { // one that cannot be read can yet be removed
		return nil, err
	}
	all, err := e.images.Aliases(ctx, img.ID)
	if err != nil {
		return nil, err
	}
	if !byID && img.RepoDigest() == familiar(ref) && !strings.HasSuffix(img.Name, "@"+img.ID.String()) {
		return e.disown(ctx, img, all)
	}
	names := leaving(img, all)
	if byID {
		if !oneRepository(all) && !force {
			return nil, fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories: %w",
				short(img.ID.Encoded()), errdefs.ErrConflict)
		}
		names = all
	}
	if len(names) == len(all) {
		if err := e.imageUnused(ref, img, byID, force); err != nil {
			return nil, err
		}
	}
	out, err := e.removeNames(ctx, img, names, all)
	return out, errors.Join(err, e.images.Collect(ctx))
}

// disown takes away the digest by which a registry has an image that has tags too.
func (e *Engine) disown(ctx context.Context, img image.Image, all []image.Image) ([]apiimage.DeleteResponse, error) {
	known := slices.DeleteFunc(slices.Clone(all), func(a image.Image) bool { return a.RepoDigest() != img.RepoDigest() })
	if err := e.images.Disown(ctx, known...); err != nil {
		return nil, err
	}
	e.emitImage(apievents.ActionUnTag, img.ID.String(), img.ID.String(), img)
	return []apiimage.DeleteResponse{{Untagged: img.RepoDigest()}}, nil
}

// leaving are the names that go with the one of img: where it is the last tag in its
// repository those by digest go too.
func leaving(img image.Image, all []image.Image) []image.Image {
	out := []image.Image{img}
	if img.Tag() == "" {
		return out
	}
	for _, a := range all {
		if a.Name == img.Name || a.Repository() != img.Repository() {
			continue
		}
		if a.Tag() != "" {
			return out[:1]
		}
		out = append(out, a)
	}
	return out
}

// oneRepository says whether the names are one tag at most, and digests of the same
// repository.
func oneRepository(names []image.Image) bool {
	tags := 0
	for _, n := range names {
		if n.Tag() != "" {
			tags++
		}
		if n.Repository() != names[0].Repository() {
			return false
		}
	}
	return tags <= 1
}

// removeNames takes names away, of all that the image has, and tells of it. What they were
// of is there until it is collected.
func (e *Engine) removeNames(ctx context.Context, img image.Image, names, all []image.Image) ([]apiimage.DeleteResponse, error) {
	kept := slices.DeleteFunc(slices.Clone(all), func(a image.Image) bool {
		return slices.ContainsFunc(names, func(n image.Image) bool { return n.Name == a.Name })
	})
	out := []apiimage.DeleteResponse{}
	slices.SortFunc(names, func(a, b image.Image) int { return strings.Compare(a.Name, b.Name) })
	if err := e.images.RemoveNames(ctx, names...); err != nil {
		return out, err
	}
	for _, n := range names {
		if tag := n.Tag(); tag != "" {
			out = append(out, apiimage.DeleteResponse{Untagged: tag})
			e.emitImage(apievents.ActionUnTag, img.ID.String(), img.ID.String(), img)
		}
	}
	left := repoDigests(kept)
	for _, d := range repoDigests(names) {
		if !slices.Contains(left, d) {
			out = append(out, apiimage.DeleteResponse{Untagged: d})
		}
	}
	if len(kept) == 0 {
		out = append(out, apiimage.DeleteResponse{Deleted: img.ID.String()})
		e.emitImage(apievents.ActionDelete, img.ID.String(), img.ID.String(), img)
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

// ImagePrune removes images that no container uses: those without a tag, or with the
// filter dangling=false all. Further filters are Docker's: label, label!, until.
func (e *Engine) ImagePrune(ctx context.Context, filters map[string][]string) (apiimage.PruneReport, error) {
	out := apiimage.PruneReport{ImagesDeleted: []apiimage.DeleteResponse{}}
	chosen := map[string][]string{"dangling": {"true"}}
	for key, values := range filters {
		switch key {
		case "dangling":
			dangling, err := boolFilter(key, values)
			if err != nil {
				return out, err
			}
			if !dangling {
				delete(chosen, key)
			}
		case "label", "label!", "until":
			chosen[key] = values
		default:
			return out, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	unused, err := e.chooseImages(ctx, chosen)
	if err != nil {
		return out, err
	}
	if len(unused) == 0 { // what all images take is not counted for nothing
		e.emit(apievents.ImageEventType, apievents.ActionPrune, "", map[string]string{"reclaimed": "0"})
		return out, nil
	}
	before, err := e.imageSpace(ctx)
	if err != nil {
		return out, err
	}
	err = e.removeUnused(ctx, unused, &out)
	// Once for all of them, and also where one could not be removed.
	if err = errors.Join(err, e.images.Collect(ctx)); err != nil {
		return out, err
	}
	after, err := e.imageSpace(ctx)
	if err != nil {
		return out, err
	}
	out.SpaceReclaimed = uint64(max(0, before-after))
	e.emit(apievents.ImageEventType, apievents.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(out.SpaceReclaimed, 10)})
	return out, nil
}

// removeUnused takes the images' names away.
func (e *Engine) removeUnused(ctx context.Context, unused []*named, out *apiimage.PruneReport) error {
	for _, img := range unused {
		// Asked each time: a container may be made of it meanwhile.
		if len(e.imageUsers()[img.ID.String()]) > 0 {
			continue
		}
		all, err := e.images.Aliases(ctx, img.ID)
		if err != nil {
			return err
		}
		gone, err := e.removeNames(ctx, img.Image, all, all)
		out.ImagesDeleted = append(out.ImagesDeleted, gone...)
		if err != nil {
			return err
		}
	}
	return nil
}

// imageSpace is what all images' layers take, each counted once, in bytes.
func (e *Engine) imageSpace(ctx context.Context) (total int64, err error) {
	list, err := e.images.List(ctx)
	if err != nil {
		return 0, err
	}
	seen := make(map[string]bool)
	for _, img := range list {
		for _, l := range e.images.Layers(ctx, img) {
			if !seen[l.Chain] {
				seen[l.Chain] = true
				total += l.Size
			}
		}
	}
	return total, nil
}
