package relay

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
)

// Queries of every kind that wait all at once are each answered, to whom asked.
func TestABurstOfQueries(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	at, _ := resolve(t, c, named("a", "10.0.0.1", "web"))
	_, _ = resolve(t, c, named("b", "fd00::2", "db"))
	// Those with too long an answer for what is plain.
	many := named("c", "10.0.1.0", "many")
	for i := range 30 {
		many.Endpoints[0].Addrs = append(many.Endpoints[0].Addrs, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
	}
	_, _ = resolve(t, c, many)
	kinds := []struct {
		name    string
		qtype   uint16
		edns    uint16
		answers int
	}{
		{"web.", wire.TypeA, 0, 1}, // this one is answered directly, as the bytes show
		{"WEB.net.", wire.TypeA, 1232, 1},
		{"db.", wire.TypeAAAA, 0, 1},
		{"db.", wire.TypeA, 0, 0},
		{"web.", wire.TypeMX, 0, 0},
		{"1.0.0.10.in-addr.arpa.", wire.TypePTR, 0, 1},
		{"many.", wire.TypeA, 4096, 31},
		{"localhost.", wire.TypeA, 0, 1},
	}
	conns := []net.Conn{dial(t, "udp", at), dial(t, "udp", at)}
	const each = 3 * queryBurst / 2
	for i := range each {
		for who, conn := range conns {
			k := kinds[i%len(kinds)]
			m := new(wire.Msg).SetQuestion(k.name, k.qtype)
			m.Id = uint16(1000*who + i)
			if k.edns > 0 {
				m.SetEdns0(k.edns, false)
			}
			packed, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for _, packet := range [][]byte{packed, make([]byte, dns.MaxQuery+1), {1, 2, 3}} { // the others have no answer
				if _, err := conn.Write(packet); err != nil {
					t.Fatal(err)
				}
				if i%20 != 0 {
					break
				}
			}
		}
	}
	buf := make([]byte, 8192)
	for who, conn := range conns {
		seen := make(map[int]bool)
		for len(seen) < each {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("after %d answers to %d: %v", len(seen), who, err)
			}
			m := new(wire.Msg)
			if err := m.Unpack(buf[:n]); err != nil {
				t.Fatal(err)
			}
			i := int(m.Id) - 1000*who
			if i < 0 || i >= each || seen[i] {
				t.Fatalf("%d has an answer with ID %d", who, m.Id)
			}
			seen[i] = true
			if i%len(kinds) == 0 && n != 12+9+16 {
				t.Errorf("the answer of %d bytes is not the direct one", n)
			}
			if k := kinds[i%len(kinds)]; m.Rcode != wire.RcodeSuccess || len(m.Answer) != k.answers || m.Question[0].Name != k.name {
				t.Errorf("%s %s: %s", k.name, wire.TypeToString[k.qtype], m)
			}
		}
	}
}

// What could not be sent to one keeps nobody else's answer back.
func TestAnAnswerThatCannotBeSent(t *testing.T) {
	t.Parallel()
	udp, tcp, at, _ := resolverSockets(t)
	defer udp.Close()
	defer tcp.Close()
	conn := dial(t, "udp", at)
	for range 3 {
		if _, err := conn.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
	}
	d := newDatagrams()
	n, err := d.read(int(udp.Fd()))
	if err != nil || n != 3 || string(d.packet(2)) != "question" || d.sender(2).Port != conn.LocalAddr().(*net.UDPAddr).Port {
		t.Fatalf("read %d, %v", n, err)
	}
	for i, text := range []string{"one", "two", "three"} {
		d.answer(i, append(d.room(), text...))
	}
	d.from[1].Family = unix.AF_INET6
	d.flush(int(udp.Fd()))
	buf := make([]byte, 64)
	for _, want := range []string{"one", "three"} {
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v; want %q", buf[:n], err, want)
		}
	}
	if _, err := d.read(int(udp.Fd())); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("read of nothing: %v", err)
	}
}
