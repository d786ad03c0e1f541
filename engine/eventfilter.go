package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
)

// eventFilter makes one test of Docker's filters of events. An unknown one is refused.
func eventFilter(filters map[string][]string) (func(apievents.Message) bool, error) {
	var tests []func(apievents.Message) bool
	for key, values := range filters {
		if len(values) == 0 {
			continue
		}
		test, err := oneEventFilter(key, values)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	return func(m apievents.Message) bool {
		return !slices.ContainsFunc(tests, func(t func(apievents.Message) bool) bool { return !t(m) })
	}, nil
}

func oneEventFilter(key string, values []string) (func(apievents.Message) bool, error) {
	switch key {
	case "type":
		return func(m apievents.Message) bool { return slices.Contains(values, string(m.Type)) }, nil
	case "scope":
		return func(m apievents.Message) bool { return slices.Contains(values, m.Scope) }, nil
	case "event":
		return actionFilter(values), nil
	case "label":
		return func(m apievents.Message) bool { return labelsMatch(m.Actor.Attributes, values) }, nil
	case "image":
		return func(m apievents.Message) bool { return ofImage(m, values) }, nil
	case "container", "daemon", "network", "plugin", "volume", "service", "node", "secret", "config":
		// The start of an ID or a name will do, as in Docker; only things of the kind
		// are meant.
		kind := apievents.Type(key)
		return func(m apievents.Message) bool {
			return m.Type == kind && (startsWithAny(m.Actor.ID, values) || startsWithAny(m.Actor.Attributes["name"], values))
		}, nil
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// actionFilter matches actions whole, but for those that have more after them: where
// one of them is asked for, the start of each will do, as in Docker.
func actionFilter(values []string) func(apievents.Message) bool {
	long := slices.ContainsFunc(values, func(v string) bool {
		return slices.Contains([]apievents.Action{apievents.ActionHealthStatus, apievents.ActionExecCreate, apievents.ActionExecStart}, apievents.Action(v))
	})
	return func(m apievents.Message) bool {
		if long {
			return startsWithAny(string(m.Action), values)
		}
		return slices.Contains(values, string(m.Action))
	}
}

// ofImage says whether the message is of one of the images, or of a container of one,
// by ID or name, with its tag or without.
func ofImage(m apievents.Message, values []string) bool {
	name := m.Actor.Attributes["image"]
	if m.Type == apievents.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	for _, known := range []string{m.Actor.ID, name, untagged(m.Actor.ID), untagged(name)} {
		if known != "" && slices.Contains(values, known) {
			return true
		}
	}
	return false
}

// untagged is an image's name without tag and digest.
func untagged(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name
}

func startsWithAny(text string, starts []string) bool {
	return slices.ContainsFunc(starts, func(s string) bool { return strings.HasPrefix(text, s) })
}
