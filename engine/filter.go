package engine

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
)

// recordTest is a filter of containers.
type recordTest func(Record) bool

// anyOf is the test that one of the values passes.
func anyOf(values []string, test func(r Record, value string) bool) recordTest {
	return func(r Record) bool {
		return slices.ContainsFunc(values, func(v string) bool { return test(r, v) })
	}
}

// badFilter refuses a filter's value.
func badFilter(key, value string) error {
	return fmt.Errorf("invalid filter '%s=%s': %w", key, value, errdefs.ErrInvalidArgument)
}

// oneFilter is the test of one of Docker's filters of containers, but for publish and
// expose. An unknown one is refused, and a value that cannot be.
func (e *Engine) oneFilter(ctx context.Context, key string, values []string) (recordTest, error) {
	switch key {
	case "id":
		return anyOf(values, func(r Record, v string) bool { return strings.HasPrefix(r.ID, v) }), nil
	case "name":
		match, err := patterns(key, values)
		return func(r Record) bool { return match(r.Name) || match("/"+r.Name) }, err
	case "label":
		return func(r Record) bool { return labelsMatch(r.Config.Labels, values) }, nil
	case "status", "exited", "health":
		return stateFilter(key, values)
	case "is-task", "isolation":
		return foreignFilter(key, values)
	case "network":
		return anyOf(values, e.onNetwork), nil
	case "volume":
		return anyOf(values, mounted), nil
	case "ancestor":
		return e.ancestorFilter(ctx, values)
	case "before", "since":
		return e.orderFilter(key, values)
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// stateFilter is the test of how a container is.
func stateFilter(key string, values []string) (recordTest, error) {
	for _, v := range values {
		var err error
		switch key {
		case "status":
			err = container.ValidateContainerState(container.ContainerState(v))
		case "health":
			err = container.ValidateHealthStatus(container.HealthStatus(v))
		default:
			if _, bad := strconv.Atoi(v); bad != nil {
				return nil, badFilter(key, v)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	return anyOf(values, func(r Record, v string) bool {
		switch key {
		case "status":
			return string(r.State.Status()) == v
		case "health":
			return string(healthOf(r)) == v
		}
		return r.State.Status() == container.StateExited && strconv.Itoa(r.State.ExitCode) == v
	}), nil
}

// foreignFilter is the test of what no container here is: a task of a swarm, or
// isolated as on Windows.
func foreignFilter(key string, values []string) (recordTest, error) {
	answers := map[string]bool{"default": true, "": true, "process": false, "hyperv": false}
	if key == "is-task" {
		answers = map[string]bool{"true": false, "1": false, "false": true, "0": true}
	}
	for _, v := range values {
		if _, known := answers[strings.ToLower(v)]; !known {
			return nil, badFilter(key, v)
		}
	}
	return anyOf(values, func(_ Record, v string) bool { return answers[strings.ToLower(v)] }), nil
}

// onNetwork says whether the container is on the network, by name or the start of an
// ID.
func (e *Engine) onNetwork(r Record, ref string) bool {
	for name, s := range e.endpoints(r) {
		if name == ref || (s.NetworkID != "" && strings.HasPrefix(s.NetworkID, ref)) {
			return true
		}
	}
	return false
}

// mounted says whether something of the name, or at the path, is mounted in the
// container.
func mounted(r Record, what string) bool {
	return slices.ContainsFunc(mountPoints(r), func(m container.MountPoint) bool {
		return what != "" && (m.Destination == what || m.Name == what || (m.Name == "" && m.Source == what))
	})
}

// ancestorFilter is the test that the container's image is one of those named, or
// stands on the layers of one. A name that no image has matches nothing.
func (e *Engine) ancestorFilter(ctx context.Context, values []string) (recordTest, error) {
	var bases [][]digest.Digest
	ids := make(map[string]bool)
	for _, v := range values {
		if img, err := e.images.Get(ctx, v); err == nil {
			ids[img.ID.String()] = true
			if layers := img.Config.RootFS.DiffIDs; len(layers) > 0 {
				bases = append(bases, layers)
			}
		}
	}
	all, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, img := range all {
		layers := img.Config.RootFS.DiffIDs
		if slices.ContainsFunc(bases, func(b []digest.Digest) bool { return len(layers) > len(b) && slices.Equal(layers[:len(b)], b) }) {
			ids[img.ID.String()] = true
		}
	}
	return func(r Record) bool { return ids[r.ImageID] }, nil
}

// orderFilter is the test that the container was made before, or after, all of those
// named.
func (e *Engine) orderFilter(key string, values []string) (recordTest, error) {
	var limits []time.Time
	for _, v := range values {
		c, err := e.registry.find(v)
		if err != nil {
			return nil, err
		}
		limits = append(limits, c.record().Created)
	}
	return func(r Record) bool {
		return !slices.ContainsFunc(limits, func(t time.Time) bool { return r.Created.Equal(t) || r.Created.Before(t) != (key == "before") })
	}, nil
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

// patterns makes one test of a filter's values, which are regular expressions, as
// in Docker: a part of the text will do, ^ and $ tie it down. A value that is no
// expression is refused.
func patterns(key string, values []string) (func(text string) bool, error) {
	var all []*regexp.Regexp
	for _, v := range values {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, fmt.Errorf("invalid filter '%s=%s': %w: %w", key, v, err, errdefs.ErrInvalidArgument)
		}
		all = append(all, re)
	}
	return func(text string) bool {
		return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(text) })
	}, nil
}

// portSpan is the ports that a value of the filters publish and expose names.
type portSpan struct {
	proto       string
	first, last uint16
}

func (s portSpan) has(proto string, port uint16) bool {
	return proto == s.proto && s.first <= port && port <= s.last
}

// portSpans reads PORT and FIRST-LAST, either with /PROTO; without it is TCP.
func portSpans(key string, values []string) ([]portSpan, error) {
	var out []portSpan
	for _, v := range values {
		ports, proto, given := strings.Cut(v, "/")
		proto = strings.ToLower(proto)
		if !given {
			proto = "tcp"
		}
		first, last, ranged := strings.Cut(ports, "-")
		if !ranged {
			last = first
		}
		from, err1 := hostPort(first, v)
		to, err2 := hostPort(last, v)
		if err1 != nil || err2 != nil || to < from || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
			return nil, fmt.Errorf("invalid filter '%s=%s': want PORT, or FIRST-LAST, of 1 to 65535, and /tcp, /udp or /sctp after it: %w", key, v, errdefs.ErrInvalidArgument)
		}
		out = append(out, portSpan{proto, from, to})
	}
	return out, nil
}

// portFilter is the test of the filters publish, of host ports, and expose, of the
// container's own. As in Docker one that passes either passes both, and only those
// that run have ports.
func (e *Engine) portFilter(filters map[string][]string) (func(Record) bool, error) {
	published, err := portSpans("publish", filters["publish"])
	if err != nil {
		return nil, err
	}
	exposed, err := portSpans("expose", filters["expose"])
	if err != nil {
		return nil, err
	}
	return func(r Record) bool {
		return slices.ContainsFunc(e.portSummaries(r), func(p container.PortSummary) bool {
			return slices.ContainsFunc(published, func(s portSpan) bool { return s.has(p.Type, p.PublicPort) }) ||
				slices.ContainsFunc(exposed, func(s portSpan) bool { return s.has(p.Type, p.PrivatePort) })
		})
	}, nil
}
