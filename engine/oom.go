package engine

import (
	"os"
	"path/filepath"
	"strings"

	apievents "github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/engine/runtime"
)

// outOfMemory notes, and tells, that the kernel has ended a process of the container
// for want of memory.
func (e *Engine) outOfMemory(id string) {
	c, ok := e.registry.get(id)
	if !ok {
		return
	}
	news := false
	rec := c.update(func(r *Record) {
		// A message that comes after the end has been told by the end already.
		news = r.State.Running
		r.State.OOMKilled = r.State.OOMKilled || news
	})
	if news {
		e.emitContainer(rec, apievents.ActionOOM)
	}
}

// cgroupOf is the container's control group below each hierarchy, see package oci.
func (e *Engine) cgroupOf(rec Record) string {
	return oci.CgroupsPath(e.cfg.atRun(rec.HostConfig), rec.ID)
}

// ranOutOfMemory asks the kernel whether a run that was killed ended for want of
// memory, where containerd has not said so: it may have been away.
func (e *Engine) ranOutOfMemory(rec Record, exit runtime.Exit) bool {
	if rec.State.OOMKilled || exit.Code != 128+int(unix.SIGKILL) {
		return false
	}
	for _, path := range []string{
		filepath.Join("/sys/fs/cgroup/memory", e.cgroupOf(rec), "memory.oom_control"),
		filepath.Join("/sys/fs/cgroup", e.cgroupOf(rec), "memory.events"),
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if count, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
				return count != "0"
			}
		}
	}
	return false
}
