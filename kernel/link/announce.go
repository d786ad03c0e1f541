package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Announce tells everybody on the bridge that the addresses are at the MAC now, for
// whom remembers them elsewhere: else what is sent goes to the former owner until
// neighbour discovery notices, some eight seconds (RFC 4861, section 7.3). The host's
// own memory is cleared; to the ports goes a gratuitous ARP request (RFC 5227), or an
// unsolicited advertisement with the override flag (RFC 4861, section 7.2.6), for each
// address. It works in the calling thread's namespace.
func (h *Handle) Announce(bridge string, mac net.HardwareAddr, addrs []netip.Addr) error {
	if len(mac) != 6 {
		return fmt.Errorf("announce MAC %s: %w", mac, unix.EINVAL)
	}
	index, err := h.index(bridge)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // which hears nothing
	if err != nil {
		return fmt.Errorf("announce on %s: %w", bridge, err)
	}
	var errs []error
	for _, a := range addrs {
		forget := change{fmt.Sprintf("forget neighbour %s of %s", a, bridge), delNeighbour(index, a)}
		errs = append(errs, absentOK(ignore(h.apply(forget), unix.ENOENT)))
		frame := advertisement(mac, a)
		if a.Is4() {
			frame = gratuitous(mac, a)
		}
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Protocol: binary.NativeEndian.Uint16(frame[12:])}); err != nil {
			errs = append(errs, fmt.Errorf("announce %s on %s: %w", a, bridge, err))
		}
	}
	return errors.Join(append(errs, unix.Close(fd))...)
}

func ignore(err error, errno unix.Errno) error {
	if errors.Is(err, errno) {
		return nil
	}
	return err
}

// delNeighbour is the RTM_DELNEIGH of an address, with a struct ndmsg.
func delNeighbour(index int, a netip.Addr) *request {
	family := byte(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	r := &request{typ: unix.RTM_DELNEIGH, body: []byte{family, 0, 0, 0}}
	r.body = binary.NativeEndian.AppendUint32(r.body, uint32(index))
	r.body = append(r.body, 0, 0, 0, 0) // state, flags, type
	return r.attr(unix.NDA_DST, a.AsSlice())
}

// gratuitous is an ARP request for one's own address (RFC 826).
func gratuitous(mac net.HardwareAddr, a netip.Addr) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	f = append(f, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	f = append(append(f, mac...), a.AsSlice()...)
	return append(append(f, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
}

// advertisement is an unsolicited neighbour advertisement to all nodes.
func advertisement(mac net.HardwareAddr, a netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::1").As16()
	icmp := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // override
	icmp = append(icmp, a.AsSlice()...)
	icmp = append(append(icmp, 2, 1), mac...) // target's link-layer address
	// RFC 8200, section 8.1: the sum covers a pseudo-header.
	pseudo := append(a.AsSlice(), all[:]...)
	pseudo = append(pseudo, 0, 0, 0, byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(pseudo, icmp...)))
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255)
	f = append(append(f, a.AsSlice()...), all[:]...)
	return append(f, icmp...)
}

// checksum is the Internet's (RFC 1071), of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
