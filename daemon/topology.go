package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/topology"
)

// views show what the daemon knows of its host: api.Views.
type views struct{ *daemon }

// Topology is the picture of the host's networks, or with a network's name or ID of
// that one.
func (v views) Topology(ctx context.Context, ref string) (topology.Host, error) {
	links, err := v.network.HostLinks()
	if err != nil {
		return topology.Host{}, err
	}
	running, err := v.engine.List(ctx, engine.ListOptions{})
	if err != nil {
		return topology.Host{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		return topology.Host{}, err
	}
	h := drawn(name, links, v.network.Networks(), v.network.Attachments(), running)
	if ref == "" {
		return h, nil
	}
	n, err := v.network.Network(ref)
	if err != nil {
		return topology.Host{}, err
	}
	only, found := h.Only(n.ID)
	if !found { // it was removed just now
		return topology.Host{}, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return only, nil
}

// drawn puts together what is wanted and what the kernel has.
func drawn(name string, links network.HostLinks, nets []spec.Network, attached []spec.Attachment, running []container.Summary) topology.Host {
	h := topology.Host{Name: name, Uplinks: []topology.Uplink{}, Networks: []topology.Network{}, OnHost: []string{}, Apart: []string{}}
	bridges := func(name string) bool {
		return slices.ContainsFunc(nets, func(n spec.Network) bool { return n.Bridge == name && !n.Foreign })
	}
	for _, l := range links.Uplinks(bridges) {
		h.Uplinks = append(h.Uplinks, topology.Uplink{
			Name: l.Name, Kind: l.Kind, Addresses: prefixes(l.Addrs), MTU: l.MTU, Up: l.Running, Default: l.Name == links.Default,
		})
	}
	shared := make(map[string][]string)
	for _, c := range running {
		mode := container.NetworkMode(c.HostConfig.NetworkMode)
		switch {
		case mode.IsHost():
			h.OnHost = append(h.OnHost, nameOf(c))
		case mode.IsNone():
			h.Apart = append(h.Apart, nameOf(c))
		case mode.IsContainer():
			shared[mode.ConnectedContainer()] = append(shared[mode.ConnectedContainer()], nameOf(c))
		}
	}
	slices.Sort(h.OnHost)
	slices.Sort(h.Apart)
	for _, n := range nets {
		h.Networks = append(h.Networks, segment(n, links, attached, shared))
	}
	slices.SortStableFunc(h.Networks, func(a, b topology.Network) int {
		first := func(n topology.Network) int {
			if n.Name == spec.DefaultNetwork {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.Name, b.Name))
	})
	return h
}

func segment(n spec.Network, links network.HostLinks, attached []spec.Attachment, shared map[string][]string) topology.Network {
	bridge, there := links.Find(n.Bridge)
	out := topology.Network{
		ID: n.ID, Name: n.Name, Bridge: n.Bridge, Foreign: n.Foreign, Up: there && bridge.Up,
		Internal: n.Internal, ICC: n.ICC, MTU: cmp.Or(n.MTU, bridge.MTU), Endpoints: []topology.Endpoint{}, Subnets: []topology.Subnet{},
	}
	for _, s := range n.Subnets {
		sub := topology.Subnet{Prefix: s.Prefix.String(), Mode: string(n.Gateway(s.Prefix.Addr().Is4()))}
		if s.Gateway.IsValid() {
			sub.Gateway = s.Gateway.String()
		}
		out.Subnets = append(out.Subnets, sub)
	}
	for _, a := range attached {
		if e, on := a.Endpoint(n.ID); on {
			out.Endpoints = append(out.Endpoints, endpoint(a, e, bridge, links, shared))
		}
	}
	slices.SortFunc(out.Endpoints, func(a, b topology.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func endpoint(a spec.Attachment, e spec.Endpoint, bridge link.Link, links network.HostLinks, shared map[string][]string) topology.Endpoint {
	l, there := links.Find(e.HostIf)
	out := topology.Endpoint{
		Container: a.Sandbox.Name, ID: a.Sandbox.ID, SharedBy: shared[a.Sandbox.ID], Interface: e.Interface, HostInterface: e.HostIf,
		Up: there && l.Running && l.MasterIndex == bridge.Index, MAC: e.MAC.String(), Addresses: prefixes(e.Addrs()),
		Default: e.Gateway4.IsValid() || e.Gateway6.IsValid(), Ports: []string{},
	}
	slices.Sort(out.SharedBy)
	for _, b := range a.Ports {
		if slices.ContainsFunc(e.Addrs(), func(p netip.Prefix) bool { return p.Addr() == b.Container.Addr() }) {
			out.Ports = append(out.Ports, b.String())
		}
	}
	return out
}

// nameOf is the container's own name; others are those that links give it.
func nameOf(c container.Summary) string {
	for _, n := range c.Names {
		if own := strings.TrimPrefix(n, "/"); !strings.Contains(own, "/") {
			return own
		}
	}
	return c.ID
}

// prefixes are in order of their addresses: the kernel's is that of their making, or the
// other way round.
func prefixes(list []netip.Prefix) []string {
	out := make([]string, 0, len(list))
	for _, p := range slices.SortedFunc(slices.Values(list), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }) {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.String())
		}
	}
	return out
}
