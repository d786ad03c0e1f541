package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// endpoints reads --network and what goes with it: the mode, which is the first
// network's name, and the settings of every network named.
func (f *createFlags) endpoints() (string, map[string]*network.EndpointSettings, error) {
	values := f.networks
	if len(values) == 0 {
		values = []string{network.NetworkDefault}
	}
	mode := ""
	endpoints := map[string]*network.EndpointSettings{}
	for i, value := range values {
		name, settings, err := parseNetwork(value)
		if err != nil {
			return "", nil, fmt.Errorf("invalid --network %q: %w", value, err)
		}
		if i == 0 {
			mode = name
			if err := f.firstEndpoint(name, settings); err != nil {
				return "", nil, err
			}
		}
		if container.NetworkMode(name).IsContainer() {
			if len(values) > 1 {
				return "", nil, fmt.Errorf("--network %s excludes any other network", name)
			}
			if reflect.ValueOf(*settings).IsZero() {
				return mode, nil, nil
			}
			endpoints[name] = settings // for the daemon to say why not
			return mode, endpoints, nil
		}
		if _, twice := endpoints[name]; twice {
			return "", nil, fmt.Errorf("--network %s is there twice", name)
		}
		endpoints[name] = settings
	}
	return mode, endpoints, nil
}

// firstEndpoint applies the flags that speak of one network, the first.
func (f *createFlags) firstEndpoint(name string, settings *network.EndpointSettings) error {
	settings.Aliases = slices.Concat(settings.Aliases, f.aliases)
	if container.NetworkMode(name).IsUserDefined() {
		settings.Links = slices.Concat(settings.Links, f.links) // elsewhere HostConfig has them
	}
	for _, flag := range []struct {
		key    string
		values []string
	}{{"ip", one(f.ip)}, {"ip6", one(f.ip6)}, {"mac-address", one(f.mac)}, {"link-local-ip", f.linkLocal}} {
		for _, value := range flag.values {
			if err := setEndpoint(settings, flag.key, value); err != nil {
				return fmt.Errorf("invalid --%s %q: %w", flag.key, value, err)
			}
		}
	}
	return nil
}

// parseNetwork reads a name, or name=NAME,KEY=VALUE,….
func parseNetwork(value string) (string, *network.EndpointSettings, error) {
	settings := &network.EndpointSettings{}
	if !strings.Contains(value, "=") {
		if value == "" {
			return "", nil, errors.New("the name is empty")
		}
		return value, settings, nil
	}
	name := ""
	fields, err := csvFields(value)
	if err != nil {
		return "", nil, err
	}
	for _, field := range fields {
		key, val, found := strings.Cut(field, "=")
		if !found {
			return "", nil, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		if key == "name" {
			name = val
			continue
		}
		if err := setEndpoint(settings, key, val); err != nil {
			return "", nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if name == "" {
		return "", nil, errors.New("name= is missing")
	}
	return name, settings, nil
}

// setEndpoint sets one key of an endpoint's settings.
func setEndpoint(settings *network.EndpointSettings, key, value string) error {
	ipam := func() *network.EndpointIPAMConfig {
		if settings.IPAMConfig == nil {
			settings.IPAMConfig = &network.EndpointIPAMConfig{}
		}
		return settings.IPAMConfig
	}
	switch key {
	case "alias":
		settings.Aliases = append(settings.Aliases, value)
	case "ip":
		addr, err := netip.ParseAddr(value)
		if err != nil || !addr.Is4() {
			return errors.New("want an IPv4 address")
		}
		ipam().IPv4Address = addr
	case "ip6":
		addr, err := netip.ParseAddr(value)
		if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" {
			return errors.New("want an IPv6 address")
		}
		ipam().IPv6Address = addr
	case "mac-address":
		mac, err := net.ParseMAC(value)
		if err != nil || len(mac) != 6 {
			return errors.New("want six bytes, as 02:42:ac:11:00:02")
		}
		settings.MacAddress = network.HardwareAddr(mac)
	case "link-local-ip":
		addr, err := netip.ParseAddr(value)
		if err != nil || !addr.IsLinkLocalUnicast() || addr.Zone() != "" {
			return errors.New("want an address of 169.254.0.0/16 or fe80::/10")
		}
		ipam().LinkLocalIPs = append(ipam().LinkLocalIPs, addr)
	case "gw-priority":
		n, err := strconv.Atoi(value)
		if err != nil {
			return errors.New("want a number")
		}
		settings.GwPriority = n
	case "driver-opt":
		name, val, found := strings.Cut(value, "=")
		if !found || name == "" {
			return errors.New("want KEY=VALUE")
		}
		if settings.DriverOpts == nil {
			settings.DriverOpts = map[string]string{}
		}
		settings.DriverOpts[name] = val
	default:
		return errors.New("unknown key: want name, alias, ip, ip6, link-local-ip, mac-address, driver-opt or gw-priority")
	}
	return nil
}
