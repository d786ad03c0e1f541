package plan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/netoption"
	"github.com/fairlead/fairlead/network/spec"
)

// The driver options, by Docker's names, and our own.
const (
	OptBridgeName      = "com.docker.network.bridge.name"
	OptMTU             = "com.docker.network.driver.mtu"
	OptMasquerade      = "com.docker.network.bridge.enable_ip_masquerade"
	OptHostBinding     = "com.docker.network.bridge.host_binding_ipv4"
	OptICC             = "com.docker.network.bridge.enable_icc"
	OptInhibitIPv4     = "com.docker.network.bridge.inhibit_ipv4"
	OptGateway4        = "com.docker.network.bridge.gateway_mode_ipv4"
	OptGateway6        = "com.docker.network.bridge.gateway_mode_ipv6"
	OptTrusted         = "com.docker.network.bridge.trusted_host_interfaces"
	OptInterfacePrefix = "com.docker.network.container_iface_prefix"
	OptOutbound4       = "com.docker.network.host_ipv4"
	OptOutbound6       = "com.docker.network.host_ipv6"
	OptIPv4            = "com.docker.network.enable_ipv4"
	OptIPv6            = "com.docker.network.enable_ipv6"
	OptDefaultBridge   = "com.docker.network.bridge.default_bridge"
	OptAntiSpoofing    = spec.OptAntiSpoofing
	OptLimitFlows      = spec.OptLimitFlows
	OptAnnounceCount   = "com.docker.network.advertise_addr_nmsgs"
	OptAnnouncePause   = "com.docker.network.advertise_addr_ms"
)

// LeastMTU6 is the least MTU that the kernel keeps IPv6 on (IPV6_MIN_MTU, RFC 8200).
const LeastMTU6 = 1280

// refused says why a value of an option cannot be.
func refused(key, val string, err error) error {
	return fmt.Errorf("network option %s=%q: %w: %w", key, val, err, errdefs.ErrInvalidArgument)
}

// applyOptions reads the driver options into fields. An option that is unknown, whose
// value is none, or that contradicts the rest of the network is refused by name.
func (s *State) applyOptions(n *spec.Network, req spec.NetworkRequest) error {
	for _, key := range slices.Sorted(maps.Keys(n.Options)) {
		if err := s.applyOption(n, req, key, n.Options[key]); err != nil {
			return refused(key, n.Options[key], err)
		}
	}
	if err := s.checkOptions(n); err != nil {
		return err
	}
	s.applyDefaults(n, req)
	return nil
}

// applyDefaults gives the network the daemon's options that it sets not itself. One
// that would contradict the network, as of a family that it does not have, is not
// meant for it.
func (s *State) applyDefaults(n *spec.Network, req spec.NetworkRequest) {
	for _, key := range slices.Sorted(maps.Keys(s.cfg.NetworkOptions)) {
		if _, own := n.Options[key]; own {
			continue
		}
		val := s.cfg.NetworkOptions[key]
		with := *n
		with.Options = maps.Clone(n.Options)
		if with.Options == nil {
			with.Options = make(map[string]string)
		}
		with.Options[key] = val
		if s.applyOption(&with, req, key, val) == nil && s.checkOptions(&with) == nil {
			*n = with
		}
	}
}

// CheckDefaultOptions refuses options that no network could have by default.
func CheckDefaultOptions(options map[string]string) error {
	s := NewState(Config{UserlandProxy: true})
	for _, key := range slices.Sorted(maps.Keys(options)) {
		val := options[key]
		err := s.applyOption(&spec.Network{IPv4: true, IPv6: true}, spec.NetworkRequest{}, key, val)
		if key == OptBridgeName {
			err = errors.New("every network has a bridge of its own")
		}
		if err != nil {
			return refused(key, val, err)
		}
	}
	return nil
}

func (s *State) applyOption(n *spec.Network, req spec.NetworkRequest, key, val string) (err error) {
	switch key {
	case OptBridgeName:
		n.Bridge, err = val, s.checkBridgeName(val)
	case OptMTU:
		n.MTU, err = parseMTU(val)
	case OptMasquerade:
		n.Masquerade, err = parseBool(val)
	case OptICC:
		n.ICC, err = parseBool(val)
	case OptAntiSpoofing:
		var guarded bool
		guarded, err = parseBool(val)
		n.Spoofing = !guarded
	case OptLimitFlows:
		var limited bool
		limited, err = parseBool(val)
		n.UnlimitedFlows = !limited
	case OptInhibitIPv4:
		n.InhibitIPv4, err = parseBool(val)
	case OptHostBinding:
		n.HostBinding, err = parseAddr(val, true)
		if err == nil && (n.HostBinding.IsMulticast() || n.HostBinding == broadcast) {
			err = errors.New("not an address of a host")
		}
		if n.HostBinding.IsUnspecified() {
			n.HostBinding = netip.Addr{} // every address of both families
		}
	case OptGateway4:
		n.Gateway4, err = parseGatewayMode(val)
	case OptGateway6:
		n.Gateway6, err = parseGatewayMode(val)
	case OptTrusted:
		n.Trusted, err = parseTrusted(val)
	case OptInterfacePrefix:
		n.InterfacePrefix, err = val, checkInterfacePrefix(val)
	case OptOutbound4:
		n.Outbound4, err = parseOutbound(val, true)
	case OptOutbound6:
		n.Outbound6, err = parseOutbound(val, false)
	case OptIPv4:
		if n.IPv4, err = parseBool(val); err == nil && req.IPv4 != nil && *req.IPv4 != n.IPv4 {
			err = fmt.Errorf("the request itself says %v", *req.IPv4)
		}
	case OptIPv6:
		if n.IPv6, err = parseBool(val); err == nil && req.IPv6 && !n.IPv6 {
			err = errors.New("the request itself asks for IPv6")
		}
	case OptDefaultBridge:
		err = fmt.Errorf("only the network %s is the default one", spec.DefaultNetwork)
	case OptAnnounceCount, OptAnnouncePause:
		err = errors.New("addresses are announced by themselves, once, where they have changed hands; leave it out")
	default:
		err = errors.New("this version does not know it; " + netoption.Unknown(key, netoption.Network))
	}
	return err
}

// checkOptions refuses options that contradict each other.
func (s *State) checkOptions(n *spec.Network) error {
	contradicts := func(key, why string) error { return refused(key, n.Options[key], errors.New(why)) }
	for _, f := range []struct {
		on            bool
		family        string
		mode          spec.GatewayMode
		outbound      netip.Addr
		key, hostAddr string
	}{
		{n.IPv4, "IPv4", n.Gateway4, n.Outbound4, OptGateway4, OptOutbound4},
		{n.IPv6, "IPv6", n.Gateway6, n.Outbound6, OptGateway6, OptOutbound6},
	} {
		switch {
		case f.mode != "" && !f.on:
			return contradicts(f.key, "the network has no "+f.family)
		case f.mode == spec.GatewayIsolated && !n.Internal:
			return contradicts(f.key, "only an internal network can be isolated; add --internal")
		case f.mode != "" && f.mode != spec.GatewayNAT && f.mode != spec.GatewayIsolated && n.Internal:
			return contradicts(f.key, "an internal network is reached from nowhere")
		case !f.outbound.IsValid():
		case !f.on:
			return contradicts(f.hostAddr, "the network has no "+f.family)
		case n.Internal:
			return contradicts(f.hostAddr, "an internal network has no way out")
		case !n.Masquerade:
			return contradicts(f.hostAddr, OptMasquerade+" is off, so that packets keep their own address")
		case f.mode == spec.GatewayRouted:
			return contradicts(f.hostAddr, "a routed network keeps its own addresses")
		}
	}
	switch {
	case n.InhibitIPv4 && !n.IPv4:
		return contradicts(OptInhibitIPv4, "the network has no IPv4")
	case n.HostBinding.IsValid() && n.Internal:
		return contradicts(OptHostBinding, "an internal network publishes no ports")
	case n.HostBinding.IsValid() && n.Gateway4 == spec.GatewayRouted:
		return contradicts(OptHostBinding, "a routed network has no ports on the host")
	case n.HostBinding.IsValid() && !n.IPv4 && !s.cfg.UserlandProxy:
		return contradicts(OptHostBinding, "the network has no IPv4 and the userland proxy is off")
	case len(n.Trusted) > 0 && n.Internal:
		return contradicts(OptTrusted, "an internal network is reached from nowhere")
	case n.IPv6 && n.MTU != 0 && n.MTU < LeastMTU6:
		return contradicts(OptMTU, fmt.Sprintf("IPv6 needs %d", LeastMTU6))
	}
	return nil
}

func parseBool(val string) (bool, error) {
	b, err := strconv.ParseBool(val)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return b, nil
}

func parseMTU(val string) (int, error) {
	mtu, err := strconv.Atoi(val)
	// 68 is the least an IPv4 link may have (RFC 791); 65535 the most a veth
	// takes (ETH_MAX_MTU).
	if err != nil || mtu != 0 && (mtu < 68 || mtu > 65535) {
		return 0, errors.New("an MTU is 68 to 65535")
	}
	return mtu, nil
}

func parseAddr(val string, v4 bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(val)
	switch {
	case err != nil:
		return netip.Addr{}, errors.New("not an address")
	case v4 && !a.Is4():
		return netip.Addr{}, errors.New("not an IPv4 address")
	case !v4 && (!a.Is6() || a.Is4In6() || a.Zone() != ""):
		return netip.Addr{}, errors.New("not an IPv6 address")
	}
	return a, nil
}

// parseOutbound reads an address that the host may send under.
func parseOutbound(val string, v4 bool) (netip.Addr, error) {
	a, err := parseAddr(val, v4)
	if err == nil && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == broadcast) {
		err = errors.New("no address that others can answer to")
	}
	return a, err
}

func parseGatewayMode(val string) (spec.GatewayMode, error) {
	modes := []spec.GatewayMode{spec.GatewayNAT, spec.GatewayNATUnprotected, spec.GatewayRouted, spec.GatewayIsolated}
	if mode := spec.GatewayMode(val); slices.Contains(modes, mode) {
		return mode, nil
	}
	return "", fmt.Errorf("want one of %s, %s, %s, %s", modes[0], modes[1], modes[2], modes[3])
}

func parseTrusted(val string) ([]string, error) {
	names := strings.Split(val, ":")
	for i, name := range names {
		if err := CheckInterfaceName(name); err != nil {
			return nil, err
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("%s stands there twice", name)
		}
	}
	return names, nil
}

// checkInterfacePrefix leaves room for an index of three digits in the 15 bytes of a
// name.
func checkInterfacePrefix(prefix string) error {
	if len(prefix) > 12 {
		return errors.New("longer than 12 bytes")
	}
	return CheckInterfaceName(prefix)
}
