package link

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// request is one rtnetlink message in the making: the fixed header of its type,
// then attributes (rtnetlink(7)).
type request struct {
	typ, flags uint16
	body       []byte
}

func align(n int) int { return (n + 3) &^ 3 }

func (r *request) encode(seq uint32, flags uint16) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+align(len(r.body)))
	binary.NativeEndian.PutUint32(b, uint32(unix.NLMSG_HDRLEN+len(r.body)))
	binary.NativeEndian.PutUint16(b[4:], r.typ)
	binary.NativeEndian.PutUint16(b[6:], r.flags|flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, r.body...) // the body is always padded
}

// attr appends an attribute.
func (r *request) attr(typ uint16, value []byte) *request {
	r.header(typ, len(value))
	r.body = append(r.body, value...)
	r.pad()
	return r
}

func (r *request) uint32(typ uint16, v uint32) *request {
	return r.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// text appends a string with the zero byte that ends it.
func (r *request) text(typ uint16, s string) *request {
	return r.attr(typ, append([]byte(s), 0))
}

// nest appends an attribute that holds what fill appends.
func (r *request) nest(typ uint16, fill func()) *request {
	start := len(r.body)
	r.header(typ, 0)
	fill()
	binary.NativeEndian.PutUint16(r.body[start:], uint16(len(r.body)-start))
	return r
}

func (r *request) header(typ uint16, size int) {
	r.body = binary.NativeEndian.AppendUint16(r.body, uint16(unix.SizeofRtAttr+size))
	r.body = binary.NativeEndian.AppendUint16(r.body, typ)
}

func (r *request) pad() {
	for len(r.body) != align(len(r.body)) {
		r.body = append(r.body, 0)
	}
}

// ifinfo appends struct ifinfomsg.
func (r *request) ifinfo(index int, flags, change uint32) *request {
	r.body = append(r.body, unix.AF_UNSPEC, 0, 0, 0)
	for _, v := range []uint32{uint32(index), flags, change} {
		r.body = binary.NativeEndian.AppendUint32(r.body, v)
	}
	return r
}

// newLink starts a message about the link of a name.
func newLink(typ, flags uint16, name string, up bool) *request {
	var iff uint32
	if up {
		iff = unix.IFF_UP
	}
	r := &request{typ: typ, flags: flags}
	return r.ifinfo(0, iff, iff).text(unix.IFLA_IFNAME, name)
}

// newAddr is struct ifaddrmsg with the address (`ip addr add`, or del by typ).
func newAddr(typ, flags uint16, index int, p netip.Prefix) *request {
	a := p.Addr()
	family, flag := byte(unix.AF_INET), byte(0)
	if a.Is6() {
		// Duplicate address detection holds an address back for a second or more;
		// addresses here are given out by one hand.
		family, flag = unix.AF_INET6, unix.IFA_F_NODAD
	}
	r := &request{typ: typ, flags: flags}
	r.body = append(r.body, family, byte(p.Bits()), flag, unix.RT_SCOPE_UNIVERSE)
	r.body = binary.NativeEndian.AppendUint32(r.body, uint32(index))
	r.attr(unix.IFA_LOCAL, a.AsSlice()).attr(unix.IFA_ADDRESS, a.AsSlice())
	if a.Is4() && p.Bits() < 31 {
		r.attr(unix.IFA_BROADCAST, broadcast(p).AsSlice())
	}
	return r
}

// broadcast is the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	host := uint32(1)<<(32-p.Bits()) - 1
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|host)))
}

// newRoute is struct rtmsg for a default route through a gateway.
func newRoute(index int, gateway netip.Addr) *request {
	family := byte(unix.AF_INET)
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	r := &request{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE}
	r.body = append(r.body, family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0)
	return r.attr(unix.RTA_GATEWAY, gateway.AsSlice()).uint32(unix.RTA_OIF, uint32(index))
}

// attrs are a message's attributes by type; of several of one type the last.
type attrs map[uint16]value

type value []byte

func parseAttrs(b []byte) attrs {
	all := attrs{}
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		all[binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED] = b[unix.SizeofRtAttr:size]
		b = b[min(align(size), len(b)):]
	}
	return all
}

func (v value) text() string { return strings.TrimRight(string(v), "\x00") }

func (v value) uint32() uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// prefix reads an address with a length beside it; false for what is not IP.
func (v value) prefix(bits int) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(v)
	if !ok {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(a, bits)
	return p, p.IsValid()
}
