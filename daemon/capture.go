package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/capture"
	"github.com/fairlead/fairlead/capture/pcapng"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// mostCaptures is how many there may be at once: each has some MiB of memory.
const mostCaptures = 32

// captures take packets of containers, networks and the host: api.Captures.
type captures struct {
	*daemon
	running atomic.Int32
}

// target is where packets are taken.
type target struct {
	// what it is, in words.
	what string
	// path is of the namespace, "" for the host's; container is the ID of whose it is.
	path, container string
	// names are the interfaces where none were asked for.
	names []string
	// bridge: what is for others is wanted too.
	bridge bool
	// lookup gives the addresses of a container's name.
	lookup func(name string) []netip.Addr
	// describe tells of an interface.
	describe func(name string) string
}

// OpenCapture begins to take packets.
func (c *captures) OpenCapture(ctx context.Context, r api.CaptureRequest) (api.Capture, error) {
	t, err := c.target(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	names, err := t.choose(r.Interfaces)
	if err != nil {
		return nil, err
	}
	if c.running.Add(1) > mostCaptures {
		c.running.Add(-1)
		return nil, fmt.Errorf("%d captures are under way, which is the most there may be: end one: %w", mostCaptures, errdefs.ErrResourceExhausted)
	}
	known := c.addressNames()
	t.lookup = func(name string) (out []netip.Addr) {
		for _, n := range known {
			if n.Name == name {
				out = append(out, n.Address)
			}
		}
		return out
	}
	s := &capture.Session{
		Section: pcapng.Section{OS: "Linux", Application: "Fairlead " + c.build.Version, Comment: "packets of " + t.what},
		Names:   known, Count: r.Count,
		Gone: func(name string) string { return c.gone(t, name) },
	}
	for _, name := range names {
		tap, err := t.tap(name, r)
		if err != nil {
			for _, t := range s.Taps {
				err = errors.Join(err, t.Source.Close())
			}
			c.running.Add(-1)
			return nil, err
		}
		s.Taps = append(s.Taps, tap)
	}
	c.log.Info("capturing", "target", t.what, "interfaces", names, "filter", r.Filter)
	return &captureRun{captures: c, Session: s, target: t}, nil
}

// captureRun is a capture that has begun.
type captureRun struct {
	*captures
	*capture.Session
	target target
}

// Run also ends with the container: its namespace lives as long as it is captured in.
func (r *captureRun) Run(ctx context.Context, w io.Writer, flush func() error) error {
	defer r.running.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.target.container != "" {
		exited, err := r.engine.Wait(ctx, r.target.container, container.WaitConditionNotRunning)
		if err != nil {
			cancel() // it was removed meanwhile
		} else {
			go func() {
				<-exited
				cancel()
			}()
		}
	}
	err := r.Session.Run(ctx, w, flush)
	about := []any{"target", r.target.what}
	if err != nil {
		about = append(about, "err", err)
	}
	r.log.Info("capture ended", about...)
	return err
}

// target finds what is meant: a container, a network, or the host.
func (c *captures) target(ctx context.Context, ref string) (target, error) {
	if ref == "host" {
		return c.hostTarget()
	}
	in, err := c.engine.Inspect(ctx, ref, false)
	switch {
	case err == nil:
		return c.containerTarget(ctx, in)
	case !errdefs.IsNotFound(err):
		return target{}, err
	}
	n, err := c.network.Network(ref)
	if errdefs.IsNotFound(err) {
		return target{}, fmt.Errorf("there is no container or network %s: %w", ref, errdefs.ErrNotFound)
	}
	if err != nil {
		return target{}, err
	}
	if n.Bridge == "" {
		return target{}, fmt.Errorf("network %s has no bridge; capture on a container, or on host: %w", n.Name, errdefs.ErrFailedPrecondition)
	}
	return target{
		what: "network " + n.Name, names: []string{n.Bridge}, bridge: true,
		describe: func(string) string { return "bridge of network " + n.Name },
	}, nil
}

func (c *captures) hostTarget() (target, error) {
	links, err := c.network.HostLinks()
	if err != nil {
		return target{}, err
	}
	t := target{what: "the host", describe: func(string) string { return "interface of the host" }}
	bridges := make(map[string]bool)
	for _, n := range c.network.Networks() {
		bridges[n.Bridge] = !n.Foreign
	}
	for _, l := range links.Uplinks(func(name string) bool { return bridges[name] }) {
		t.names = append(t.names, l.Name)
	}
	return t, nil
}

func (c *captures) containerTarget(ctx context.Context, in container.InspectResponse) (target, error) {
	name := in.Name[min(1, len(in.Name)):]
	if in.State == nil || !in.State.Running {
		return target{}, fmt.Errorf("container %s is not running: start it first: %w", name, errdefs.ErrFailedPrecondition)
	}
	mode := in.HostConfig.NetworkMode
	if mode.IsHost() {
		return target{}, fmt.Errorf("container %s uses the host's network: capture on host: %w", name, errdefs.ErrFailedPrecondition)
	}
	owner := in.ID
	if mode.IsContainer() {
		other, err := c.engine.Inspect(ctx, mode.ConnectedContainer(), false)
		if err == nil {
			owner = other.ID
		}
	}
	t := target{what: "container " + name, path: in.NetworkSettings.SandboxKey, container: in.ID}
	networks := make(map[string]string)
	if a, ok := c.network.Attachment(owner); ok {
		for _, e := range a.Endpoints {
			networks[e.Interface] = e.Network
		}
	}
	t.describe = func(iface string) string {
		if n := networks[iface]; n != "" {
			return "container " + name + " on network " + n
		}
		return "container " + name
	}
	links, err := linksIn(t.path)
	for _, l := range links {
		if l.Name != "lo" && l.Up {
			t.names = append(t.names, l.Name)
		}
	}
	if err == nil && len(t.names) == 0 {
		t.names = []string{"lo"} // all that there is
	}
	return t, err
}

// choose settles which interfaces are meant.
func (t target) choose(asked []string) ([]string, error) {
	names := slices.Clone(asked)
	if len(names) == 0 {
		if len(t.names) == 0 {
			return nil, fmt.Errorf("%s has no interface that is up; name one with -i: %w", t.what, errdefs.ErrFailedPrecondition)
		}
		return t.names, nil
	}
	links, err := linksIn(t.path)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, l := range links {
		have = append(have, l.Name)
	}
	if slices.Contains(names, "any") {
		return have, nil
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			return nil, fmt.Errorf("%s has no interface %s; it has %v: %w", t.what, name, have, errdefs.ErrNotFound)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func linksIn(path string) (out []link.Link, err error) {
	var ns *os.File
	if path != "" {
		if ns, err = netns.Open(path); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, ns.Close()) }()
	}
	h, err := link.Open(ns)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return h.Links()
}

// addressNames are the containers' names, and what the networks' gateways are called.
func (c *captures) addressNames() []pcapng.Name {
	var names []pcapng.Name
	for _, a := range c.network.Attachments() {
		for _, e := range a.Endpoints {
			for _, p := range e.Addrs() {
				names = append(names, pcapng.Name{Address: p.Addr(), Name: a.Sandbox.Name})
			}
		}
	}
	for _, n := range c.network.Networks() {
		for _, s := range n.Subnets {
			if s.BridgeAddr.IsValid() || s.Gateway.IsValid() {
				address := s.Gateway
				if s.BridgeAddr.IsValid() {
					address = s.BridgeAddr
				}
				names = append(names, pcapng.Name{Address: address, Name: "gateway." + n.Name})
			}
		}
	}
	slices.SortFunc(names, func(a, b pcapng.Name) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Name, b.Name))
	})
	return slices.CompactFunc(names, func(a, b pcapng.Name) bool { return a.Address == b.Address })
}

// gone says why an interface is.
func (c *captures) gone(t target, name string) string {
	if t.container != "" {
		in, err := c.engine.Inspect(context.Background(), t.container, false)
		if err != nil || in.State == nil || !in.State.Running {
			return t.what + " stopped"
		}
		return t.what + " was taken off the network of its interface " + name
	}
	return "interface " + name + " of " + t.what + " is gone"
}
