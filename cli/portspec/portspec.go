// Package portspec reads what a person types after -p and --expose, in Docker's
// syntax, into the values of the Engine API.
//
// It is pure: text in, values or an error out. Whether a port is free, or an
// address is the host's own, is for the daemon to say.
package portspec

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// portRange is first to last, both included, both from 1 to 65535.
type portRange struct{ first, last uint16 }

func (r portRange) len() int { return int(r.last-r.first) + 1 }

func (r portRange) String() string {
	if r.first == r.last {
		return strconv.Itoa(int(r.first))
	}
	return fmt.Sprintf("%d-%d", r.first, r.last)
}

// publish is one parsed -p value.
type publish struct {
	hostIP    netip.Addr
	host      portRange // the zero value leaves the choice to the daemon
	container portRange
	proto     network.IPProtocol
}

// Publish reads the values of -p and returns the bindings they ask for, and the
// container ports among them, which a published port always is. The syntax is
//
//	[[HOSTIP:][HOSTPORT[-END]]:]PORT[-END][/tcp|udp|sctp]
//	published=HOSTPORT,target=PORT[,protocol=tcp|udp|sctp][,host_ip=HOSTIP]
//
// with an IPv6 HOSTIP in brackets. A range of host ports needs a range of
// container ports of the same length, or a single one: then the daemon takes
// the first free port of the range. No host port, or 0, is any free one.
func Publish(values []string) (network.PortMap, network.PortSet, error) {
	bindings := network.PortMap{}
	exposed := network.PortSet{}
	for _, value := range values {
		p, err := parsePublish(value)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid -p %q: %w", value, err)
		}
		p.add(bindings, exposed)
	}
	return bindings, exposed, nil
}

// Expose reads the values of --expose, PORT[-END][/tcp|udp|sctp].
func Expose(values []string) (network.PortSet, error) {
	exposed := network.PortSet{}
	for _, value := range values {
		if strings.Contains(value, ":") {
			return nil, fmt.Errorf("invalid --expose %q: it takes container ports alone; publish with -p", value)
		}
		ports, proto, err := parseContainer(value)
		if err != nil {
			return nil, fmt.Errorf("invalid --expose %q: %w", value, err)
		}
		for i := range ports.len() {
			port, _ := network.PortFrom(ports.first+uint16(i), proto)
			exposed[port] = struct{}{}
		}
	}
	return exposed, nil
}

// add writes one binding a container port.
func (p publish) add(bindings network.PortMap, exposed network.PortSet) {
	for i := range p.container.len() {
		port, _ := network.PortFrom(p.container.first+uint16(i), p.proto)
		hostPort := ""
		switch {
		case p.host == portRange{}:
		case p.container.len() == 1:
			hostPort = p.host.String()
		default:
			hostPort = strconv.Itoa(int(p.host.first) + i)
		}
		exposed[port] = struct{}{}
		bindings[port] = append(bindings[port], network.PortBinding{HostIP: p.hostIP, HostPort: hostPort})
	}
}

func parsePublish(value string) (publish, error) {
	if strings.Contains(value, "=") {
		return parseLong(value)
	}
	hostIP, host, container, err := split(value)
	if err != nil {
		return publish{}, err
	}
	return build(hostIP, host, container)
}

// split cuts [[HOSTIP:][HOSTPORT]:]PORT from the right, so that an IPv6 address
// may also stand without its brackets, as Docker takes it.
func split(value string) (hostIP, host, container string, err error) {
	if strings.HasPrefix(value, "[") {
		addr, rest, found := strings.Cut(value[1:], "]:")
		if !found {
			return "", "", "", errors.New("an address in brackets is followed by a colon, as in [::1]:8080:80")
		}
		host, container, found = strings.Cut(rest, ":")
		if !found {
			return "", "", "", errors.New("a host address needs a host port or an empty one, as in [::1]:8080:80 or [::1]::80")
		}
		if addr == "" {
			return "", "", "", errors.New("the brackets are empty")
		}
		return addr, host, container, nil
	}
	i := strings.LastIndex(value, ":")
	if i < 0 {
		return "", "", value, nil
	}
	rest := value[:i]
	container = value[i+1:]
	if i = strings.LastIndex(rest, ":"); i < 0 {
		if addr, err := netip.ParseAddr(rest); err == nil {
			return "", "", "", fmt.Errorf("a host address needs a host port or an empty one, as in %s::%s", addr, container)
		}
		return "", rest, container, nil
	}
	return rest[:i], rest[i+1:], container, nil
}

// parseLong reads the comma-separated form.
func parseLong(value string) (publish, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(value, ",") {
		key, val, found := strings.Cut(field, "=")
		if !found {
			return publish{}, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		switch key {
		case "published", "target", "protocol", "host_ip":
		default:
			return publish{}, fmt.Errorf("unknown key %q: want published, target, protocol or host_ip", key)
		}
		if _, twice := fields[key]; twice {
			return publish{}, fmt.Errorf("%s is there twice", key)
		}
		fields[key] = val
	}
	container := fields["target"]
	if proto, ok := fields["protocol"]; ok {
		container += "/" + proto
	}
	hostIP := strings.TrimSuffix(strings.TrimPrefix(fields["host_ip"], "["), "]")
	return build(hostIP, fields["published"], container)
}

func build(hostIP, host, container string) (publish, error) {
	var p publish
	var err error
	if p.container, p.proto, err = parseContainer(container); err != nil {
		return publish{}, err
	}
	if hostIP != "" {
		if p.hostIP, err = netip.ParseAddr(hostIP); err != nil {
			return publish{}, fmt.Errorf("%q is not an IP address of the host", hostIP)
		}
		if p.hostIP.Zone() != "" {
			return publish{}, fmt.Errorf("a zone (%%%s) cannot be published on", p.hostIP.Zone())
		}
	}
	if host == "" {
		return p, nil
	}
	if p.host, err = parseRange("host", host); err != nil {
		return publish{}, err
	}
	if p.container.len() != 1 && p.container.len() != p.host.len() {
		return publish{}, fmt.Errorf("%d host ports (%s) for %d container ports (%s): the ranges must be of one length",
			p.host.len(), p.host, p.container.len(), p.container)
	}
	if p.host.first == 0 && p.host.last != 0 {
		return publish{}, fmt.Errorf("host port range %s begins with 0: want 1 to 65535", p.host)
	}
	return p, nil
}

func parseContainer(s string) (portRange, network.IPProtocol, error) {
	ports, proto, hasProto := strings.Cut(s, "/")
	protocol := network.TCP
	if hasProto {
		switch protocol = network.IPProtocol(strings.ToLower(proto)); protocol {
		case network.TCP, network.UDP, network.SCTP:
		default:
			return portRange{}, "", fmt.Errorf("unknown protocol %q: want tcp, udp or sctp", proto)
		}
	}
	if ports == "" {
		return portRange{}, "", errors.New("no container port")
	}
	r, err := parseRange("container", ports)
	return r, protocol, err
}

func parseRange(side, s string) (portRange, error) {
	from, to, isRange := strings.Cut(s, "-")
	first, err := parsePort(side, from)
	if err != nil {
		return portRange{}, err
	}
	if !isRange {
		return portRange{first, first}, nil
	}
	last, err := parsePort(side, to)
	if err != nil {
		return portRange{}, err
	}
	if last < first {
		return portRange{}, fmt.Errorf("%s port range %s ends before it starts", side, s)
	}
	return portRange{first, last}, nil
}

func parsePort(side, s string) (uint16, error) {
	// Not ParseUint alone: it takes "+80".
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%s port %q is not a number", side, s)
		}
	}
	if s == "" {
		return 0, fmt.Errorf("%s port is empty", side)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s port %s is out of range: want 1 to 65535", side, s)
	case n == 0 && side != "host":
		return 0, fmt.Errorf("%s port 0 is out of range: want 1 to 65535", side)
	}
	return uint16(n), nil
}
