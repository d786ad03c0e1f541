package look

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/printable"
	"github.com/fairlead/fairlead/trace/picture"
)

// Of linux/fib_rules.h.
const (
	fraDst               = 1
	fraSrc               = 2
	fraIIFName           = 3
	fraPriority          = 6
	fraFwMark            = 10
	fraSuppressPrefixLen = 14
	fraTable             = 15
	fraFwMask            = 16
	fraOIFName           = 17

	fibRuleInvert = 0x2
)

// rules reads the routing rules. The netlink package's own list leaves out what a rule does
// (its action), which is what tells one that prohibits from one that looks in a table.
func (r reader) rules() error {
	r.n.Rules = nil
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(family))
		messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, m := range messages {
			if rule, ok := parseRule(m); ok {
				r.n.Rules = append(r.n.Rules, rule)
			}
		}
	}
	return nil
}

// parseRule reads a struct fib_rule_hdr with its attributes.
func parseRule(m []byte) (out picture.Rule, ok bool) {
	const header = 12 // family, lengths of dst and src, tos, table, two reserved, action, flags
	if len(m) < header {
		return out, false
	}
	attrs, err := nl.ParseRouteAttr(m[header:])
	if err != nil {
		return out, false
	}
	out = picture.Rule{
		IPv6: m[0] == unix.AF_INET6, Table: int(m[4]), Kind: picture.RouteKind(m[7]), Suppress: -1,
		Invert: binary.NativeEndian.Uint32(m[8:])&fibRuleInvert != 0,
	}
	masked := false
	for _, a := range attrs {
		number := func() uint32 {
			if len(a.Value) < 4 {
				return 0
			}
			return binary.NativeEndian.Uint32(a.Value)
		}
		switch a.Attr.Type {
		case fraDst:
			out.To = ofLength(a.Value, m[1])
		case fraSrc:
			out.From = ofLength(a.Value, m[2])
		case fraIIFName:
			out.In = printable.Name(strings.TrimRight(string(a.Value), "\x00"))
		case fraOIFName:
			out.Out = printable.Name(strings.TrimRight(string(a.Value), "\x00"))
		case fraPriority:
			out.Priority = int(number())
		case fraTable:
			out.Table = int(number())
		case fraSuppressPrefixLen:
			out.Suppress = int(int32(number()))
		case fraFwMark:
			out.Mark = number()
		case fraFwMask:
			out.Mask, masked = number(), true
		}
	}
	if !masked && out.Mark != 0 {
		out.Mask = 0xffffffff
	}
	return out, true
}

func ofLength(b []byte, ones byte) netip.Prefix {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(ones))
}
