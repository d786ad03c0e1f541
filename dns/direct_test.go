package dns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// directly answers by both ways, and sees that they say the same. It returns the
// answer, and whether it was had directly.
func directly(t *testing.T, r *Resolver, sandbox string, packet []byte) ([]byte, bool) {
	t.Helper()
	turn := r.names.turn.Load()
	got := r.AppendAnswer([]byte("before"), sandbox, packet)
	if !bytes.HasPrefix(got, []byte("before")) {
		t.Fatalf("%x: what was there is overwritten: %q", packet, got)
	}
	got = got[len("before"):]
	r.names.turn.Store(turn)
	want, _ := r.Answer(sandbox, packet, UDP)
	if len(got) == 0 {
		return want, false
	}
	// A message is not compressed where it fits without: the same, written otherwise.
	var direct, other wire.Msg
	if err := errors.Join(direct.Unpack(got), other.Unpack(want)); err != nil || direct.String() != other.String() {
		t.Fatalf("%x:\ndirectly %x\n%s\nelse %x\n%s\n%v", packet, got, &direct, want, &other, err)
	}
	if len(got) > len(want) {
		t.Fatalf("%x: directly %d bytes, else %d", packet, len(got), len(want))
	}
	return got, true
}

func TestDirect(t *testing.T) {
	t.Parallel()
	r := site(&upstream{})
	many := Sandbox{ID: "many", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"many"}}}}
	for i := range maxDirect + 1 {
		many.Endpoints[0].Addrs = append(many.Endpoints[0].Addrs, netip.AddrFrom4([4]byte{172, 18, 1, byte(i)}))
	}
	r.Set(many)
	// Nobody may be called so; who is all the same is not believed.
	r.Set(Sandbox{ID: "bad", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"localhost", "a.fairlead.internal"}, Addrs: addrs("172.18.0.66")}}})
	plain := question
	with := func(m *wire.Msg, f func(*wire.Msg)) *wire.Msg { f(m); return m }
	for i, c := range []struct {
		sandbox string
		query   *wire.Msg
		direct  bool
	}{
		{"db", plain("web", wire.TypeA), true},
		{"db", plain("WeB", wire.TypeAAAA), true},
		{"db", plain("www", wire.TypeA), true}, // has two, in turn
		{"db", plain("www", wire.TypeA), true},
		{"db", plain("web.front", wire.TypeA), true},
		{"web", plain("store", wire.TypeA), true},
		{"six", plain("db", wire.TypeAAAA), true}, // no address of that family
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.SetEdns0(1232, true) }), true},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.SetEdns0(0, false) }), true},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.RecursionDesired, m.CheckingDisabled, m.Authoritative = false, true, true }), true},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &wire.EDNS0_COOKIE{Code: wire.EDNS0COOKIE, Cookie: "0123456789abcdef"})
		}), false},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }), false},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) }), false},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassCHAOS }), false},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.Response = true }), false},
		{"db", with(plain("web", wire.TypeA), func(m *wire.Msg) { m.Opcode = wire.OpcodeUpdate }), false},
		{"db", plain("many", wire.TypeA), false},
		{"db", plain("web", wire.TypeMX), false},
		{"db", plain("web.fairlead.internal", wire.TypeA), false},
		{"db", plain("localhost", wire.TypeA), false},
		{"db", plain("a.localhost", wire.TypeA), false},
		{"db", plain("a.fairlead.internal", wire.TypeA), false},
		{"db", plain("2.0.18.172.in-addr.arpa", wire.TypeA), false},
		{"db", plain("nobody", wire.TypeA), false},
		{"db", plain("six", wire.TypeA), true},
		{"db", plain("x.example", wire.TypeA), false},
		{"db", plain(`we\.b`, wire.TypeA), false},
		{"db", plain(".", wire.TypeA), false},
		{"nobody", plain("web", wire.TypeA), false},
		{"db", plain(strings.Repeat("a.", 127), wire.TypeA), false}, // the longest there is
		{"db", plain(strings.Repeat("a", 63)+".front", wire.TypeA), false},
	} {
		packet, err := c.query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is remembered
			if _, direct := directly(t, r, c.sandbox, packet); direct != c.direct {
				t.Errorf("%d: %s for %s: direct is %t", i, c.query.Question[0].String(), c.sandbox, direct)
			}
		}
		for cut := range packet {
			directly(t, r, c.sandbox, packet[:cut])
		}
		directly(t, r, c.sandbox, append(packet, 0))
	}
}

// What is remembered is true as long as nobody changes.
func TestDirectFollows(t *testing.T) {
	t.Parallel()
	r := site(&upstream{})
	packet, _ := question("web", wire.TypeA).Pack()
	is := func(want string) {
		t.Helper()
		answer, direct := directly(t, r, "db", packet)
		if want == "" {
			if direct {
				t.Errorf("answered with %x", answer)
			}
			return
		}
		a := netip.MustParseAddr(want).As4()
		if !direct || !bytes.HasSuffix(answer, a[:]) {
			t.Errorf("answered with %x, want %s", answer, want)
		}
	}
	is("172.18.0.2")
	r.Set(Sandbox{ID: "web", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"web"}, Addrs: addrs("172.18.0.9")}}})
	is("172.18.0.9")
	r.Set(Sandbox{ID: "db"}) // which left the network
	is("")
	r.Set(Sandbox{ID: "db", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"db"}, Addrs: addrs("172.18.0.3")}}})
	is("172.18.0.9")
	r.Remove("web")
	is("")
	r.Remove("db")
	is("")
}

// Memory for names is bounded, and names that nobody has take none.
func TestDirectIsBounded(t *testing.T) {
	t.Parallel()
	r := site(&upstream{})
	names := []string{"a"}
	for i := range maxKnown + 10 {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	r.Set(Sandbox{ID: "a", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: names, Addrs: addrs("172.18.0.9")}}})
	for _, name := range append(names, "nobody", "nobody.else") {
		packet, _ := question(name, wire.TypeA).Pack()
		directly(t, r, "db", packet)
		if n := len(r.names.known); n > maxKnown {
			t.Fatalf("%d names are remembered", n)
		}
	}
	r.Remove("a")
	if n := len(r.names.known); n != 0 {
		t.Errorf("after a change %d names are remembered", n)
	}
}

func FuzzDirect(f *testing.F) {
	for _, m := range []*wire.Msg{question("web", wire.TypeA), question("www.Front", wire.TypeAAAA), question("x.example", wire.TypeMX)} {
		packed, _ := m.Pack()
		f.Add(packed)
		m.SetEdns0(1232, true)
		packed, _ = m.Pack()
		f.Add(packed)
	}
	r := site(&upstream{})
	f.Fuzz(func(t *testing.T, packet []byte) { directly(t, r, "db", packet) })
}

func BenchmarkDirect(b *testing.B) {
	r := site(&upstream{})
	packed, _ := question("web", wire.TypeA).Pack()
	buf := make([]byte, 0, wire.MinMsgSize)
	b.ReportAllocs()
	for b.Loop() {
		if answer := r.AppendAnswer(buf, "db", packed); len(answer) == 0 {
			b.Fatal("no answer")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}
