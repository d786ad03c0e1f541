package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/oci"
)

// decideNamespaces finds the containers whose namespaces are to be shared, and notes
// them by their IDs: names may change.
func (e *Engine) decideNamespaces(h *container.HostConfig) error {
	if h.IpcMode.IsContainer() {
		other, err := e.registry.find(h.IpcMode.Container())
		if err != nil {
			return err
		}
		if err := lendsIPC(other.record()); err != nil {
			return err
		}
		h.IpcMode = container.IpcMode("container:" + other.id)
	}
	if h.PidMode.IsContainer() {
		other, err := e.registry.find(h.PidMode.Container())
		if err != nil {
			return err
		}
		h.PidMode = container.PidMode("container:" + other.id)
	}
	return nil
}

// lendsIPC says why others cannot share the container's inter-process communication.
func lendsIPC(r Record) error {
	if sharesIPC(r) {
		return nil
	}
	return fmt.Errorf("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container): %w", r.ID, errdefs.ErrInvalidArgument)
}

// sharesIPC says whether others may share the container's inter-process communication.
func sharesIPC(r Record) bool { return r.HostConfig.IpcMode.IsShareable() }

// joinNamespaces fills in what the container shares of others, which must run.
func (e *Engine) joinNamespaces(rec Record, out *oci.Container) error {
	h := rec.HostConfig
	switch {
	case h.IpcMode.IsContainer():
		other, err := e.lender("IPC", h.IpcMode.Container())
		if err != nil {
			return err
		}
		if err := lendsIPC(other); err != nil {
			return err
		}
		out.IPCNamespace, out.Shm = namespacePath(other, "ipc"), e.shmDir(other.ID)
	case sharesIPC(rec):
		out.Shm = e.shmDir(rec.ID)
	}
	if h.PidMode.IsContainer() {
		other, err := e.lender("PID", h.PidMode.Container())
		if err != nil {
			return err
		}
		out.PIDNamespace = namespacePath(other, "pid")
	}
	return nil
}

func (e *Engine) lender(what, id string) (Record, error) {
	other, ok := e.registry.get(id)
	if !ok {
		return Record{}, fmt.Errorf("cannot join %s of container %s: No such container: %s: %w", what, short(id), id, errdefs.ErrConflict)
	}
	rec := other.record()
	if !rec.State.Running || rec.State.PID == 0 {
		return Record{}, fmt.Errorf("cannot join %s of a non running container: %s: %w", what, id, errdefs.ErrConflict)
	}
	return rec, nil
}

func namespacePath(r Record, kind string) string {
	return filepath.Join("/proc", strconv.Itoa(r.State.PID), "ns", kind)
}

func (e *Engine) shmDir(id string) string { return filepath.Join(e.hostMountsDir(id), "shm") }

// mountShm makes the container's /dev/shm on the host, where others can be given it.
func (e *Engine) mountShm(rec Record) error {
	dir := e.shmDir(rec.ID)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var data []string
		for _, o := range oci.ShmOptions(rec.HostConfig) {
			if strings.Contains(o, "=") {
				data = append(data, o)
			}
		}
		err = unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, strings.Join(data, ","))
	}
	if err != nil {
		return fmt.Errorf("make /dev/shm of container %s: %w", rec.Name, err)
	}
	return nil
}
