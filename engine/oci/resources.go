package oci

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// minMemory is the least limit that a container starts with, as Docker's.
const minMemory = 6 << 20

// period of the CPU quota in microseconds that --cpus is counted in.
const period = 100000

// resources are the limits, and the devices: none but those that the runtime
// gives to every container, all for a privileged one.
func resources(h *container.HostConfig) (*specs.LinuxResources, error) {
	r := h.Resources
	memory, err := memoryLimit(r)
	if err != nil {
		return nil, err
	}
	cpu, err := cpuLimit(r)
	if err != nil {
		return nil, err
	}
	out := &specs.LinuxResources{
		Memory: memory, CPU: cpu,
		Devices: []specs.LinuxDeviceCgroup{{Allow: h.Privileged, Access: "rwm"}},
	}
	if p := r.PidsLimit; p != nil && *p != 0 {
		out.Pids = &specs.LinuxPids{Limit: p}
	}
	return out, nil
}

func memoryLimit(r container.Resources) (*specs.LinuxMemory, error) {
	switch {
	case r.Memory < 0 || r.MemoryReservation < 0:
		return nil, fmt.Errorf("a memory limit cannot be negative: %w", errdefs.ErrInvalidArgument)
	case r.Memory > 0 && r.Memory < minMemory:
		return nil, fmt.Errorf("Minimum memory limit allowed is 6MB: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return nil, fmt.Errorf("Minimum memory limit can not be less than memory reservation limit: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return nil, fmt.Errorf("Minimum memoryswap limit should be larger than memory limit: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	case r.Memory == 0 && r.MemorySwap > 0:
		return nil, fmt.Errorf("You should always set the Memory limit when using Memoryswap limit: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	var out specs.LinuxMemory
	if r.Memory > 0 {
		out.Limit = &r.Memory
		swap := r.MemorySwap
		if swap == 0 {
			swap = 2 * r.Memory // as Docker: as much swap as memory
		}
		out.Swap = &swap
	}
	if r.MemoryReservation > 0 {
		out.Reservation = &r.MemoryReservation
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		out.DisableOOMKiller = r.OomKillDisable
	}
	if out == (specs.LinuxMemory{}) {
		return nil, nil //nolint:nilnil // no limit
	}
	return &out, nil
}

func cpuLimit(r container.Resources) (*specs.LinuxCPU, error) {
	if r.NanoCPUs < 0 || r.CPUShares < 0 || r.CPUPeriod < 0 {
		return nil, fmt.Errorf("a CPU limit cannot be negative: %w", errdefs.ErrInvalidArgument)
	}
	if r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0) {
		return nil, fmt.Errorf("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	out := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		out.Shares = &shares
	}
	if r.NanoCPUs > 0 {
		p, quota := uint64(period), r.NanoCPUs*period/1e9
		if quota < 1000 { // the kernel's least, 1 ms
			return nil, fmt.Errorf("range of CPUs is from 0.01 to the machine's: %w", errdefs.ErrInvalidArgument)
		}
		out.Period, out.Quota = &p, &quota
	}
	if r.CPUPeriod > 0 {
		p := uint64(r.CPUPeriod)
		out.Period = &p
	}
	if r.CPUQuota > 0 {
		out.Quota = &r.CPUQuota
	}
	if out.Cpus == "" && out.Mems == "" && out.Shares == nil && out.Period == nil && out.Quota == nil {
		return nil, nil //nolint:nilnil // no limit
	}
	return &out, nil
}
