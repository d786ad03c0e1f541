package netfilter

import (
	"bytes"
	"encoding/binary"
)

// attributes are the netlink attributes of an expression, by type without its flags.
type attributes map[uint16][]byte

// parse reads attributes; those cut short are left out.
func parse(b []byte) attributes {
	out := make(attributes)
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			break
		}
		out[binary.NativeEndian.Uint16(b[2:])&0x3fff] = b[4:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}

// number is a number in network order, 0 where there is none.
func (a attributes) number(typ uint16) uint32 {
	if b := a[typ]; len(b) >= 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (a attributes) text(typ uint16) string {
	b, _, _ := bytes.Cut(a[typ], []byte{0})
	return string(b)
}

// value is what a nested NFTA_DATA_VALUE has.
func (a attributes) value(typ uint16) []byte { return parse(a[typ])[1] }

// ParseVerdict reads the attributes of NFTA_DATA_VERDICT.
func ParseVerdict(b []byte) Verdict {
	a := parse(b)
	return Verdict{Code: int32(a.number(1)), Chain: a.text(2)}
}
