package format

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// run is a row of neighbouring ports that are shown as one range.
type run struct {
	key         portKey
	first, last uint16
}

// portKey is what ports of one run share. An unpublished port has no address.
type portKey struct {
	ip    netip.Addr
	proto string
}

func (r run) String() string {
	ports := strconv.Itoa(int(r.first))
	if r.first != r.last {
		ports = fmt.Sprintf("%d-%d", r.first, r.last)
	}
	if r.key.ip.IsValid() {
		ports = net.JoinHostPort(r.key.ip.String(), ports) + "->" + ports
	}
	return ports + "/" + r.key.proto
}

// Ports is the PORTS column of ps as Docker shows it: neighbouring ports that
// are exposed alone, or published as themselves, as one range, then the ports
// published under another number:
//
//	22/tcp, 443/tcp, 0.0.0.0:80->80/tcp, [::]:80->80/tcp, 0.0.0.0:8080->90/tcp
//
// A range that was ended by a gap comes before the ranges still open at the end;
// scripts read this order.
func Ports(ports []container.PortSummary) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b container.PortSummary) int {
		return cmp.Or(
			cmp.Compare(a.PrivatePort, b.PrivatePort),
			a.IP.Compare(b.IP),
			cmp.Compare(a.PublicPort, b.PublicPort),
			cmp.Compare(a.Type, b.Type),
		)
	})
	var ended, moved []string
	var open []*run
	for _, p := range ports {
		if p.IP.IsValid() && p.PublicPort != p.PrivatePort {
			host := net.JoinHostPort(p.IP.String(), strconv.Itoa(int(p.PublicPort)))
			moved = append(moved, fmt.Sprintf("%s->%d/%s", host, p.PrivatePort, p.Type))
			continue
		}
		key := portKey{p.IP, p.Type}
		i := slices.IndexFunc(open, func(r *run) bool { return r.key == key })
		switch {
		case i < 0:
			open = append(open, &run{key, p.PrivatePort, p.PrivatePort})
		case p.PrivatePort == open[i].last+1:
			open[i].last = p.PrivatePort
		default:
			ended = append(ended, open[i].String())
			open[i].first, open[i].last = p.PrivatePort, p.PrivatePort
		}
	}
	for _, r := range open {
		ended = append(ended, r.String())
	}
	return strings.Join(append(ended, moved...), ", ")
}
