package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/internal/crashpoint"
)

// Update gives the container other limits, those that are not zero, or another restart
// policy, the one that has a name. They hold at once where it runs, and for every later
// start. A limit of processes that is not positive is none.
func (e *Engine) Update(ctx context.Context, ref string, req container.UpdateConfig) (container.UpdateResponse, error) {
	out := container.UpdateResponse{Warnings: []string{}}
	if err := refuseUpdate(req.Resources); err != nil {
		return out, err
	}
	c, err := e.registry.find(ref)
	if err != nil {
		return out, err
	}
	if err := c.lock(ctx); err != nil {
		return out, err
	}
	defer c.lifecycle.Unlock()
	rec := c.record()
	if c.isGone() || rec.State.Removing {
		return out, fmt.Errorf("Container is marked for removal and cannot be \"update\".: %w", errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	host, err := updated(*rec.HostConfig, req)
	if err != nil {
		return out, err
	}
	warnings, err := e.fitLimits(&host)
	if err != nil {
		return out, err
	}
	out.Warnings = append(out.Warnings, warnings...)
	s, err := oci.Spec(oci.Container{ID: rec.ID, Config: rec.Config, HostConfig: &host, Args: rec.args()})
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	limits := *s.Linux.Resources
	limits.Devices = nil // they are not changed
	if p := host.PidsLimit; p != nil && *p <= 0 {
		limits.Pids = &specs.LinuxPids{Limit: new(int64(-1))}
	}
	if rec.State.Running && limitsChange(req.Resources) {
		if err := e.rt.UpdateTask(ctx, c.id, &limits); err != nil {
			return out, fmt.Errorf("Cannot update container %s: %w", c.id, ended(err)) //nolint:staticcheck // Docker's words
		}
	}
	crashpoint.Here("engine-update-applied")
	rec.HostConfig = &host
	if err := e.cfg.Store.Put(c.id, rec); err != nil {
		return out, fmt.Errorf("Cannot update container %s: %w", c.id, err) //nolint:staticcheck // Docker's words
	}
	rec = c.update(func(r *Record) { r.HostConfig = &host })
	e.relabel(rec)
	e.emitContainer(rec, apievents.ActionUpdate)
	if rec.State.Restarting && !again(host.RestartPolicy, rec.State.ExitCode, rec.State.RestartCount-1) {
		return out, e.giveUp(c)
	}
	return out, nil
}

// limitsChange says whether any limit is asked for.
func limitsChange(r container.Resources) bool {
	return r.CPUShares != 0 || r.Memory != 0 || r.NanoCPUs != 0 || r.BlkioWeight != 0 || r.CPUPeriod != 0 || r.CPUQuota != 0 ||
		r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 || r.CpusetCpus != "" || r.CpusetMems != "" ||
		r.MemoryReservation != 0 || r.MemorySwap != 0 || r.PidsLimit != nil
}

// refuseUpdate turns down, by its name, what cannot be changed once a container is
// made.
func refuseUpdate(r container.Resources) error {
	for _, x := range []struct {
		name  string
		asked bool
	}{
		{"CgroupParent", r.CgroupParent != ""},
		{"BlkioWeightDevice", len(r.BlkioWeightDevice) > 0},
		{"BlkioDevice*", len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0},
		{"Devices", len(r.Devices) > 0},
		{"DeviceCgroupRules", len(r.DeviceCgroupRules) > 0},
		{"DeviceRequests", len(r.DeviceRequests) > 0},
		{"MemorySwappiness", r.MemorySwappiness != nil},
		{"OomKillDisable", r.OomKillDisable != nil && *r.OomKillDisable},
		{"Ulimits", len(r.Ulimits) > 0},
		{"CpuCount, CpuPercent or IOMaximum*", r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0},
	} {
		if x.asked {
			return fmt.Errorf("%s of a container cannot be changed: make the container anew with it: %w", x.name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// updated is the configuration with what is asked for.
func updated(h container.HostConfig, req container.UpdateConfig) (container.HostConfig, error) {
	r := req.Resources
	if err := contradicts(h.Resources, r); err != nil {
		return h, err
	}
	for _, x := range []struct{ to, from *int64 }{
		{&h.CPUShares, &r.CPUShares},
		{&h.NanoCPUs, &r.NanoCPUs},
		{&h.CPUPeriod, &r.CPUPeriod},
		{&h.CPUQuota, &r.CPUQuota},
		{&h.CPURealtimePeriod, &r.CPURealtimePeriod},
		{&h.CPURealtimeRuntime, &r.CPURealtimeRuntime},
		{&h.Memory, &r.Memory},
		{&h.MemoryReservation, &r.MemoryReservation},
		{&h.MemorySwap, &r.MemorySwap},
	} {
		if *x.from != 0 {
			*x.to = *x.from
		}
	}
	if r.BlkioWeight != 0 {
		h.BlkioWeight = r.BlkioWeight
	}
	if r.CpusetCpus != "" {
		h.CpusetCpus = r.CpusetCpus
	}
	if r.CpusetMems != "" {
		h.CpusetMems = r.CpusetMems
	}
	if r.PidsLimit != nil {
		limit := *r.PidsLimit
		h.PidsLimit = &limit
	}
	if p := req.RestartPolicy; p.Name != "" {
		if err := checkPolicy(p, false); err != nil {
			return h, err
		}
		if h.AutoRemove && !p.IsNone() {
			return h, fmt.Errorf("Restart policy cannot be updated because AutoRemove is enabled for the container: %w", errdefs.ErrInvalidArgument)
		}
		h.RestartPolicy = p
	}
	return h, nil
}

// contradicts turns down limits that cannot be together with those there are. The
// words are Docker's.
func contradicts(has, asked container.Resources) error {
	var text string
	switch {
	case asked.NanoCPUs > 0 && has.CPUPeriod > 0:
		text = "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
	case asked.NanoCPUs > 0 && has.CPUQuota > 0:
		text = "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
	case asked.CPUPeriod > 0 && has.NanoCPUs > 0:
		text = "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
	case asked.CPUQuota > 0 && has.NanoCPUs > 0:
		text = "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
	case asked.Memory > 0 && asked.MemorySwap == 0 && has.MemorySwap > 0 && asked.Memory > has.MemorySwap:
		text = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
	default:
		return nil
	}
	return fmt.Errorf("%s: %w", text, errdefs.ErrInvalidArgument)
}
