package ruleset

import (
	"cmp"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DataType is the type of one field of a set's key or of a map's value.
type DataType uint8

// The data types in use, by nft's names for them.
const (
	IfName DataType = iota + 1
	IPv4Addr
	IPv6Addr
	InetProto
	InetService
	NFProto
	EtherAddr
	// What has no name: bits, as many as 48, 64 or 128. A set of them says where they
	// are read, see Set.Of.
	Bits48
	Bits64
	Bits128
)

// String is nft's name of the type.
func (d DataType) String() string {
	switch d {
	case IfName:
		return "ifname"
	case IPv4Addr:
		return "ipv4_addr"
	case IPv6Addr:
		return "ipv6_addr"
	case InetProto:
		return "inet_proto"
	case InetService:
		return "inet_service"
	case NFProto:
		return "nf_proto"
	case EtherAddr:
		return "ether_addr"
	}
	return "type " + strconv.Itoa(int(d))
}

// Set is a named set, or a map where Data is not empty. A key of several types
// is a concatenation.
type Set struct {
	Name string
	Key  []DataType
	// Data is the type of a map's values.
	Data []DataType
	// Of says where the key is read, for a key with a field that has no name; nft
	// prints it in the key's place.
	Of []Selector
	// Interval says that elements are prefixes or ranges.
	Interval bool
	// Counter has each element count the packets that it is found for (Linux 5.7).
	Counter bool
	// Dynamic says that rules add the elements, as many as Size at most. Where Timeout is
	// not 0 each goes that long after it was last named.
	Dynamic bool
	Size    uint32
	Timeout time.Duration
	// Comment is at most 127 bytes.
	Comment  string
	Elements []Element
}

// Element is one element of a set, or one mapping of a map.
type Element struct {
	Key  []Value
	Data []Value
}

// Value is one field of an element. The zero Value is none. Values compare with
// ==.
type Value struct {
	typ      DataType
	interval bool
	prefix   netip.Prefix
	name     string
	num, end uint16
}

// Interface is an interface's name.
func Interface(name string) Value { return Value{typ: IfName, name: name} }

// Addr is one address, IPv4 or IPv6.
func Addr(a netip.Addr) Value {
	return Value{typ: addrType(a), prefix: netip.PrefixFrom(a, a.BitLen())}
}

// Prefix is every address of a prefix, for sets of intervals; host bits are
// dropped.
func Prefix(p netip.Prefix) Value {
	return Value{typ: addrType(p.Addr()), prefix: p.Masked(), interval: true}
}

func addrType(a netip.Addr) DataType {
	if a.Is4() {
		return IPv4Addr
	}
	return IPv6Addr
}

// Ether is a hardware address of six bytes.
func Ether(mac []byte) Value { return Value{typ: EtherAddr, name: string(mac)} }

// Bits are bytes without a type of their own: 6, 8 or 16.
func Bits(b []byte) Value {
	return Value{typ: map[int]DataType{6: Bits48, 8: Bits64, 16: Bits128}[len(b)], name: string(b)}
}

// The transport protocols, as values.
var (
	TCP  = Value{typ: InetProto, name: "tcp", num: 6}
	UDP  = Value{typ: InetProto, name: "udp", num: 17}
	SCTP = Value{typ: InetProto, name: "sctp", num: 132}

	ICMP   = Value{typ: InetProto, name: "icmp", num: 1}
	ICMPv6 = Value{typ: InetProto, name: "ipv6-icmp", num: 58}
)

// The network protocols, as values (NFPROTO_* of linux/netfilter.h).
var (
	ForIPv4 = Value{typ: NFProto, name: "ipv4", num: 2}
	ForIPv6 = Value{typ: NFProto, name: "ipv6", num: 10}
)

// Port is a port of a transport protocol.
func Port(n uint16) Value { return Value{typ: InetService, num: n} }

// Ports are the ports from first to last, for sets of intervals.
func Ports(first, last uint16) Value {
	return Value{typ: InetService, num: first, end: last, interval: true}
}

// Type is the value's type, 0 for the zero Value.
func (v Value) Type() DataType { return v.typ }

// IsInterval says that the value was made by Prefix or Ports.
func (v Value) IsInterval() bool { return v.interval }

// Prefix is the prefix of an address value; a single address has its full length.
func (v Value) Prefix() netip.Prefix { return v.prefix }

// Name is the name of an interface or protocol; of a hardware address and of bits
// their bytes.
func (v Value) Name() string { return v.name }

// Number is the number of a port or protocol; of a range of ports the first.
func (v Value) Number() uint16 { return v.num }

// Last is the last number of a range of ports, or the only one.
func (v Value) Last() uint16 {
	if v.typ == InetService && v.interval {
		return v.end
	}
	return v.num
}

// String is the value as nft writes it.
func (v Value) String() string {
	switch v.typ {
	case IfName:
		return quote(v.name)
	case IPv4Addr, IPv6Addr:
		if v.prefix.IsSingleIP() {
			return v.prefix.Addr().String()
		}
		return v.prefix.String()
	case InetProto, NFProto:
		return v.name
	case EtherAddr:
		return net.HardwareAddr(v.name).String()
	case Bits48, Bits64, Bits128:
		return "0x" + new(big.Int).SetBytes([]byte(v.name)).Text(16)
	case InetService:
		if last := v.Last(); last != v.num {
			return fmt.Sprintf("%d-%d", v.num, last)
		}
		return strconv.Itoa(int(v.num))
	}
	return ""
}

func compareValues(a, b []Value) int {
	return slices.CompareFunc(a, b, func(x, y Value) int {
		return cmp.Or(cmp.Compare(x.typ, y.typ), cmp.Compare(x.name, y.name), x.prefix.Addr().Compare(y.prefix.Addr()),
			cmp.Compare(x.prefix.Bits(), y.prefix.Bits()), cmp.Compare(x.num, y.num), cmp.Compare(x.end, y.end))
	})
}

// CompareElements orders elements by key, then by value.
func CompareElements(a, b Element) int {
	return cmp.Or(compareValues(a.Key, b.Key), compareValues(a.Data, b.Data))
}

// String is the element as nft writes it.
func (e Element) String() string {
	if len(e.Data) == 0 {
		return concat(e.Key)
	}
	return concat(e.Key) + " : " + concat(e.Data)
}

func concat[T fmt.Stringer](fields []T) string {
	words := make([]string, len(fields))
	for i, f := range fields {
		words[i] = f.String()
	}
	return strings.Join(words, " . ")
}

// Kind is "map" where the set has values, else "set".
func (s Set) Kind() string {
	if len(s.Data) > 0 {
		return "map"
	}
	return "set"
}

// elementIndent is where nft lets every element but the first begin.
const elementIndent = "\n\t\t\t     "

func (s Set) print(b *strings.Builder) {
	key := "type " + concat(s.Key)
	if len(s.Of) > 0 {
		key = "typeof " + concat(s.Of)
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s", s.Kind(), s.Name, key)
	if len(s.Data) > 0 {
		fmt.Fprintf(b, " : %s", concat(s.Data))
	}
	b.WriteByte('\n')
	if s.Size > 0 {
		fmt.Fprintf(b, "\t\tsize %d\n", s.Size)
	}
	switch {
	case s.Interval:
		b.WriteString("\t\tflags interval\n")
	case s.Dynamic && s.Timeout > 0:
		fmt.Fprintf(b, "\t\tflags dynamic,timeout\n\t\ttimeout %s\n", s.Timeout)
	case s.Dynamic:
		b.WriteString("\t\tflags dynamic\n")
	}
	if s.Counter {
		b.WriteString("\t\tcounter\n")
	}
	if s.Comment != "" {
		fmt.Fprintf(b, "\t\tcomment %s\n", quote(s.Comment))
	}
	if len(s.Elements) > 0 {
		b.WriteString("\t\telements = { ")
		sorted := slices.SortedFunc(slices.Values(s.Elements), CompareElements)
		for i, e := range sorted {
			if i > 0 {
				b.WriteString("," + elementIndent)
			}
			b.WriteString(e.String())
			if s.Counter {
				b.WriteString(" counter")
			}
		}
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n")
}
