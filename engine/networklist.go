package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// NetworkList returns networks by name. Filters are Docker's: dangling, driver,
// id, label, name, scope, type.
func (e *Engine) NetworkList(_ context.Context, filters map[string][]string) ([]network.Inspect, error) {
	all := e.allNetworks()
	for key, values := range filters {
		test, err := networkFilter(key, values)
		if err != nil {
			return nil, err
		}
		if key == "label" {
			all = slices.DeleteFunc(all, func(n network.Inspect) bool { return !labelsMatch(n.Labels, values) })
			continue
		}
		all = slices.DeleteFunc(all, func(n network.Inspect) bool {
			return !slices.ContainsFunc(values, func(v string) bool { return test(n, v) })
		})
	}
	slices.SortFunc(all, func(a, b network.Inspect) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (e *Engine) allNetworks() []network.Inspect {
	out := e.pseudoNetworks()
	for _, n := range e.cfg.Network.Networks() {
		out = append(out, e.describe(n))
	}
	return out
}

func (e *Engine) pseudoNetworks() []network.Inspect {
	var out []network.Inspect
	for _, name := range pseudo {
		out = append(out, network.Inspect{
			Network: network.Network{
				Name: name, ID: e.pseudoID(name), Created: time.Unix(0, 0).UTC(), Scope: "local", Driver: pseudoDriver(name), EnableIPv4: true,
				IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}}, Options: map[string]string{}, Labels: map[string]string{},
			},
			Containers: e.sharing(name),
		})
	}
	return out
}

// sharing are the running containers in one of the pseudo networks.
func (e *Engine) sharing(mode string) map[string]network.EndpointResource {
	out := make(map[string]network.EndpointResource)
	for _, c := range e.registry.all() {
		if r := c.record(); r.State.Running && string(r.HostConfig.NetworkMode) == mode {
			out[r.ID] = network.EndpointResource{Name: r.Name}
		}
	}
	return out
}

// networkFilter is the test of one filter; values that cannot be are refused.
func networkFilter(key string, values []string) (func(network.Inspect, string) bool, error) {
	predefined := func(n network.Inspect) bool { return slices.Contains(pseudo, n.Name) || n.Name == spec.DefaultNetwork }
	switch key {
	case "id":
		match, err := patterns(key, values)
		return func(n network.Inspect, _ string) bool { return match(n.ID) }, err
	case "name":
		match, err := patterns(key, values)
		return func(n network.Inspect, _ string) bool { return match(n.Name) }, err
	case "driver":
		return func(n network.Inspect, v string) bool { return n.Driver == v }, nil
	case "scope":
		return func(n network.Inspect, v string) bool { return n.Scope == v }, nil
	case "type":
		for _, v := range values {
			if v != "builtin" && v != "custom" {
				return nil, fmt.Errorf("invalid filter: 'type'='%s': want builtin or custom: %w", v, errdefs.ErrInvalidArgument)
			}
		}
		return func(n network.Inspect, v string) bool { return (v == "builtin") == predefined(n) }, nil
	case "dangling":
		for _, v := range values {
			if !slices.Contains([]string{"true", "1", "false", "0"}, v) {
				return nil, fmt.Errorf("invalid filter 'dangling=%s': want true or false: %w", v, errdefs.ErrInvalidArgument)
			}
		}
		return func(n network.Inspect, v string) bool {
			unused := len(n.Containers) == 0 && !predefined(n)
			return unused == (v == "true" || v == "1")
		}, nil
	case "label":
		return nil, nil //nolint:nilnil // all labels must match, the caller sees to it
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// NetworkInspect finds a network by name, ID or unique ID prefix.
func (e *Engine) NetworkInspect(_ context.Context, ref string) (network.Inspect, error) {
	pseudoWhere := func(test func(network.Inspect) bool) (network.Inspect, bool) {
		all := e.pseudoNetworks()
		i := slices.IndexFunc(all, test)
		if i < 0 {
			return network.Inspect{}, false
		}
		return all[i], true
	}
	if p, ok := pseudoWhere(func(n network.Inspect) bool { return n.Name == ref || n.ID == ref }); ok {
		return p, nil
	}
	n, err := e.cfg.Network.Network(ref)
	if errdefs.IsNotFound(err) && ref != "" {
		if p, ok := pseudoWhere(func(n network.Inspect) bool { return strings.HasPrefix(n.ID, ref) }); ok {
			return p, nil
		}
		return network.Inspect{}, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	if err != nil {
		return network.Inspect{}, err
	}
	out := e.describe(n)
	out.Status = e.usage(n.ID)
	return out, nil
}

// usage is how many of a network's addresses are taken, and how many are left.
func (e *Engine) usage(id string) *network.Status {
	subnets := network.SubnetStatuses{}
	for _, u := range e.cfg.Network.Usage(id) {
		subnets[u.Prefix] = network.SubnetStatus{IPsInUse: u.InUse, DynamicIPsAvailable: u.Available}
	}
	return &network.Status{IPAM: network.IPAMStatus{Subnets: subnets}}
}

// describe is a network as clients see it, with who is on it.
func (e *Engine) describe(n spec.Network) network.Inspect {
	out := network.Inspect{
		Network: network.Network{
			Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
			EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
			IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
			Options: maps.Clone(n.Options), Labels: maps.Clone(n.Labels),
		},
		Containers: make(map[string]network.EndpointResource),
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if !n.Default {
		out.IPAM.Options = map[string]string{}
	}
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: s.Prefix, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux})
	}
	for _, a := range e.cfg.Network.Attachments() {
		if endpoint, ok := a.Endpoint(n.ID); ok {
			out.Containers[a.Sandbox.ID] = network.EndpointResource{
				Name: a.Sandbox.Name, EndpointID: endpoint.ID, MacAddress: network.HardwareAddr(endpoint.MAC),
				IPv4Address: endpoint.Addr4, IPv6Address: endpoint.Addr6,
			}
		}
	}
	return out
}
