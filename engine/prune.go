package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
)

// ContainerPrune removes the containers that do not run, and tells their IDs and
// how many bytes they had written. Filters are Docker's: label, label!, until. A
// container that starts meanwhile stays.
func (e *Engine) ContainerPrune(ctx context.Context, filters map[string][]string) (container.PruneReport, error) {
	leave, err := e.enter()
	if err != nil {
		return container.PruneReport{}, err
	}
	defer leave()
	match, err := pruneFilter(filters, time.Now())
	if err != nil {
		return container.PruneReport{}, err
	}
	if !e.pruning.TryLock() {
		return container.PruneReport{}, fmt.Errorf("a prune operation is already running: %w", errdefs.ErrConflict)
	}
	defer e.pruning.Unlock()
	out := container.PruneReport{}
	var errs []error
	for _, c := range e.registry.all() {
		rec := c.record()
		if rec.State.Running || rec.State.Removing || !match(rec.Config.Labels, rec.Created) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		size, err := e.rt.Usage(ctx, c.id)
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		err = e.removeByRef(ctx, c.id, RemoveOptions{})
		switch {
		case err == nil:
			out.ContainersDeleted = append(out.ContainersDeleted, c.id)
			out.SpaceReclaimed += uint64(size)
		case errdefs.IsNotFound(err), errdefs.IsConflict(err):
			e.log.Info("a container was not pruned", "container", rec.Name, "err", err)
		default:
			errs = append(errs, err)
		}
	}
	e.emit(apievents.ContainerEventType, apievents.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(out.SpaceReclaimed, 10)})
	return out, errors.Join(errs...)
}

// pruneFilter makes one test, of labels and the time of creation, of the filters. An
// unknown one is refused.
func pruneFilter(filters map[string][]string, now time.Time) (func(labels map[string]string, created time.Time) bool, error) {
	before := now
	for key, values := range filters {
		switch key {
		case "label", "label!":
		case "until":
			if len(values) != 1 {
				return nil, fmt.Errorf("more than one until filter specified: %w", errdefs.ErrInvalidArgument)
			}
			var err error
			if before, err = moment(values[0], now); err != nil {
				return nil, fmt.Errorf("invalid filter 'until=%s': %w", values[0], err)
			}
		default:
			return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return func(labels map[string]string, created time.Time) bool {
		without := func(f string) bool { return labelsMatch(labels, []string{f}) }
		return labelsMatch(labels, filters["label"]) && !slices.ContainsFunc(filters["label!"], without) && created.Before(before)
	}, nil
}
