package engine

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/internal/wellformed"
	"github.com/fairlead/fairlead/network/spec"
)

// decideNetwork checks what the request says of networks and puts it into the
// record: the mode, the links, and the settings of each endpoint.
func (e *Engine) decideNetwork(rec *Record, nc *network.NetworkingConfig) error {
	h := rec.HostConfig
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = spec.DefaultNetwork
	}
	if rec.Config.NetworkDisabled {
		h.NetworkMode = network.NetworkNone
	}
	published, err := publish(rec.Config, h)
	if err != nil {
		return err
	}
	if nc == nil {
		nc = &network.NetworkingConfig{}
	}
	if err := e.decideEndpoints(rec, nc.EndpointsConfig); err != nil {
		return err
	}
	if err := e.decideLinks(rec); err != nil {
		return err
	}
	if !rec.ownNetwork() || h.NetworkMode.IsNone() {
		return e.checkOther(rec)
	}
	for name, s := range rec.Endpoints {
		if err := checkEndpointLinks(name, s); err != nil {
			return err
		}
	}
	_, err = e.attachRequest(*rec, published)
	return err
}

// decideEndpoints puts the endpoints into the record by their networks' names,
// that of the mode among them.
func (e *Engine) decideEndpoints(rec *Record, asked map[string]*network.EndpointSettings) error {
	mode := rec.HostConfig.NetworkMode
	rec.Endpoints = make(map[string]*network.EndpointSettings)
	for ref, settings := range asked {
		name := ref
		if name == network.NetworkDefault {
			name = spec.DefaultNetwork
		}
		if n, err := e.cfg.Network.Network(name); err == nil {
			name = n.Name
		}
		if _, twice := rec.Endpoints[name]; twice {
			return fmt.Errorf("network %s is named twice: %w", name, errdefs.ErrInvalidArgument)
		}
		rec.Endpoints[name] = wanted(settings)
	}
	if len(rec.Endpoints) > 0 && (mode.IsHost() || mode.IsNone() || mode.IsContainer()) {
		if len(rec.Endpoints) > 1 || rec.Endpoints[string(mode)] == nil {
			return fmt.Errorf("container cannot be connected to network endpoints in network mode %s: %w", mode, errdefs.ErrInvalidArgument)
		}
		if err := checkNoEndpoint(mode, rec.Endpoints[string(mode)]); err != nil {
			return err
		}
	}
	for _, name := range pseudo {
		if _, there := rec.Endpoints[name]; there && string(mode) != name {
			return noSecondNetwork(name)
		}
	}
	if mode.IsContainer() {
		rec.Endpoints = make(map[string]*network.EndpointSettings)
		return nil
	}
	first := string(mode)
	if n, err := e.cfg.Network.Network(first); err == nil && !slices.Contains(pseudo, first) {
		if first != n.ID {
			rec.HostConfig.NetworkMode = container.NetworkMode(n.Name) // it may have been the start of an ID
		}
		first = n.Name
	}
	if _, there := rec.Endpoints[first]; !there {
		rec.Endpoints[first] = &network.EndpointSettings{}
	}
	return nil
}

// checkNoEndpoint refuses settings of an endpoint in a mode that has none, where
// Docker has words for it in those.
func checkNoEndpoint(mode container.NetworkMode, s *network.EndpointSettings) error {
	ipam := s.IPAMConfig
	if ipam == nil {
		ipam = &network.EndpointIPAMConfig{}
	}
	var why string
	switch {
	case ipam.IPv4Address.IsValid() || ipam.IPv6Address.IsValid():
		why = "user specified IP address is supported on user defined networks only"
	case len(ipam.LinkLocalIPs) > 0:
		why = "link-local IP addresses are supported on networks only"
	case len(s.Aliases) > 0:
		why = "network-scoped alias is supported only for containers in user defined networks"
	case len(s.Links) > 0:
		why = "links are only supported for user-defined networks"
	case len(s.MacAddress) > 0:
		why = "conflicting options: mac-address and the network mode"
	case len(s.DriverOpts) > 0:
		why = "conflicting options: driver-opt and the network mode"
	case s.GwPriority != 0:
		why = "conflicting options: gw-priority and the network mode"
	default:
		return nil
	}
	return fmt.Errorf("invalid endpoint settings for network mode %s: %s: %w", mode, why, errdefs.ErrInvalidArgument)
}

// wanted is a copy of what was asked for, without what only an endpoint that is
// there has: clients send back what inspect told them.
func wanted(s *network.EndpointSettings) *network.EndpointSettings {
	if s == nil {
		return &network.EndpointSettings{}
	}
	c := s.Copy()
	return &network.EndpointSettings{
		IPAMConfig: c.IPAMConfig, Links: c.Links, Aliases: c.Aliases, DriverOpts: c.DriverOpts,
		GwPriority: c.GwPriority, MacAddress: c.MacAddress,
	}
}

// checkOther checks the container that the network is shared with.
func (e *Engine) checkOther(rec *Record) error {
	m := rec.HostConfig.NetworkMode
	if !m.IsContainer() {
		return nil
	}
	other, err := e.registry.find(m.ConnectedContainer())
	if err != nil {
		return err
	}
	// By ID, so that it stays the same container when names change.
	rec.HostConfig.NetworkMode = container.NetworkMode("container:" + other.id)
	return nil
}

// attachRequest is what the network is asked for when the container starts. It
// fails for a network that is not there, and for settings that are not
// supported.
func (e *Engine) attachRequest(rec Record, published []spec.PortRequest) (spec.AttachRequest, error) {
	req := spec.AttachRequest{ID: rec.ID, Name: rec.Name, Ports: published, Sysctls: networkSysctls(rec.HostConfig.Sysctls)}
	var err error
	if req.DNS, err = e.resolver(rec); err != nil {
		return req, err
	}
	for _, name := range e.order(rec) {
		n, err := e.recorded(name)
		if err != nil {
			return req, err
		}
		endpoint, err := e.endpointRequest(rec, n, rec.Endpoints[name])
		if err != nil {
			return req, err
		}
		req.Endpoints = append(req.Endpoints, endpoint)
	}
	return req, nil
}

// order is that of the container's networks: the one of the mode gives eth0, the
// others follow by name. A container that is on none joins that of the mode.
func (e *Engine) order(rec Record) []string {
	mode := string(rec.HostConfig.NetworkMode)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(rec.Endpoints)), func(name string) bool { return slices.Contains(pseudo, name) })
	switch i := slices.IndexFunc(names, func(name string) bool { return name == mode || e.sameNetwork(name, mode) }); {
	case i > 0:
		first := names[i]
		names = slices.Insert(slices.Delete(names, i, i+1), 0, first)
	case len(names) == 0 && !rec.HostConfig.NetworkMode.IsNone():
		names = []string{mode}
	}
	return names
}

// recorded finds a network that a record names. A name there is whole: the start of
// an ID, as a person may type, would lead to another network once the one of the
// name has gone.
func (e *Engine) recorded(name string) (spec.Network, error) {
	n, err := e.cfg.Network.Network(name)
	if errdefs.IsNotFound(err) && name == spec.DefaultNetwork {
		return n, fmt.Errorf("network %s not found: the daemon has no default network (--bridge none); choose another by --network: %w", name, errdefs.ErrNotFound)
	}
	if err == nil && n.Name != name && n.ID != name {
		return spec.Network{}, fmt.Errorf("network %s not found: %w", name, errdefs.ErrNotFound)
	}
	return n, err
}

func (e *Engine) sameNetwork(a, b string) bool {
	x, err := e.cfg.Network.Network(a)
	if err != nil {
		return false
	}
	y, err := e.cfg.Network.Network(b)
	return err == nil && x.ID == y.ID
}

// endpointRequest turns one endpoint's settings into what the network is asked
// for. All that can be refused without knowing who else is on it, is.
func (e *Engine) endpointRequest(rec Record, n spec.Network, s *network.EndpointSettings) (spec.EndpointRequest, error) {
	req := spec.EndpointRequest{Network: n.ID}
	if n.Default {
		req.Links = e.links(rec)
	} else {
		req.Names = endpointNames(rec, nil)
	}
	if s == nil {
		return req, nil
	}
	if err := checkSettings(n, s); err != nil {
		return req, fmt.Errorf("invalid endpoint settings for network %s: %w: %w", n.Name, err, errdefs.ErrInvalidArgument)
	}
	if c := s.IPAMConfig; c != nil {
		req.Addr4, req.Addr6, req.LinkLocal = c.IPv4Address, c.IPv6Address, c.LinkLocalIPs
	}
	if len(s.MacAddress) > 0 {
		req.MAC = spec.HardwareAddr(s.MacAddress)
	}
	req.GwPriority = s.GwPriority
	if !n.Default {
		req.Aliases, req.Names = s.Aliases, endpointNames(rec, s.Aliases)
		req.Links = e.endpointLinks(s)
	}
	if err := driverOptions(&req, s.DriverOpts); err != nil {
		return req, fmt.Errorf("invalid endpoint settings for network %s: %w: %w", n.Name, err, errdefs.ErrInvalidArgument)
	}
	return req, nil
}

// endpointNames are the names of an endpoint on an own network, in Docker's order:
// the first is what the address is called.
func endpointNames(rec Record, aliases []string) []string {
	var out []string
	for _, name := range slices.Concat([]string{rec.Name}, aliases, []string{short(rec.ID), rec.Config.Hostname}) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// checkSettings checks one endpoint's settings by themselves and against its
// network.
func checkSettings(n spec.Network, s *network.EndpointSettings) error {
	for _, alias := range s.Aliases {
		if err := wellformed.HostName(alias); err != nil {
			return fmt.Errorf("alias %w", err)
		}
		if err := dns.CheckAlias(alias); err != nil {
			return err
		}
	}
	if len(s.MacAddress) > 0 && len(s.MacAddress) != 6 {
		return fmt.Errorf("invalid MAC address %s: want six bytes", s.MacAddress)
	}
	c := s.IPAMConfig
	if c == nil {
		c = &network.EndpointIPAMConfig{}
	}
	switch v4, v6 := c.IPv4Address, c.IPv6Address; {
	case n.Default && (v4.IsValid() || v6.IsValid()):
		return errors.New("user specified IP address is supported on user defined networks only")
	case n.Default && len(s.Aliases) > 0:
		return errors.New("network-scoped alias is supported only for containers in user defined networks")
	case n.Default && len(s.Links) > 0:
		return errors.New("links are only supported for user-defined networks; on the default one they are HostConfig.Links (--link)")
	case v4.IsValid() && (!v4.Is4() || v4.IsUnspecified()):
		return fmt.Errorf("invalid IPv4 address: %s", v4)
	case v6.IsValid() && (!v6.Is6() || v6.Is4In6() || v6.Zone() != "" || v6.IsUnspecified()):
		return fmt.Errorf("invalid IPv6 address: %s", v6)
	}
	for _, addr := range []netip.Addr{c.IPv4Address, c.IPv6Address} {
		in := func(s spec.Subnet) bool { return s.Prefix.Contains(addr) }
		if addr.IsValid() && !slices.ContainsFunc(n.Subnets, in) {
			return fmt.Errorf("no configured subnet contains IP address %s", addr)
		}
	}
	for _, addr := range c.LinkLocalIPs {
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || !addr.IsLinkLocalUnicast() {
			return fmt.Errorf("invalid link-local IP address: %s: want one of 169.254.0.0/16 or fe80::/10", addr)
		}
	}
	return nil
}

// resolver is what the container's resolver is told: servers and the number of
// dots are the user's, or else the daemon's.
func (e *Engine) resolver(rec Record) (spec.DNS, error) {
	out := spec.DNS{Servers: rec.HostConfig.DNS}
	if len(out.Servers) == 0 {
		out.Servers = e.cfg.DNS
	}
	options := rec.HostConfig.DNSOptions
	if len(options) == 0 {
		options = e.cfg.DNSOptions
	}
	for _, option := range options {
		text, found := strings.CutPrefix(option, "ndots:")
		if !found {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return out, fmt.Errorf("invalid number for ndots option: %q: %w", text, errdefs.ErrInvalidArgument)
		}
		out.Ndots = &n
	}
	return out, nil
}

// networkSysctls are those of a network namespace; the others are the kernel's
// own, set by the runtime.
func networkSysctls(all map[string]string) map[string]string {
	return sysctlsWhere(all, func(key string) bool { return strings.HasPrefix(key, "net.") || strings.HasPrefix(key, "net/") })
}

func otherSysctls(all map[string]string) map[string]string {
	return sysctlsWhere(all, func(key string) bool { return !strings.HasPrefix(key, "net.") && !strings.HasPrefix(key, "net/") })
}

func sysctlsWhere(all map[string]string, want func(string) bool) map[string]string {
	var out map[string]string
	for k, v := range all {
		if want(k) {
			if out == nil {
				out = make(map[string]string)
			}
			out[k] = v
		}
	}
	return out
}

// gateways are what host-gateway stands for: the addresses that the daemon was
// told, else the host's on the default network.
func (e *Engine) gateways() []netip.Addr {
	if len(e.cfg.HostGateways) > 0 {
		return e.cfg.HostGateways
	}
	var out []netip.Addr
	for _, n := range e.cfg.Network.Networks() {
		if !n.Default {
			continue
		}
		for _, s := range n.Subnets {
			if a := s.BridgePrefix(); a.IsValid() {
				out = append(out, a.Addr())
			}
		}
	}
	return out
}
