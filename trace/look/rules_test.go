package look

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/trace/picture"
)

// TestParseRule: what `ip rule` says is read of the kernel's message, its action too.
func TestParseRule(t *testing.T) {
	t.Parallel()
	attr := func(typ uint16, value ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), value...)
		return append(b, make([]byte, (4-len(b)%4)%4)...)
	}
	number := func(typ uint16, n uint32) []byte { return attr(typ, binary.NativeEndian.AppendUint32(nil, n)...) }
	message := func(family, dst, src, table, action byte, flags uint32, attrs ...[]byte) []byte {
		b := binary.NativeEndian.AppendUint32([]byte{family, dst, src, 0, table, 0, 0, action}, flags)
		for _, a := range attrs {
			b = append(b, a...)
		}
		return b
	}
	for _, c := range []struct {
		m    []byte
		want picture.Rule
	}{
		{message(unix.AF_INET, 0, 0, 255, 1, 0, number(fraTable, 255), number(fraSuppressPrefixLen, 0xffffffff)), picture.Rule{Table: 255, Kind: picture.Unicast, Suppress: -1}},
		{
			message(unix.AF_INET, 0, 24, 0, 8, 0, attr(fraSrc, 10, 30, 0, 0), number(fraPriority, 100)),
			picture.Rule{Priority: 100, From: netip.MustParsePrefix("10.30.0.0/24"), Kind: picture.Prohibit, Suppress: -1},
		},
		{
			message(unix.AF_INET, 32, 0, 252, 1, fibRuleInvert, attr(fraDst, 192, 0, 2, 1), number(fraTable, 1000), number(fraFwMark, 0x10), number(fraFwMask, 0xf0), attr(fraIIFName, 'b', 'r', '0', 0)),
			picture.Rule{To: netip.MustParsePrefix("192.0.2.1/32"), Table: 1000, Mark: 0x10, Mask: 0xf0, In: "br0", Kind: picture.Unicast, Suppress: -1, Invert: true},
		},
		{message(unix.AF_INET6, 0, 0, 254, 1, 0, number(fraFwMark, 5), number(fraSuppressPrefixLen, 0)), picture.Rule{IPv6: true, Table: 254, Mark: 5, Mask: 0xffffffff, Kind: picture.Unicast}},
	} {
		if got, ok := parseRule(c.m); !ok || got != c.want {
			t.Errorf("%+v, %t; want %+v", got, ok, c.want)
		}
	}
	if got, ok := parseRule([]byte{2, 0}); ok {
		t.Errorf("two bytes: %+v", got)
	}
}
