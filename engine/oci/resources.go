package oci

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// minMemory is the least limit that a container starts with, as Docker's.
const minMemory = 6 << 20

// maxPids is PID_MAX_LIMIT of the kernel's include/linux/threads.h.
const maxPids = 4 << 20

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
	if err := errors.Join(checkWeights(r), ulimits(r.Ulimits), checkDevices(h)); err != nil {
		return nil, err
	}
	out := &specs.LinuxResources{
		Memory: memory, CPU: cpu,
		Devices: []specs.LinuxDeviceCgroup{{Allow: h.Privileged, Access: "rwm"}},
	}
	if p := r.PidsLimit; p != nil && *p > maxPids {
		return nil, fmt.Errorf("a limit of %d processes is more than the kernel has numbers for, %d: %w", *p, maxPids, errdefs.ErrInvalidArgument)
	} else if p != nil && *p != 0 {
		out.Pids = &specs.LinuxPids{Limit: p}
	}
	return out, nil
}

func memoryLimit(r container.Resources) (*specs.LinuxMemory, error) {
	switch {
	case r.Memory < 0 || r.MemoryReservation < 0:
		return nil, fmt.Errorf("a memory limit cannot be negative: %w", errdefs.ErrInvalidArgument)
	case r.MemorySwap < -1 || r.MemorySwap == 0 && r.Memory > math.MaxInt64/2:
		return nil, fmt.Errorf("a limit of memory and swap is at most %d, or -1 for none: %w", math.MaxInt64, errdefs.ErrInvalidArgument)
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
	var err error
	if out.Swappiness, err = swappiness(r); err != nil {
		return nil, err
	}
	if out == (specs.LinuxMemory{}) {
		return nil, nil //nolint:nilnil // no limit
	}
	return &out, nil
}

// swappiness is that of the memory control group, in percent; -1 is none asked for.
func swappiness(r container.Resources) (*uint64, error) {
	if r.MemorySwappiness == nil || *r.MemorySwappiness == -1 {
		return nil, nil //nolint:nilnil // none asked for
	}
	n := *r.MemorySwappiness
	if n < 0 || n > 100 {
		return nil, fmt.Errorf("Invalid value: %d, valid memory swappiness range is 0-100: %w", n, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	out := uint64(n)
	return &out, nil
}

func cpuLimit(r container.Resources) (*specs.LinuxCPU, error) {
	if err := checkCPU(r); err != nil {
		return nil, err
	}
	out := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		out.Shares = &shares
	}
	if r.NanoCPUs > 0 {
		p, quota := uint64(period), r.NanoCPUs*period/1e9
		out.Period, out.Quota = &p, &quota
	}
	if r.CPUPeriod > 0 {
		p := uint64(r.CPUPeriod)
		out.Period = &p
	}
	if r.CPUQuota > 0 {
		out.Quota = &r.CPUQuota
	}
	if r.CPURealtimePeriod > 0 {
		p := uint64(r.CPURealtimePeriod)
		out.RealtimePeriod = &p
	}
	if r.CPURealtimeRuntime > 0 {
		out.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if out == (specs.LinuxCPU{}) {
		return nil, nil //nolint:nilnil // no limit
	}
	return &out, nil
}

// maxShares is the kernel's MAX_SHARES.
const maxShares = 1 << 18

// Bounds of the kernel's for a period and a quota, in microseconds.
const (
	minQuota, maxQuota   = 1000, 1<<44 - 1
	minPeriod, maxPeriod = 1000, 1000000
)

func checkCPU(r container.Resources) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	cpus := runtime.NumCPU()
	switch {
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9 || r.NanoCPUs > 0 && r.NanoCPUs*period/1e9 < minQuota:
		return bad("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUShares < 0 || r.CPUShares == 1:
		return bad("the minimum allowed cpu-shares is 2")
	case r.CPUShares > maxShares:
		return bad("the maximum allowed cpu-shares is %d", maxShares)
	case r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0):
		return bad("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set")
	case r.CPUPeriod != 0 && (r.CPUPeriod < minPeriod || r.CPUPeriod > maxPeriod):
		return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > maxQuota:
		return bad("CPU cfs quota can not be larger than %d", maxQuota)
	case r.CPUQuota > 0 && r.CPUQuota < minQuota:
		return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0:
		return bad("a real-time limit of the CPU cannot be negative")
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return bad("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	if _, err := ParseSet(r.CpusetCpus); err != nil {
		return bad("Invalid value %s for cpuset cpus", r.CpusetCpus)
	}
	if _, err := ParseSet(r.CpusetMems); err != nil {
		return bad("Invalid value %s for cpuset mems", r.CpusetMems)
	}
	return nil
}

// ParseSet reads numbers and ranges, as 0-2,4, see cpuset(7); "" is none.
func ParseSet(text string) (map[uint64]bool, error) {
	out := make(map[uint64]bool)
	if text == "" {
		return out, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || to < from {
			return nil, fmt.Errorf("invalid set %q: want numbers and ranges, as 0-2,4: %w", text, errdefs.ErrInvalidArgument)
		}
		for n := from; n <= to; n++ {
			out[n] = true
		}
	}
	return out, nil
}

// blockIO are the limits of the devices that were found, and the weight of all.
func blockIO(c Container) *specs.LinuxBlockIO {
	weight := c.HostConfig.BlkioWeight
	if weight == 0 {
		return c.Devices.BlockIO
	}
	var out specs.LinuxBlockIO
	if c.Devices.BlockIO != nil {
		out = *c.Devices.BlockIO
	}
	out.Weight = &weight
	return &out
}

// checkWeights checks shares of input and output, without looking for the devices.
func checkWeights(r container.Resources) error {
	weights := []uint16{r.BlkioWeight}
	for _, d := range r.BlkioWeightDevice {
		weights = append(weights, d.Weight)
	}
	for _, w := range weights {
		if w != 0 && (w < 10 || w > 1000) {
			return fmt.Errorf("Range of blkio weight is from 10 to 1000: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
		}
	}
	return nil
}

// limitNames are what --ulimit knows, see getrlimit(2).
var limitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// ulimits checks the limits of processes; -1 is without limit.
func ulimits(list []*container.Ulimit) error {
	for _, u := range list {
		switch {
		case u == nil || !slices.Contains(limitNames, u.Name):
			return fmt.Errorf("invalid ulimit type: %v: want one of %s: %w", u, strings.Join(limitNames, ", "), errdefs.ErrInvalidArgument)
		case u.Soft < -1 || u.Hard < -1:
			return fmt.Errorf("ulimit %s: a limit is a number, or -1 for none: %d:%d: %w", u.Name, u.Soft, u.Hard, errdefs.ErrInvalidArgument)
		case u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard):
			return fmt.Errorf("ulimit %s: soft limit must be less than or equal to hard limit: %d > %d: %w", u.Name, u.Soft, u.Hard, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
