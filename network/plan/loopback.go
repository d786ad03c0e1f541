package plan

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
)

// Redirect has the host's own processes reach the bindings on loopback without a
// proxy, and those of Former no more.
type Redirect struct {
	Bindings, Former []spec.PortBinding
}

// Commands implements Step.
func (s Redirect) Commands() []string {
	var out []string
	for _, b := range s.Former {
		if !slices.Contains(s.Bindings, b) {
			out = append(out, fmt.Sprintf("# the cgroup hooks lead connections to loopback %s %s nowhere", b.Proto, b.Host))
		}
	}
	for _, b := range s.Bindings {
		if !slices.Contains(s.Former, b) {
			out = append(out, fmt.Sprintf("# the cgroup hooks lead connections to loopback %s %s to %s", b.Proto, b.Host, b.Container))
		}
	}
	return out
}

// Reason implements Step.
func (Redirect) Reason() string {
	return "with no proxy, loopback is redirected before there is a packet"
}

// redirect is the step from one set of bindings to another, none where loopback is
// the proxy's or nobody's.
func (c Config) redirect(former, bindings []spec.PortBinding) []Step {
	s := Redirect{Bindings: c.OnLoopback(bindings), Former: c.OnLoopback(former)}
	if slices.Equal(s.Bindings, s.Former) {
		return nil
	}
	return []Step{s}
}

// OnLoopback are the bindings that hooks serve on loopback: those on a loopback
// address, and on every address.
func (c Config) OnLoopback(bindings []spec.PortBinding) []spec.PortBinding {
	var out []spec.PortBinding
	for _, b := range bindings {
		host := b.Host.Addr()
		hooked := b.Proto == spec.TCP || b.Proto == spec.UDP
		if !c.UserlandProxy && c.NoLoopback == "" && hooked && b.Translatable() && (host.IsLoopback() || host.IsUnspecified()) {
			out = append(out, b)
		}
	}
	return out
}
