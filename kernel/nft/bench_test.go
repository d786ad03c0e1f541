package nft_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

func published(ports ...uint16) spec.Attachment {
	var a spec.Attachment
	for _, p := range ports {
		a.Ports = append(a.Ports, spec.PortBinding{
			Proto: spec.TCP, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), p), Container: netip.MustParseAddrPort("172.17.0.2:80"),
		})
	}
	return a
}

func portRange(first, n uint16) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = first + uint16(i)
	}
	return out
}

// BenchmarkAttachment is one attachment's way in and out again, of one port and of
// fifty, alone and beside 5,000 others: the four are to differ by their own ports.
func BenchmarkAttachment(b *testing.B) {
	for _, present := range []uint16{0, 5000} {
		for _, ports := range []uint16{1, 50} {
			b.Run(fmt.Sprintf("ports=%d/present=%d", ports, present), func(b *testing.B) {
				h := newHost(b)
				p := policy()
				p.Owner = true
				p.Members = append(p.Members, firewall.Member{Attachment: published(portRange(20000, present)...)})
				h.apply(b, ruleset.ReplaceTable{Table: firewall.Table(p)})
				a := published(portRange(10000, ports)...)
				b.ReportAllocs()
				for b.Loop() {
					h.apply(b, backend.AddMember(firewall.Member{Attachment: a}).Rules...)
					h.apply(b, backend.RemoveMember(firewall.Member{Attachment: a}).Rules...)
				}
			})
		}
	}
}

// BenchmarkReplaceTable is what a start, or a mend in doubt, costs.
func BenchmarkReplaceTable(b *testing.B) {
	for _, present := range []uint16{0, 5000, 40000} {
		b.Run(fmt.Sprintf("present=%d", present), func(b *testing.B) {
			h := newHost(b)
			p := policy()
			p.Owner = true
			p.Members = append(p.Members, firewall.Member{Attachment: published(portRange(20000, present)...)})
			for b.Loop() {
				h.apply(b, ruleset.ReplaceTable{Table: firewall.Table(p)})
			}
		})
	}
}

// BenchmarkNetwork is one network's way in and out again, alone and beside others.
func BenchmarkNetwork(b *testing.B) {
	for _, present := range []int{0, 500} {
		b.Run(fmt.Sprintf("present=%d", present), func(b *testing.B) {
			h := newHost(b)
			p := firewall.Policy{Table: "fairlead", Owner: true}
			network := func(i int) spec.Network {
				prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
				return spec.Network{Bridge: fmt.Sprintf("br-%d", i), Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: prefix}}}
			}
			for i := range present {
				p.Networks = append(p.Networks, network(i))
			}
			h.apply(b, ruleset.ReplaceTable{Table: firewall.Table(p)})
			n := network(present)
			for b.Loop() {
				h.apply(b, backend.AddNetwork(n).Rules...)
				h.apply(b, backend.RemoveNetwork(n).Rules...)
			}
		})
	}
}
