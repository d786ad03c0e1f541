package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

func FuzzAnswer(f *testing.F) {
	for _, m := range []*wire.Msg{question("web", wire.TypeA), question("x.example", wire.TypeMX)} {
		packed, _ := m.Pack()
		f.Add(packed)
		m.SetEdns0(1232, true)
		packed, _ = m.Pack()
		f.Add(packed)
	}
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	r := site(&upstream{answer: func(asked) ([]*wire.Msg, error) { return nil, errRefused }})
	f.Fuzz(func(t *testing.T, packet []byte) {
		answer, ahead := r.Answer("db", packet, UDP)
		if ahead != nil {
			answer = ahead.Fail()
		}
		if answer == nil {
			return
		}
		if len(answer) < headerSize || answer[0] != packet[0] || answer[1] != packet[1] || answer[2]&0x80 == 0 || len(answer) > maxUDP {
			t.Errorf("%x was answered with %x", packet, answer)
		}
	})
}

func FuzzUpstreamAnswer(f *testing.F) {
	q := question("x.example", wire.TypeA)
	q.Id = 1
	a := new(wire.Msg).SetReply(q)
	packed, _ := a.Pack()
	f.Add(packed)
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, ok := answers(packet, q)
		if ok && (m.Id != 1 || !m.Response || len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, "x.example.")) {
			t.Errorf("%x was believed: %v", packet, m)
		}
		if ok {
			(&Query{msg: q}).relay(m)
			lifetime(m)
		}
	})
}

// What is read of a host's resolv.conf says the same when it is written down again.
func FuzzHostConfig(f *testing.F) {
	for _, text := range []string{
		"nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions ndots:2 edns0\n",
		"# by dhcp\ndomain corp\nnameserver 127.0.0.53;stub\nnameserver\noptions\n", "nameserver\t192.0.2.1\r\n",
	} {
		f.Add([]byte(text), []byte("nameserver 192.0.2.2\n"))
	}
	f.Fuzz(func(t *testing.T, conf, uplinks []byte) {
		c := ParseHostConfig(conf)
		var b strings.Builder
		for _, s := range c.Servers {
			b.WriteString("nameserver " + s.String() + "\n")
		}
		for _, line := range [][]string{append([]string{"search"}, c.Search...), append([]string{"options"}, c.Options...)} {
			b.WriteString(strings.Join(line, " ") + "\n")
		}
		again := ParseHostConfig([]byte(b.String()))
		if !slices.Equal(c.Servers, again.Servers) || !slices.Equal(c.Search, again.Search) || !slices.Equal(c.Options, again.Options) {
			t.Errorf("%q is read as %+v, and that as %+v", conf, c, again)
		}
		servers := HostServers(conf, uplinks)
		if len(servers) > MaxServers || slices.ContainsFunc(servers, func(a netip.AddrPort) bool { return !a.IsValid() || a.Port() != 53 }) {
			t.Errorf("of %q and %q the servers are %v", conf, uplinks, servers)
		}
	})
}

// Whatever is asked for, what is ours is nobody else's affair, and names stay on their
// networks.
func FuzzName(f *testing.F) {
	for _, name := range []string{"web", "db.front", "my.app.back", "localhost", "a.localhost", "db.fairlead.internal", "2.0.18.172.in-addr.arpa"} {
		f.Add(name, wire.TypeA)
		f.Add(name, wire.TypePTR)
	}
	r := site(&upstream{answer: func(asked) ([]*wire.Msg, error) { return nil, errRefused }})
	known := addrs("172.18.0.2", "fd00::2", "172.18.0.3", "127.0.0.1", "::1")
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		packed, err := question(name, qtype).Pack()
		if err != nil {
			return
		}
		answer, ahead := r.Answer("web", packed, TCP)
		if ahead != nil {
			if Reserved(ahead.name) {
				t.Errorf("%q would be asked for elsewhere", name)
			}
			return
		}
		m := new(wire.Msg)
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		for _, rr := range m.Answer { // of network front alone, and of the asker itself
			switch rr := rr.(type) {
			case *wire.A:
				if a, _ := netip.AddrFromSlice(rr.A.To4()); !slices.Contains(known, a) {
					t.Errorf("%q is %s", name, a)
				}
			case *wire.AAAA:
				if a, _ := netip.AddrFromSlice(rr.AAAA); !slices.Contains(known, a) {
					t.Errorf("%q is %s", name, a)
				}
			}
		}
	})
}
