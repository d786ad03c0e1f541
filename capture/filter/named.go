package filter

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/bpf"
)

// named is what qualifiers say of the name that comes.
func (p *parser) named(q qualifiers) (cond, error) {
	switch q.kind {
	case "port", "portrange":
		return p.ports(q)
	case "proto":
		return p.numbered(q)
	case "net":
		return p.net(q)
	}
	return p.host(q)
}

// either puts a test for the source and one for the destination together.
func either(dir string, src, dst cond) cond {
	switch dir {
	case "src":
		return src
	case "dst":
		return dst
	case "and":
		return and(src, dst)
	}
	return or(src, dst)
}

func (p *parser) host(q qualifiers) (cond, error) {
	t := p.peek()
	p.at++
	if t.kind == mac || q.proto == "ether" {
		return p.station(q, t)
	}
	var found []netip.Addr
	switch t.kind {
	case address, dotted:
		a, err := netip.ParseAddr(t.text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address: write four numbers, or net %s", t.text, t.text)
		}
		found = []netip.Addr{a}
	case number:
		found = []netip.Addr{netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, t.n)))}
	default:
		if p.lookup != nil {
			found = p.lookup(t.text)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no container with an address is called %q: write its address", t.text)
		}
	}
	var conds []cond
	for _, a := range found {
		c, err := p.prefix(q, netip.PrefixFrom(a, a.BitLen()))
		if err != nil && len(found) == 1 {
			return nil, err
		}
		if err == nil {
			conds = append(conds, c)
		}
	}
	if len(conds) == 0 {
		return nil, fmt.Errorf("%q has no address of %s", t.text, q.proto)
	}
	return or(conds...), nil
}

// station is a host by its Ethernet address.
func (p *parser) station(q qualifiers, t token) (cond, error) {
	m, err := net.ParseMAC(t.text)
	switch {
	case q.proto != "ether":
		return nil, fmt.Errorf("%q is an Ethernet address: write ether host %s", t.text, t.text)
	case err != nil || len(m) != 6:
		return nil, fmt.Errorf("%q is no Ethernet address", t.text)
	case p.link != Ethernet:
		return nil, errNoEthernet
	}
	return either(q.dir, hardware(6, [6]byte(m)), hardware(0, [6]byte(m))), nil
}

func (p *parser) net(q qualifiers) (cond, error) {
	t := p.peek()
	p.at++
	var a netip.Addr
	var bits int
	switch t.kind {
	case address:
		a = netip.MustParseAddr(t.text)
		bits = a.BitLen()
	case dotted, number:
		parts := strings.Split(t.text, ".")
		bits = 8 * len(parts)
		var err error
		if a, err = netip.ParseAddr(t.text + strings.Repeat(".0", max(0, 4-len(parts)))); err != nil {
			return nil, fmt.Errorf("%q is no network", t.text)
		}
	default:
		return nil, fmt.Errorf("%q is no network: write its addresses, as 10.0.0.0/8", t.text)
	}
	switch {
	case p.takes("/"):
		n := p.peek()
		if n.kind != number || int64(n.n) > int64(a.BitLen()) {
			return nil, p.unexpected("the length of a prefix")
		}
		p.at++
		bits = int(n.n)
	case a.Is4() && p.takes("mask"):
		m, err := netip.ParseAddr(p.peek().text)
		if err != nil || !m.Is4() {
			return nil, p.unexpected("a mask, as 255.255.0.0")
		}
		p.at++
		mask := net.IPMask(m.AsSlice())
		ones, size := mask.Size()
		if size == 0 {
			return nil, fmt.Errorf("mask %v is not of ones and then zeros", m)
		}
		bits = ones
	}
	pre := netip.PrefixFrom(a, bits)
	if pre.Masked().Addr() != a {
		return nil, fmt.Errorf("%v has bits beyond its mask: write %v", pre, pre.Masked())
	}
	return p.prefix(q, pre)
}

// prefix: an address of the packet is among these.
func (p *parser) prefix(q qualifiers, pre netip.Prefix) (cond, error) {
	if pre.Addr().Is6() {
		if q.proto != "" && q.proto != "ip6" {
			return nil, fmt.Errorf("%v is an address of IPv6, which %s does not have", pre.Addr(), q.proto)
		}
		return and(p.ip6(), either(q.dir, p.among6(ip6Source, pre), p.among6(ip6Destination, pre))), nil
	}
	within := func(off uint32) cond {
		if pre.Bits() == 0 {
			return func(a *assembler, yes, _ label) { a.jump(yes) }
		}
		return field(p.network()+off, 4, all<<(32-pre.Bits()), binary.BigEndian.Uint32(pre.Addr().AsSlice()))
	}
	var conds []cond
	for _, proto := range []string{"ip", "arp", "rarp"} {
		if q.proto != "" && q.proto != proto {
			continue
		}
		src, dst := uint32(ipSource), uint32(ipDestination)
		if proto != "ip" {
			src, dst = 14, 24 // the sender's and the target's address
		}
		conds = append(conds, and(p.above(etherTypes[proto]), either(q.dir, within(src), within(dst))))
	}
	if len(conds) == 0 {
		return nil, fmt.Errorf("%s has no hosts and networks: write ip, ip6, arp, rarp, or nothing before them", q.proto)
	}
	return or(conds...), nil
}

func (p *parser) among6(off uint32, pre netip.Prefix) cond {
	conds := []cond{func(a *assembler, yes, _ label) { a.jump(yes) }}
	raw := pre.Addr().AsSlice()
	for i := 0; i < pre.Bits(); i += 32 {
		mask := uint32(all)
		if left := pre.Bits() - i; left < 32 {
			mask <<= 32 - left
		}
		conds = append(conds, field(p.network()+off+uint32(i/8), 4, mask, binary.BigEndian.Uint32(raw[i/8:])))
	}
	return and(conds...)
}

// withPorts are the protocols that have ports.
var withPorts = []string{"tcp", "udp", "sctp"}

func (p *parser) ports(q qualifiers) (cond, error) {
	low, high, err := p.portNumbers(q.kind)
	if err != nil {
		return nil, err
	}
	var protos []uint32
	for _, name := range withPorts {
		if q.proto == "" || q.proto == name {
			protos = append(protos, above[name].number)
		}
	}
	if len(protos) == 0 {
		return nil, fmt.Errorf("%s has no ports: write tcp, udp, sctp or nothing before port", q.proto)
	}
	among := func(load bpf.Instruction) cond {
		return func(a *assembler, yes, no label) {
			a.emit(load)
			if low == high {
				a.test(bpf.JumpEqual, low, yes, no)
				return
			}
			next := a.label()
			a.test(bpf.JumpGreaterOrEqual, low, next, no)
			a.place(next)
			a.test(bpf.JumpGreaterThan, high, no, yes)
		}
	}
	base := p.network()
	anyOf := func(off uint32) cond {
		var out []cond
		for _, n := range protos {
			out = append(out, field(off, 1, all, n))
		}
		return or(out...)
	}
	v6 := and(p.ip6(), anyOf(base+ip6Next), either(q.dir,
		among(bpf.LoadAbsolute{Off: base + ip6Header, Size: 2}),
		among(bpf.LoadAbsolute{Off: base + ip6Header + 2, Size: 2})))
	v4 := and(p.ip(), anyOf(base+ipProtocol), p.firstFragment(), p.behindHeader(either(q.dir,
		among(bpf.LoadIndirect{Off: base, Size: 2}),
		among(bpf.LoadIndirect{Off: base + 2, Size: 2}))))
	return or(v6, v4), nil
}

// firstFragment: what is above IP begins in this packet.
func (p *parser) firstFragment() cond { return field(p.network()+ipFragment, 2, 0x1fff, 0) }

// behindHeader has the length of the header of IPv4 in register X.
func (p *parser) behindHeader(c cond) cond {
	return func(a *assembler, yes, no label) {
		a.emit(bpf.LoadMemShift{Off: p.network()})
		c(a, yes, no)
	}
}

// services are names of ports. Others are written as numbers.
var services = sync.OnceValue(func() map[string]uint32 {
	return map[string]uint32{
		"ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "dns": 53, "bootps": 67, "bootpc": 68, "tftp": 69,
		"http": 80, "kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "imap2": 143, "imap": 143, "snmp": 161, "bgp": 179, "ldap": 389, "https": 443,
		"syslog": 514, "imaps": 993, "pop3s": 995, "mysql": 3306, "mdns": 5353, "postgresql": 5432, "redis": 6379, "http-alt": 8080,
	}
})

func (p *parser) portNumbers(kind string) (low, high uint32, err error) {
	t := p.peek()
	p.at++
	first, last, ranged := strings.Cut(t.text, "-")
	if _, named := services()[t.text]; kind == "port" || named || !ranged {
		first, last = t.text, t.text
	}
	for i, text := range []string{first, last} {
		n, ok := services()[text]
		if !ok {
			v, err := strconv.ParseUint(text, 0, 16)
			if err != nil {
				return 0, 0, fmt.Errorf("%q is no port: write a number up to 65535", t.text)
			}
			n = uint32(v)
		}
		if i == 0 {
			low = n
		}
		high = n
	}
	if low > high {
		low, high = high, low
	}
	return low, high, nil
}

// numbered is proto NUMBER, or a protocol's name.
func (p *parser) numbered(q qualifiers) (cond, error) {
	t := p.peek()
	p.at++
	if q.dir != "" {
		return nil, fmt.Errorf("a protocol has no source and destination")
	}
	n := t.n
	if t.kind != number {
		var ok bool
		if n, ok = protocolNumber(q.proto, t.text); !ok {
			return nil, fmt.Errorf("no protocol is called %q: write its number", t.text)
		}
	}
	switch q.proto {
	case "ether":
		if p.link != Ethernet {
			return p.above(n), nil
		}
		if n <= 1500 {
			return nil, fmt.Errorf("%d is no protocol of Ethernet but a length", n)
		}
		return p.above(n), nil
	case "ip":
		return p.ipProto(n), nil
	case "ip6":
		return p.ip6Proto(n), nil
	case "":
		return or(p.ipProto(n), p.ip6Proto(n)), nil
	}
	return nil, fmt.Errorf("%s has no protocols: write ether, ip, ip6 or nothing before proto", q.proto)
}

func protocolNumber(below, name string) (uint32, bool) {
	if below == "ether" {
		n, ok := etherTypes[name]
		return n, ok
	}
	proto, ok := above[name]
	return proto.number, ok
}
