package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
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
	// Filters are Docker's: ancestor, before, exited, expose, id, label, name,
	// network, publish, since, status.
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
		out = append(out, e.summary(r))
	}
	return out, nil
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
		tests = append(tests, func(r Record) bool { return r.State.Running })
	}
	return func(r Record) bool {
		return !slices.ContainsFunc(tests, func(t func(Record) bool) bool { return !t(r) })
	}, nil
}

func (e *Engine) oneFilter(ctx context.Context, key string, values []string) (func(Record) bool, error) {
	any := func(test func(Record, string) bool) func(Record) bool {
		return func(r Record) bool {
			return slices.ContainsFunc(values, func(v string) bool { return test(r, v) })
		}
	}
	switch key {
	case "id":
		return any(func(r Record, v string) bool { return strings.HasPrefix(r.ID, v) }), nil
	case "name":
		match, err := patterns(key, values)
		return func(r Record) bool { return match(r.Name) || match("/"+r.Name) }, err
	case "label":
		return func(r Record) bool { return labelsMatch(r.Config.Labels, values) }, nil
	case "status":
		for _, v := range values {
			if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
				return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
			}
		}
		return any(func(r Record, v string) bool { return string(r.State.Status()) == v }), nil
	case "exited":
		for _, v := range values {
			if _, err := strconv.Atoi(v); err != nil {
				return nil, fmt.Errorf("invalid filter 'exited=%s': %w", v, errdefs.ErrInvalidArgument)
			}
		}
		return any(func(r Record, v string) bool {
			return r.State.Status() == container.StateExited && strconv.Itoa(r.State.ExitCode) == v
		}), nil
	case "network":
		return any(func(r Record, v string) bool {
			for name, s := range e.endpoints(r) {
				if name == v || (s.NetworkID != "" && strings.HasPrefix(s.NetworkID, v)) {
					return true
				}
			}
			return false
		}), nil
	case "ancestor":
		ids := make(map[string]bool)
		for _, v := range values {
			if img, err := e.images.Get(ctx, v); err == nil {
				ids[img.ID.String()] = true
			}
		}
		return func(r Record) bool { return ids[r.ImageID] }, nil
	case "before", "since":
		var limit []time.Time
		for _, v := range values {
			c, err := e.registry.find(v)
			if err != nil {
				return nil, err
			}
			limit = append(limit, c.record().Created)
		}
		return func(r Record) bool {
			return !slices.ContainsFunc(limit, func(t time.Time) bool { return r.Created.Equal(t) || r.Created.Before(t) != (key == "before") })
		}, nil
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// labelsMatch: every filter must hold, KEY or KEY=VALUE.
func labelsMatch(labels map[string]string, filters []string) bool {
	for _, f := range filters {
		key, value, given := strings.Cut(f, "=")
		have, ok := labels[key]
		if !ok || (given && have != value) {
			return false
		}
	}
	return true
}

func (e *Engine) summary(r Record) container.Summary {
	out := container.Summary{
		ID: r.ID, Names: append([]string{"/" + r.Name}, e.linkNames(r.ID)...), Image: imageTag(r), ImageID: r.ImageID,
		Command: commandLine(r.args()), Created: r.Created.Unix(), Ports: e.portSummaries(r),
		Labels: r.Config.Labels, State: r.State.Status(), Status: statusText(r.State, time.Now()),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: e.endpoints(r)},
		Mounts:          mountPoints(r),
	}
	out.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
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

func statusText(s State, now time.Time) string {
	switch s.Status() {
	case container.StateRunning:
		return "Up " + units.HumanDuration(now.Sub(s.StartedAt))
	case container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
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
