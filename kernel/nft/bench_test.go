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

// ranged publishes n ports from first on, each as itself.
func ranged(first, n uint16) firewall.Member {
	var m firewall.Member
	for port := first; port < first+n; port++ {
		m.Ports = append(m.Ports, spec.PortBinding{
			Proto: spec.TCP, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), port),
			Container: netip.AddrPortFrom(netip.MustParseAddr("172.17.0.3"), port),
		})
	}
	return m
}

// BenchmarkRange is one range of ports' way in and out again, beside others: the
// kernel copies an interval map of several fields with each change of it.
func BenchmarkRange(b *testing.B) {
	for _, present := range []uint16{0, 10, 100, 1000} {
		for _, ports := range []uint16{8, 1000} {
			b.Run(fmt.Sprintf("ports=%d/present=%d", ports, present), func(b *testing.B) {
				h := newHost(b)
				p := policy()
				p.Owner = true
				for i := range present {
					p.Members = append(p.Members, ranged(10000+i*20, 10))
				}
				h.apply(b, firewall.Replace(p)...)
				m := ranged(40000, ports)
				for b.Loop() {
					h.apply(b, backend.AddMember(m).Rules...)
					h.apply(b, backend.RemoveMember(m).Rules...)
				}
			})
		}
	}
}
