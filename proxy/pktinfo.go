package proxy

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// localAddr is the host's address that a datagram came to, from IP_PKTINFO
// (ip(7)) or IPV6_PKTINFO (ipv6(7)); the zero Addr if it cannot be answered
// from, as a multicast group.
func localAddr(oob []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// spec_dst is the local address, also of a broadcast.
			return netip.AddrFrom4([4]byte(m.Data[4:8]))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			if a := netip.AddrFrom16([16]byte(m.Data[:16])); !a.IsMulticast() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// pktinfo is the control message that makes src the source of a datagram; none
// for the zero Addr. zone is the interface of a link-local one.
func pktinfo(src netip.Addr, zone uint32) []byte {
	switch {
	case src.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: src.As4()})
	case src.Is6():
		info := &unix.Inet6Pktinfo{Addr: src.As16()}
		if src.IsLinkLocalUnicast() {
			info.Ifindex = zone
		}
		return unix.PktInfo6(info)
	}
	return nil
}

func fromSockaddr(sa unix.Sockaddr) (ap netip.AddrPort, zone uint32, ok bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), 0, true
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(a, uint16(sa.Port)), sa.ZoneId, true
	}
	return netip.AddrPort{}, 0, false
}

func toSockaddr(ap netip.AddrPort, zone uint32) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}
	}
	return &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port()), ZoneId: zone}
}
