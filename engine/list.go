package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine/image"
)

// ListOptions say which containers to list.
type ListOptions struct {
	// All lists those that do not run too.
	All bool
	// Limit lists the newest so many, running or not; 0 is no limit.
	Limit int
	// Size adds how much each has written, and the size of its image.
	Size bool
	// Filters are Docker's: ancestor, before, exited, expose, health, id, is-task,
	// isolation, label, name, network, publish, since, status, volume.
	Filters map[string][]string
}

// List returns containers, newest first.
func (e *Engine) List(ctx context.Context, opts ListOptions) ([]container.Summary, error) {
	match, err := e.listFilter(ctx, opts)
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, c := range e.registry.all() {
		if r := c.record(); match(r) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	if opts.Limit > 0 && len(records) > opts.Limit {
		records = records[:opts.Limit]
	}
	out := make([]container.Summary, 0, len(records))
	for _, r := range records {
		s := e.summary(r)
		if opts.Size {
			if s.SizeRw, s.SizeRootFs, err = e.sizes(ctx, r); errdefs.IsNotFound(err) {
				continue // it was removed meanwhile
			} else if err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// sizes are what the container has written, and that with its image, in bytes.
func (e *Engine) sizes(ctx context.Context, r Record) (written, total int64, err error) {
	if written, err = e.rt.Usage(ctx, r.ID); err != nil {
		return 0, 0, err
	}
	total = written
	if img, err := e.images.Get(ctx, r.ImageID); err == nil {
		total += img.Size
	}
	return written, total, nil
}

// listFilter makes one test of all options. An unknown filter is refused.
func (e *Engine) listFilter(ctx context.Context, opts ListOptions) (func(Record) bool, error) {
	tests := []func(Record) bool{}
	all := opts.All || opts.Limit > 0
	for key, values := range opts.Filters {
		var test func(Record) bool
		var err error
		switch key {
		case "publish", "expose":
			test, err = e.portFilter(opts.Filters)
		default:
			test, err = e.oneFilter(ctx, key, values)
		}
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
		all = all || key == "status" || key == "exited"
	}
	if !all {
		tests = append(tests, func(r Record) bool { return r.State.Running || r.State.Restarting })
	}
	return func(r Record) bool {
		return !slices.ContainsFunc(tests, func(t func(Record) bool) bool { return !t(r) })
	}, nil
}

func (e *Engine) summary(r Record) container.Summary {
	out := container.Summary{
		ID: r.ID, Names: append([]string{"/" + r.Name}, e.linkNames(r.ID)...), Image: imageTag(r), ImageID: r.ImageID,
		Command: commandLine(r.args()), Created: r.Created.Unix(), Ports: e.portSummaries(r),
		Labels: r.Config.Labels, State: r.State.Status(), Status: statusText(r.State, time.Now()),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: e.endpoints(r)},
		Mounts:          mountPoints(r),
		Health:          &container.HealthSummary{Status: healthOf(r)},
	}
	if r.State.Health != nil {
		out.Health.FailingStreak = r.State.Health.FailingStreak
	}
	out.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
	out.HostConfig.Annotations = r.HostConfig.Annotations
	return out
}

// imageTag is the image as the user called it.
func imageTag(r Record) string {
	if r.Config.Image != "" {
		return r.Config.Image
	}
	return image.Image{Name: r.ImageName}.Tag()
}

// commandLine is the command as one line, with quotes where words have spaces.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if strings.ContainsAny(a, " \t\n") {
			words[i] = "'" + a + "'"
		}
	}
	return strings.Join(words, " ")
}

// healthOf is what the container's health check found, none where it has none.
func healthOf(r Record) container.HealthStatus {
	if r.State.Health == nil || r.State.Health.Status == "" {
		return container.NoHealthcheck
	}
	return r.State.Health.Status
}

func statusText(s State, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status() {
	case container.StateRunning:
		up := "Up " + since(s.StartedAt)
		if s.Health == nil || s.Health.Status == container.NoHealthcheck || s.Health.Status == "" {
			return up
		} else if s.Health.Status == container.Starting {
			return up + " (health: starting)"
		}
		return fmt.Sprintf("%s (%s)", up, s.Health.Status)
	case container.StatePaused:
		return "Up " + since(s.StartedAt) + " (Paused)"
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case container.StateRemoving:
		return "Removal In Progress"
	}
	return "Created"
}

// portSummaries are the published ports of a running container, and the exposed
// ones that are not published.
func (e *Engine) portSummaries(r Record) []container.PortSummary {
	out := []container.PortSummary{}
	if !r.State.Running {
		return out
	}
	a, ok := e.cfg.Network.Attachment(r.ID)
	if !ok || len(a.Endpoints) == 0 {
		return out // the network of the host, of another container, or none
	}
	published := make(map[network.Port]bool)
	for _, b := range a.Ports {
		if b.Routed() {
			continue // it is reached by the container's own address
		}
		if p, ok := network.PortFrom(b.Container.Port(), network.IPProtocol(b.Proto)); ok {
			published[p] = true
		}
		out = append(out, container.PortSummary{
			IP: b.Host.Addr(), PublicPort: b.Host.Port(), PrivatePort: b.Container.Port(), Type: string(b.Proto),
		})
	}
	for p := range r.Config.ExposedPorts {
		if !published[p] {
			out = append(out, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type),
			cmp.Compare(a.PublicPort, b.PublicPort), a.IP.Compare(b.IP))
	})
	return out
}
