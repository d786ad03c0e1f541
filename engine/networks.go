package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// pseudo are the modes that look like networks to clients and are none.
var pseudo = []string{network.NetworkHost, network.NetworkNone}

// pseudoID is the ID of one of them, the same for the life of the data root.
func (e *Engine) pseudoID(name string) string {
	sum := sha256.Sum256([]byte("network " + name + " of " + e.cfg.DataRoot))
	return hex.EncodeToString(sum[:])
}

// NetworkCreate makes a bridge network.
func (e *Engine) NetworkCreate(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	leave, err := e.enter()
	if err != nil {
		return network.CreateResponse{}, err
	}
	defer leave()
	for name, asked := range map[string]bool{
		"Ingress": req.Ingress, "ConfigOnly": req.ConfigOnly,
		"ConfigFrom": req.ConfigFrom != nil && req.ConfigFrom.Network != "", "Attachable": req.Attachable,
		"Scope": req.Scope != "" && req.Scope != "local",
	} {
		if asked {
			return network.CreateResponse{}, fmt.Errorf("network %s: %s is not supported: %w", req.Name, name, errdefs.ErrNotImplemented)
		}
	}
	if slices.Contains(pseudo, req.Name) || req.Name == network.NetworkDefault {
		return network.CreateResponse{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	in := spec.NetworkRequest{
		Name: req.Name, Driver: req.Driver, Internal: req.Internal, IPv4: req.EnableIPv4,
		IPv6: req.EnableIPv6 != nil && *req.EnableIPv6, Labels: req.Labels, Options: req.Options,
	}
	if req.IPAM != nil {
		if d := req.IPAM.Driver; d != "" && d != "default" {
			return network.CreateResponse{}, fmt.Errorf("network %s: IPAM driver %q is not supported: %w", req.Name, d, errdefs.ErrNotImplemented)
		}
		if len(req.IPAM.Options) > 0 {
			return network.CreateResponse{}, fmt.Errorf("network %s: IPAM options are not supported: %w", req.Name, errdefs.ErrNotImplemented)
		}
		for _, c := range req.IPAM.Config {
			if !c.Subnet.IsValid() {
				if c.Gateway.IsValid() || c.IPRange.IsValid() || len(c.AuxAddress) > 0 {
					return network.CreateResponse{}, fmt.Errorf("network %s: a gateway, range or auxiliary address needs its subnet: %w", req.Name, errdefs.ErrInvalidArgument)
				}
				continue
			}
			in.Subnets = append(in.Subnets, spec.Subnet{Prefix: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxAddress})
		}
	}
	n, err := e.cfg.Network.CreateNetwork(ctx, in)
	if err != nil {
		return network.CreateResponse{}, err
	}
	e.log.Info("network created", "network", n.Name, "id", short(n.ID), "bridge", n.Bridge)
	return network.CreateResponse{ID: n.ID}, nil
}

// NetworkList returns networks by name. Filters are Docker's: dangling, driver,
// id, label, name, scope, type.
func (e *Engine) NetworkList(_ context.Context, filters map[string][]string) ([]network.Inspect, error) {
	all := e.allNetworks()
	for key, values := range filters {
		test, err := networkFilter(key)
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
	var out []network.Inspect
	for _, name := range pseudo {
		driver := name
		if name == network.NetworkNone {
			driver = "null"
		}
		out = append(out, network.Inspect{
			Network: network.Network{
				Name: name, ID: e.pseudoID(name), Created: time.Unix(0, 0).UTC(), Scope: "local", Driver: driver, EnableIPv4: true,
				IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}}, Options: map[string]string{}, Labels: map[string]string{},
			},
			Containers: e.sharing(name),
		})
	}
	for _, n := range e.cfg.Network.Networks() {
		out = append(out, e.describe(n))
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

func networkFilter(key string) (func(network.Inspect, string) bool, error) {
	predefined := func(n network.Inspect) bool { return slices.Contains(pseudo, n.Name) || n.Name == spec.DefaultNetwork }
	switch key {
	case "id":
		return func(n network.Inspect, v string) bool { return strings.HasPrefix(n.ID, v) }, nil
	case "name":
		return func(n network.Inspect, v string) bool { return strings.Contains(n.Name, v) }, nil
	case "driver":
		return func(n network.Inspect, v string) bool { return n.Driver == v }, nil
	case "scope":
		return func(n network.Inspect, v string) bool { return n.Scope == v }, nil
	case "type":
		return func(n network.Inspect, v string) bool { return (v == "builtin") == predefined(n) }, nil
	case "dangling":
		return func(n network.Inspect, v string) bool {
			want, err := strconv.ParseBool(v)
			return err == nil && (len(n.Containers) == 0 && !predefined(n)) == want
		}, nil
	case "label":
		return nil, nil //nolint:nilnil // all labels must match, the caller sees to it
	}
	return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
}

// NetworkInspect finds a network by name, ID or unique ID prefix.
func (e *Engine) NetworkInspect(_ context.Context, ref string) (network.Inspect, error) {
	for _, n := range e.allNetworks() {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
	}
	n, err := e.cfg.Network.Network(ref)
	if err != nil {
		if !errdefs.IsNotFound(err) {
			return network.Inspect{}, err
		}
		for _, p := range e.allNetworks()[:len(pseudo)] {
			if ref != "" && strings.HasPrefix(p.ID, ref) {
				return p, nil
			}
		}
		return network.Inspect{}, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return e.describe(n), nil
}

// describe is a network as clients see it, with who is on it.
func (e *Engine) describe(n spec.Network) network.Inspect {
	out := network.Inspect{
		Network: network.Network{
			Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
			EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal,
			IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
			Options: options(n), Labels: maps.Clone(n.Labels),
		},
		Containers: make(map[string]network.EndpointResource),
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
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

// options are the user's and, for the default network, those that Docker shows.
func options(n spec.Network) map[string]string {
	out := maps.Clone(n.Options)
	if out == nil {
		out = make(map[string]string)
	}
	if !n.Default {
		return out
	}
	binding, mtu := "0.0.0.0", n.MTU
	if n.HostBinding.IsValid() {
		binding = n.HostBinding.String()
	}
	if mtu == 0 {
		mtu = 1500
	}
	const prefix = "com.docker.network.bridge."
	for key, value := range map[string]string{
		prefix + "default_bridge":       "true",
		prefix + "enable_icc":           strconv.FormatBool(n.ICC),
		prefix + "enable_ip_masquerade": strconv.FormatBool(n.Masquerade),
		prefix + "host_binding_ipv4":    binding,
		prefix + "name":                 n.Bridge,
		"com.docker.network.driver.mtu": strconv.Itoa(mtu),
	} {
		if _, given := out[key]; !given {
			out[key] = value
		}
	}
	return out
}

// NetworkRemove removes a network that nobody is on.
func (e *Engine) NetworkRemove(ctx context.Context, ref string) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	n, err := e.NetworkInspect(ctx, ref)
	if err != nil {
		return err
	}
	if slices.Contains(pseudo, n.Name) || n.Name == spec.DefaultNetwork {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrPermissionDenied)
	}
	if err := e.cfg.Network.RemoveNetwork(ctx, n.ID); err != nil {
		return err
	}
	e.log.Info("network removed", "network", n.Name, "id", short(n.ID))
	return nil
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }
