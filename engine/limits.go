package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/oci"
)

// cgroups is where the control groups' controllers are mounted.
const cgroups = "/sys/fs/cgroup"

// fitLimits takes off what the kernel cannot do, as Docker does, with a warning; and
// refuses what it lacks and cannot be done without. It looks at the machine for what is
// asked for alone.
func (e *Engine) fitLimits(h *container.HostConfig) (warnings []string, err error) {
	discard := func(what string) { warnings = append(warnings, what+" discarded.") }
	has := func(file string) bool {
		_, err := os.Stat(filepath.Join(cgroups, file))
		return err == nil
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness != -1 && (e.unified || !has("memory/memory.swappiness")) {
		discard("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness")
		h.MemorySwappiness = nil
	}
	if h.OomKillDisable != nil && *h.OomKillDisable {
		switch {
		case e.unified:
			discard("Your kernel does not support OomKillDisable. OomKillDisable")
			h.OomKillDisable = nil
		case h.Memory == 0:
			warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
		}
	}
	if h.Memory > 0 && !e.unified && !has("memory/memory.memsw.limit_in_bytes") {
		warnings = append(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		h.MemorySwap = -1
	}
	if (h.BlkioWeight != 0 || len(h.BlkioWeightDevice) > 0) && !e.unified && !has("blkio/blkio.weight") && !has("blkio/blkio.bfq.weight") {
		discard("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight")
		h.BlkioWeight, h.BlkioWeightDevice = 0, nil
	}
	if err := e.checkRealtime(h); err != nil {
		return warnings, err
	}
	for _, set := range []struct{ what, asked, online string }{
		{"CPUs", h.CpusetCpus, "/sys/devices/system/cpu/online"},
		{"memory nodes", h.CpusetMems, "/sys/devices/system/node/online"},
	} {
		if err := checkOnline(set.what, set.asked, set.online); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

// checkOnline refuses processors or memory that the machine does not have.
func checkOnline(what, asked, file string) error {
	if asked == "" {
		return nil
	}
	want, err := oci.ParseSet(asked)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil //nolint:nilerr // a machine that does not say so is asked by the runtime
	}
	text := strings.TrimSpace(string(raw))
	have, err := oci.ParseSet(text)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for n := range want {
		if !have[n] {
			return fmt.Errorf("Requested %s are not available - requested %s, available: %s: %w", what, asked, text, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
		}
	}
	return nil
}

// checkRealtime: time of the processor that is kept for a container is taken from its
// parent's, which has none unless it was given some.
func (e *Engine) checkRealtime(h *container.HostConfig) error {
	if h.CPURealtimePeriod == 0 && h.CPURealtimeRuntime == 0 {
		return nil
	}
	const file = "cpu.rt_runtime_us"
	if _, err := os.Stat(filepath.Join(cgroups, "cpu", file)); err != nil {
		return fmt.Errorf("--cpu-rt-period, --cpu-rt-runtime (HostConfig.CpuRealtime*): Your kernel does not support CPU real-time scheduler: %w", errdefs.ErrInvalidArgument)
	}
	parent := filepath.Join(cgroups, "cpu", filepath.Dir(oci.CgroupsPath(e.cfg.atRun(h), "id")), file)
	raw, err := os.ReadFile(parent)
	budget, parseErr := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil || parseErr != nil || budget < h.CPURealtimeRuntime {
		return fmt.Errorf("--cpu-rt-runtime %d (HostConfig.CpuRealtimeRuntime): the parent control group has %d µs to give; make it and write more to %s: %w",
			h.CPURealtimeRuntime, budget, parent, errdefs.ErrInvalidArgument)
	}
	return nil
}
