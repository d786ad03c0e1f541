package netfilter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// String is the rule much as nft, or iptables-save, prints it. What it has no words for
// it names by its expression.
func (r Rule) String() string {
	if r.Words != nil {
		return strings.Join(r.Words, " ")
	}
	w := words{loaded: map[uint32]string{}, masked: map[uint32]string{}}
	for _, e := range r.Exprs {
		w.expr(e.Name, parse(e.Data))
	}
	if r.Comment != "" {
		w.say(fmt.Sprintf("comment %q", r.Comment))
	}
	return strings.Join(w.out, " ")
}

// words is a rule's text in the making: what registers hold, in words.
type words struct {
	out            []string
	loaded, masked map[uint32]string
}

func (w *words) say(s string) { w.out = append(w.out, s) }

func (w *words) expr(name string, a attributes) {
	switch name {
	case "meta":
		w.load(a, 1, metaWords, 2, "meta")
	case "ct":
		w.load(a, 1, ctWords, 2, "ct")
	case "payload":
		w.loaded[a.number(1)] = w.payload(a.number(2), a.number(3), a.number(4))
	case "bitwise":
		w.bitwise(a)
	case "cmp":
		w.compare(a)
	case "range":
		left := w.loaded[a.number(1)]
		w.say(fmt.Sprintf("%s %s%s-%s", left, operator(a.number(2)), literal(left, a.value(3)), literal(left, a.value(4))))
	case "lookup":
		if a[3] != nil {
			w.loaded[a.number(3)] = w.loaded[a.number(2)] + " map @" + a.text(1)
			return
		}
		w.say(w.loaded[a.number(2)] + map[bool]string{false: " @", true: " != @"}[a.number(5) != 0] + a.text(1))
	case "immediate":
		w.immediate(a)
	case "nat":
		w.say(map[bool]string{false: "snat to ", true: "dnat to "}[a.number(1) == 1] + strings.TrimSpace(w.loaded[a.number(3)]+" "+w.loaded[a.number(5)]))
	case "masq":
		w.say("masquerade")
	case "redir":
		w.say(strings.TrimSpace("redirect " + w.loaded[a.number(1)]))
	case "fib":
		w.loaded[a.number(1)] = "fib"
		if a.number(2) == fibAddrType {
			w.loaded[a.number(1)] = map[bool]string{false: "fib daddr type", true: "fib saddr type"}[a.number(3)&fibSource != 0]
		}
	case "match", "target":
		w.say("xt " + name + " " + a.text(1))
	default: // counter, limit, log, reject, quota, …
		w.say(name)
	}
}

// load notes what a register holds; a register that is read from is a mark that is set.
func (w *words) load(a attributes, register uint16, names map[uint32]string, key uint16, prefix string) {
	name := names[a.number(key)]
	if name == "" {
		name = fmt.Sprintf("%s key %d", prefix, a.number(key))
	}
	if a[register] == nil {
		w.say(name + " set")
		return
	}
	w.loaded[a.number(register)] = name
}

var metaWords = map[uint32]string{
	1: "meta protocol", 3: "meta mark", 4: "iif", 5: "oif", 6: "iifname", 7: "oifname", 10: "meta skuid", 11: "meta skgid",
	12: "meta nftrace", 15: "meta nfproto", 16: "meta l4proto", 17: "meta ibrname", 18: "meta obrname", 19: "meta pkttype", 21: "iifgroup", 22: "oifgroup",
}

var ctWords = map[uint32]string{
	0: "ct state", 1: "ct direction", 2: "ct status", 3: "ct mark", 8: "ct original saddr", 9: "ct original daddr",
	11: "ct original proto-src", 12: "ct original proto-dst",
}

// payload names a place in the packet: header, offset and length in bytes.
func (w *words) payload(header, offset, length uint32) string {
	const network, transport = 1, 2
	switch {
	case header == network && (offset == 12 || offset == 16) && length <= 4:
		w.implied("meta nfproto", "meta protocol")
		return map[uint32]string{12: "ip saddr", 16: "ip daddr"}[offset]
	case header == network && (offset == 8 || offset == 24) && length <= 16:
		w.implied("meta nfproto", "meta protocol")
		return map[uint32]string{8: "ip6 saddr", 24: "ip6 daddr"}[offset]
	case header == network && offset == 9 && length == 1:
		return "ip protocol"
	case header == network && offset == 6 && length == 1:
		return "ip6 nexthdr"
	case header == transport && (offset == 0 || offset == 2) && length == 2:
		proto := cmp.Or(w.implied("meta l4proto", "ip protocol", "ip6 nexthdr"), "th")
		return proto + map[uint32]string{0: " sport", 2: " dport"}[offset]
	case header == transport && offset == 13 && length == 1:
		w.implied("meta l4proto")
		return "tcp flags"
	case header == transport && offset == 0 && length == 1:
		return cmp.Or(w.implied("meta l4proto"), "th") + " type"
	case header == 0 && (offset == 0 || offset == 6) && length == 6:
		return map[uint32]string{0: "ether daddr", 6: "ether saddr"}[offset]
	}
	return fmt.Sprintf("@%s,%d,%d", [...]string{"ll", "nh", "th", "ih"}[min(header, 3)], offset*8, length*8)
}

// implied takes the last words back where what follows says the same, and returns the
// value they had.
func (w *words) implied(left ...string) string {
	if len(w.out) == 0 {
		return ""
	}
	last := w.out[len(w.out)-1]
	for _, l := range left {
		if value, ok := strings.CutPrefix(last, l+" "); ok && !strings.Contains(value, " ") {
			w.out = w.out[:len(w.out)-1]
			return value
		}
	}
	return ""
}

func (w *words) bitwise(a attributes) {
	from, to := a.number(1), a.number(2)
	w.loaded[to] = w.loaded[from]
	delete(w.masked, to)
	if mask := a.value(4); mask != nil {
		w.masked[to] = string(mask)
	}
}

func (w *words) compare(a attributes) {
	register := a.number(1)
	left, value := w.loaded[register], a.value(3)
	mask, masked := w.masked[register]
	delete(w.masked, register)
	op := operator(a.number(2))
	switch {
	case masked && (left == "ct state" || left == "ct status") && allZero(value):
		w.say(left + " " + flagNames(left, hostOrder([]byte(mask))))
	case masked && strings.HasPrefix(left, "ip") && len(mask) == len(value):
		w.say(left + " " + op + network(value, []byte(mask)))
	case masked:
		w.say(fmt.Sprintf("%s & 0x%s %s 0x%s", left, hex.EncodeToString([]byte(mask)), cmp.Or(strings.TrimSpace(op), "=="), hex.EncodeToString(value)))
	default:
		w.say(left + " " + op + literal(left, value))
	}
}

func operator(op uint32) string {
	return [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}[min(op, 5)]
}

func (w *words) immediate(a attributes) {
	if v := parse(a[2])[2]; v != nil {
		verdict := ParseVerdict(v)
		name := map[int32]string{CodeDrop: "drop", CodeAccept: "accept", CodeReturn: "return", CodeJump: "jump ", CodeGoto: "goto ", CodeContinue: "continue"}[verdict.Code]
		w.say(name + verdict.Chain)
		return
	}
	value := a.value(2)
	text := "0x" + hex.EncodeToString(value)
	switch address, ok := netip.AddrFromSlice(value); {
	case ok:
		text = address.String()
	case len(value) == 2:
		text = fmt.Sprint(binary.BigEndian.Uint16(value))
	}
	w.loaded[a.number(1)] = text
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func hostOrder(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// flagNames names those of a connection's state (IP_CT_… of
// linux/netfilter/nf_conntrack_common.h), or status.
func flagNames(of string, mask uint32) string {
	names := []string{"invalid", "established", "related", "new", "", "", "untracked"}
	if of == "ct status" {
		names = []string{"expected", "seen-reply", "assured", "confirmed", "snat", "dnat"}
	}
	var out []string
	for i, name := range names {
		if mask&(1<<i) != 0 && name != "" {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

func network(value, mask []byte) string {
	a, ok := netip.AddrFromSlice(value)
	ones, size := net.IPMask(mask).Size()
	if !ok || size == 0 {
		return "0x" + hex.EncodeToString(value)
	}
	return netip.PrefixFrom(a, ones).String()
}

// literal is a value as the place that it is compared with has it.
func literal(left string, b []byte) string {
	switch {
	case left == "iifname" || left == "oifname" || strings.HasSuffix(left, "brname"):
		if name, _, ended := bytes.Cut(b, []byte{0}); ended {
			return fmt.Sprintf("%q", name)
		}
		return fmt.Sprintf("%q", string(b)+"*")
	case strings.HasSuffix(left, "addr") && strings.HasPrefix(left, "ether"):
		return net.HardwareAddr(b).String()
	case strings.HasPrefix(left, "ip") && strings.HasSuffix(left, "addr"):
		return prefix(left, b)
	case left == "meta l4proto" || left == "ip protocol" || left == "ip6 nexthdr":
		if len(b) == 1 {
			return cmp.Or(map[byte]string{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}[b[0]], fmt.Sprint(b[0]))
		}
	case strings.HasPrefix(left, "fib ") && len(b) == 4: // linux/rtnetlink.h: RTN_LOCAL and the like
		return cmp.Or(map[uint32]string{1: "unicast", 2: "local", 3: "broadcast", 5: "multicast"}[hostOrder(b)], fmt.Sprint(hostOrder(b)))
	case left == "meta nfproto" && len(b) == 1:
		return map[byte]string{FamilyIPv4: "ipv4", FamilyIPv6: "ipv6"}[b[0]]
	case left == "meta protocol" && len(b) == 2:
		return cmp.Or(map[uint16]string{0x0800: "ip", 0x86dd: "ip6", 0x0806: "arp"}[binary.BigEndian.Uint16(b)], "0x"+hex.EncodeToString(b))
	case strings.HasSuffix(left, "port") && len(b) == 2:
		return fmt.Sprint(binary.BigEndian.Uint16(b))
	case slices.Contains([]string{"iif", "oif", "iifgroup", "oifgroup", "meta skuid", "meta skgid", "meta mark", "ct mark"}, left) && len(b) == 4:
		return fmt.Sprint(hostOrder(b))
	case len(b) == 1:
		return fmt.Sprint(b[0])
	}
	return "0x" + hex.EncodeToString(b)
}

// prefix is an address, or as many whole bytes of one as were compared.
func prefix(left string, b []byte) string {
	size := 4
	if strings.HasPrefix(left, "ip6") {
		size = 16
	}
	whole := make([]byte, size)
	copy(whole, b)
	a, _ := netip.AddrFromSlice(whole)
	if len(b) >= size {
		return a.String()
	}
	return netip.PrefixFrom(a, len(b)*8).String()
}
