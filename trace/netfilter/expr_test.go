package netfilter

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// attr is a netlink attribute.
func attr(typ uint16, value []byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	out = append(binary.NativeEndian.AppendUint16(out, typ), value...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func number(typ uint16, n uint32) []byte { return attr(typ, binary.BigEndian.AppendUint32(nil, n)) }

func text(typ uint16, s string) []byte { return attr(typ, append([]byte(s), 0)) }

func value(typ uint16, b ...byte) []byte { return attr(typ, attr(1, b)) }

func expr(name string, attrs ...[]byte) Expr { return Expr{name, slices.Concat(attrs...)} }

func port16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// The expressions of common rules, as nft makes them.
var (
	dport   = expr("payload", number(1, 1), number(2, 2), number(3, 2), number(4, 2))
	saddr   = expr("payload", number(1, 1), number(2, 1), number(3, 12), number(4, 4))
	daddr   = expr("payload", number(1, 1), number(2, 1), number(3, 16), number(4, 4))
	iifname = expr("meta", number(1, 1), number(2, 6))
	skuid   = expr("meta", number(1, 1), number(2, 10))
	ctState = expr("ct", number(1, 1), number(2, 0))
	counter = expr("counter")
	reject  = expr("reject")
)

func equals(b ...byte) Expr { return expr("cmp", number(1, 1), number(2, 0), value(3, b...)) }
func differs(b ...byte) Expr {
	return expr("cmp", number(1, 1), number(2, 1), value(3, b...))
}

func masked(mask, xor []byte) Expr {
	return expr("bitwise", number(1, 1), number(2, 1), number(3, uint32(len(mask))), value(4, mask...), value(5, xor...))
}

func verdict(code int32, chain string) Expr {
	v := attr(1, binary.BigEndian.AppendUint32(nil, uint32(code)))
	if chain != "" {
		v = append(v, text(2, chain)...)
	}
	return expr("immediate", number(1, 0), attr(2, attr(2, v)))
}

func lookup(set string, more ...[]byte) Expr {
	return expr("lookup", append([][]byte{text(1, set), number(2, 1)}, more...)...)
}

// TestExpressions: rules are run over the packet's bytes as the kernel runs them.
func TestExpressions(t *testing.T) {
	t.Parallel()
	drop := verdict(CodeDrop, "")
	sets := map[string]*Set{
		"ports":  {KeyLen: 2, Elements: []Element{{Key: port16(443)}}},
		"others": {KeyLen: 2, Elements: []Element{{Key: port16(80)}}},
		"range":  {KeyLen: 4, Interval: true, Elements: []Element{{Key: []byte{192, 0, 2, 0}}, {Key: []byte{192, 0, 2, 128}, IntervalEnd: true}}},
		"beyond": {KeyLen: 4, Interval: true, Elements: []Element{{Key: []byte{192, 0, 2, 128}}, {Key: []byte{192, 0, 3, 0}, IntervalEnd: true}}},
		"before": {KeyLen: 4, Interval: true, Elements: []Element{{Key: []byte{192, 0, 1, 0}}, {Key: []byte{192, 0, 2, 0}, IntervalEnd: true}}},
		"what":   {KeyLen: 2, Verdicts: true, Elements: []Element{{Key: port16(443), Verdict: Verdict{Code: CodeDrop}}, {CatchAll: true, Verdict: Verdict{Code: CodeAccept}}}},
		"both": {KeyLen: 8, Interval: true, Concat: true, Fields: []int{4, 2}, Elements: []Element{
			{Key: append([]byte{192, 0, 2, 0}, 1, 180, 0, 0), End: append([]byte{192, 0, 2, 255}, 1, 194, 0, 0)},
		}},
	}
	second := expr("payload", number(1, 9), number(2, 2), number(3, 2), number(4, 2)) // into the next four bytes
	for _, c := range []struct {
		name   string
		rule   []Expr
		drop   bool
		unsure bool
	}{
		{"a port", []Expr{dport, equals(port16(443)...), counter, drop}, true, false},
		{"another port", []Expr{dport, equals(port16(80)...), drop}, false, false},
		{"not a port", []Expr{dport, differs(port16(80)...), drop}, true, false},
		{"a subnet", []Expr{saddr, masked([]byte{255, 255, 255, 0}, make([]byte, 4)), equals(10, 30, 0, 0), drop}, true, false},
		{"an address", []Expr{daddr, equals(192, 0, 2, 9), reject}, true, false},
		{"an interface", []Expr{iifname, equals(name16("br0")...), drop}, true, false},
		{"another interface", []Expr{iifname, equals(name16("br1")...), drop}, false, false},
		{"new connections", []Expr{ctState, masked(native(8), make([]byte, 4)), differs(0, 0, 0, 0), drop}, true, false},
		{"established ones", []Expr{ctState, masked(native(2), make([]byte, 4)), differs(0, 0, 0, 0), drop}, false, false},
		{"a set", []Expr{dport, lookup("ports"), drop}, true, false},
		{"another set", []Expr{dport, lookup("others"), drop}, false, false},
		{"not in a set", []Expr{dport, lookup("others", number(5, 1)), drop}, true, false},
		{"an interval", []Expr{daddr, lookup("range"), drop}, true, false},
		{"another interval", []Expr{daddr, lookup("beyond"), drop}, false, false},
		{"an interval that has ended", []Expr{daddr, lookup("before"), drop}, false, false},
		{"a verdict map", []Expr{dport, lookup("what", number(3, 0))}, true, false},
		{"a concatenation", []Expr{daddr, second, lookup("both"), drop}, true, false},
		{"a set that is not there", []Expr{dport, lookup("none"), drop}, false, true},
		{"a process's owner", []Expr{skuid, equals(native(5)...), drop}, false, true},
		{"a limit that has room", []Expr{expr("limit", number(5, 0)), drop}, true, false},
		{"beyond a limit", []Expr{expr("limit", number(5, 1)), drop}, false, false},
		{"what nobody knows", []Expr{expr("tunnel"), drop}, false, true},
		{"a chain", []Expr{verdict(CodeJump, "sub")}, true, false},
		{"a chain that is not there", []Expr{verdict(CodeJump, "gone")}, false, false},
	} {
		table := &Table{Family: FamilyInet, Name: "t", Sets: sets, Chains: map[string]*Chain{
			"c":   {Name: "c", Type: "filter", Hook: Forward, Rules: []Rule{{Handle: 4, Exprs: c.rule}}},
			"sub": {Name: "sub", Hook: NoHook, Rules: []Rule{{Handle: 5, Exprs: []Expr{dport, equals(port16(443)...), drop}}}},
		}}
		d := Ruleset{Tables: []*Table{table}}.Decide(0, Forward, packet(443), true)
		if d.Drop != c.drop || (len(d.Unsure) > 0) != c.unsure || d.Drop && d.By.Table != "t" {
			t.Errorf("%s: %+v; want %t", c.name, d, c.drop)
		}
	}
}

// TestNATExpressions: a redirection, a masquerade, and what has it not tracked.
func TestNATExpressions(t *testing.T) {
	t.Parallel()
	load := func(register uint32, b ...byte) Expr { return expr("immediate", number(1, register), value(2, b...)) }
	chain := func(name, typ string, hook Hook, priority int, exprs ...Expr) *Chain {
		return &Chain{Name: name, Type: typ, Hook: hook, Priority: priority, Rules: []Rule{{Handle: 1, Exprs: exprs}}}
	}
	table := &Table{Family: FamilyIPv4, Name: "t", Chains: map[string]*Chain{
		"raw":  chain("raw", "filter", Prerouting, -300, dport, equals(port16(7)...), expr("notrack")),
		"dnat": chain("dnat", "nat", Prerouting, -100, load(1, 10, 30, 0, 2), load(2, port16(80)...), expr("nat", number(1, 1), number(2, 2), number(3, 1), number(5, 2))),
		"snat": chain("snat", "nat", Postrouting, 100, expr("masq")),
	}}
	r := Ruleset{Tables: []*Table{table}}
	if d := r.Decide(0, Prerouting, packet(443), true); d.DNAT.Addr != netip.MustParseAddr("10.30.0.2") || d.DNAT.Port != 80 || d.DNAT.By.Chain != "dnat" {
		t.Errorf("dnat: %+v", d)
	}
	if d := r.Decide(0, Postrouting, packet(443), true); !d.SNAT.Masquerade {
		t.Errorf("masquerade: %+v", d)
	}
	p := packet(7)
	if d := r.Decide(0, Prerouting, p, true); d.DNAT.Set || d.Untracked == nil || d.Untracked.Chain != "raw" {
		t.Errorf("not tracked: %+v", d)
	}
	if d := r.Decide(0, Postrouting, p, true); d.SNAT.Set {
		t.Errorf("not tracked, and translated: %+v", d)
	}
}

// TestNATOfOneFamily: a table of both families has translations of each, which leave packets of
// the other to what comes behind them.
func TestNATOfOneFamily(t *testing.T) {
	t.Parallel()
	six := netip.MustParseAddr("fd82:7676:64::2")
	load := func(b ...byte) Expr { return expr("immediate", number(1, 1), value(2, b...)) }
	nat := func(kind, family uint32) Expr {
		return expr("nat", number(1, kind), number(2, family), number(3, 1))
	}
	rules := func(kind uint32) []Rule {
		return []Rule{
			{Handle: 1, Exprs: []Expr{load(six.AsSlice()...), nat(kind, FamilyIPv6)}},
			{Handle: 2, Exprs: []Expr{load(10, 30, 0, 2), nat(kind, FamilyIPv4)}},
		}
	}
	toPort := Rule{Handle: 3, Exprs: []Expr{load(port16(80)...), expr("nat", number(1, 1), number(2, FamilyInet), number(5, 1))}}
	proxied := Rule{Handle: 4, Exprs: []Expr{expr("tproxy", number(1, FamilyIPv6)), verdict(CodeDrop, "")}}
	decide := func(typ string, hook Hook, six bool, rules ...Rule) Decision {
		p := packet(443)
		if six {
			p.Source, p.Destination = netip.MustParseAddrPort("[2001:db8::9]:40000"), netip.MustParseAddrPort("[2001:db8::1]:443")
		}
		table := &Table{Family: FamilyInet, Name: "t", Chains: map[string]*Chain{"c": {Name: "c", Type: typ, Hook: hook, Rules: rules}}}
		return Ruleset{Tables: []*Table{table}}.Decide(0, hook, p, true)
	}
	for v6, want := range map[bool]netip.Addr{false: netip.MustParseAddr("10.30.0.2"), true: six} {
		if d := decide("nat", Prerouting, v6, rules(1)...); d.DNAT.Addr != want {
			t.Errorf("dnat, IPv6 %v: %+v; want %s", v6, d.DNAT, want)
		}
		if d := decide("nat", Postrouting, v6, rules(0)...); d.SNAT.Addr != want {
			t.Errorf("snat, IPv6 %v: %+v; want %s", v6, d.SNAT, want)
		}
		if d := decide("nat", Prerouting, v6, toPort); d.DNAT.Port != 80 {
			t.Errorf("a port of both families, IPv6 %v: %+v", v6, d.DNAT)
		}
		if d := decide("nat", Postrouting, v6, Rule{Exprs: []Expr{expr("masq")}}); !d.SNAT.Masquerade {
			t.Errorf("masquerade, IPv6 %v: %+v", v6, d.SNAT)
		}
		if d := decide("nat", Prerouting, v6, Rule{Exprs: []Expr{expr("redir")}}); !d.DNAT.Set {
			t.Errorf("redirect, IPv6 %v: %+v", v6, d.DNAT)
		}
		if d := decide("filter", Prerouting, v6, proxied); (len(d.Unsure) > 0) != v6 {
			t.Errorf("tproxy of IPv6, IPv6 %v: %+v", v6, d)
		}
	}
	if d := decide("nat", Prerouting, false, rules(1)[0]); d.DNAT.Set || len(d.Accepted) > 0 {
		t.Errorf("nothing of its family: %+v", d)
	}
}

// TestRuleText: rules are told much as nft has them.
func TestRuleText(t *testing.T) {
	t.Parallel()
	l4proto := expr("meta", number(1, 1), number(2, 16))
	for want, exprs := range map[string][]Expr{
		"tcp dport 443 counter drop":   {l4proto, equals(6), dport, equals(port16(443)...), counter, verdict(CodeDrop, "")},
		"ip saddr 10.30.0.0/24 accept": {saddr, masked([]byte{255, 255, 255, 0}, make([]byte, 4)), equals(10, 30, 0, 0), verdict(CodeAccept, "")},
		`iifname "br0" jump sub`:       {iifname, equals(name16("br0")...), verdict(CodeJump, "sub")},
		"ct state new drop":            {ctState, masked(native(8), make([]byte, 4)), differs(0, 0, 0, 0), verdict(CodeDrop, "")},
		"ip daddr @bad reject":         {daddr, lookup("bad"), reject},
		"notrack":                      {expr("notrack")},
		"masquerade":                   {expr("masq")},
	} {
		if got := (Rule{Exprs: exprs}).String(); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}
