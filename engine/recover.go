package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Losses notes what a damaged store has cost; *store.Store is one.
type Losses interface {
	// Lose notes it, a line each; what is noted already is not noted again.
	Lose(lines ...string) error
	// Lost returns what was noted, and the file that says so: people remove it when
	// they have read it.
	Lost() (lines []string, path string)
}

// lost are the lines that were noted.
func (e *Engine) lost() (lines []string, path string) {
	if e.cfg.Losses == nil {
		return nil, ""
	}
	return e.cfg.Losses.Lost()
}

func (e *Engine) lose(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if e.cfg.Losses == nil {
		e.log.Error("lost: " + line)
	} else if err := e.cfg.Losses.Lose(line); err != nil {
		e.log.Error("a loss was not noted", "operation", "recover", "lost", line, "err", err)
	}
}

// sayDamaged tells of volumes whose description was damaged.
func (e *Engine) sayDamaged() {
	for _, d := range e.volumes.Damaged() {
		if d.Restored {
			e.log.Warn("a volume's description was damaged, and is taken from its copy", "operation", "recover", "volume", d.Volume, "aside", d.Aside, "err", d.Cause)
		} else {
			e.lose("volume %s: its labels and options; its files are there. What was damaged is %s", d.Volume, d.Aside)
		}
	}
}

// regain makes up for records that a damaged store has lost, by the copies that
// containerd has: unreadable are those whose records cannot be read. In a store that
// was made anew, records may be missing, old, or of containers that are gone.
func (e *Engine) regain(ctx context.Context, unreadable []string) error {
	kept, err := e.rt.Labels(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(kept)) {
		if !e.cfg.Repaired && !slices.Contains(unreadable, id) {
			continue
		}
		errs = append(errs, e.regainOne(id, kept[id]))
	}
	for _, id := range unreadable {
		if _, there := kept[id]; !there {
			e.lose("container %s: its record cannot be read, and containerd does not know it", id)
			errs = append(errs, e.cfg.Store.Delete(id))
		}
	}
	if e.cfg.Repaired && len(kept) > 0 {
		for _, c := range e.registry.all() {
			if _, there := kept[c.id]; !there {
				errs = append(errs, e.dropGone(c))
			}
		}
	}
	return errors.Join(errs...)
}

// regainOne takes the newest of the record's copies, if the store's is older.
func (e *Engine) regainOne(id string, copies []map[string]string) error {
	var newest Record
	for _, labels := range copies {
		if r, ok := fromLabels(id, labels); ok && r.Revision >= newest.Revision {
			newest = r
		}
	}
	c, known := e.registry.get(id)
	switch {
	case newest.ID == "" && !known:
		e.lose("container %s: its record; its files are in the snapshot of this name", id)
		return nil
	case newest.ID == "" || known && newest.Revision <= c.record().Revision:
		return nil
	}
	e.cfg.Store.seen(newest)
	if known {
		e.registry.release(c.record().Name, id)
	}
	if err := e.registry.reserve(newest.Name, id); err != nil {
		newest.Name += "-" + short(id)
		e.log.Warn("a container's name is another's by now", "operation", "recover", "container", newest.Name, "err", err)
		if err := e.registry.reserve(newest.Name, id); err != nil {
			return err
		}
	}
	e.log.Warn("a container's record is taken from containerd's labels", "container", newest.Name, "id", short(id))
	e.registry.add(&instance{id: id, rec: newest})
	return e.cfg.Store.Put(id, newest)
}

// dropGone forgets a container that was removed before the store was damaged.
func (e *Engine) dropGone(c *instance) error {
	rec := c.record()
	e.log.Warn("a container of the repaired store had been removed, and is dropped", "container", rec.Name, "id", short(c.id))
	e.registry.remove(c.id)
	e.registry.release(rec.Name, c.id)
	return e.cfg.Store.Delete(c.id)
}

// relabel has containerd's labels follow a change that somebody made of the record by
// hand. How the container runs is containerd's to know anyway.
func (e *Engine) relabel(rec Record) {
	ctx, cancel := context.WithTimeout(e.life, relabelTime)
	defer cancel()
	if err := e.rt.Relabel(ctx, rec.ID, e.cfg.Store.labels(rec)); err != nil {
		e.log.Warn("containerd has an older copy of a container's record", "operation", "recover", "container", rec.Name, "err", err)
	}
}

// relabelTime is how long a change waits for containerd to have its copy.
const relabelTime = 5 * time.Second

// sparedLosses puts into the set the containers whose record is noted as lost: what is
// left of them is kept for as long as the note is.
func (e *Engine) sparedLosses(set map[string]bool) {
	lines, _ := e.lost()
	for _, line := range lines {
		if _, rest, ok := strings.Cut(line, " container "); ok {
			id, _, _ := strings.Cut(rest, ":")
			set[id] = true
		}
	}
}
