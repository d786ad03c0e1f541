package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab"
)

// external is the address of everything under the domain that the host searches, and of
// nothing else.
const external = "203.0.113.66"

// The addresses of the host on networks A and I.
const (
	gatewayA4, gatewayA6 = "10.101.0.1", "fd00:a::1"
)

// namesConf is a resolv.conf for hosts that ask far, by IPv4 and then by IPv6, and search
// a domain of its: names with few dots there first of all.
func namesConf(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver " + far4 + "\nnameserver " + far6 + "\nsearch site.example\noptions ndots:1\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// namesRange is an attack range whose host asks far, which knows the domain that the host
// searches.
type namesRange struct {
	far map[string]*nameServer // by address
	a3  box
}

// ask has far answer at one of its addresses.
func (n *namesRange) ask(server string) {
	for addr, s := range n.far {
		s.refuse(addr != server)
	}
}

func (n *namesRange) prepare(t *testing.T, r *attackRange) {
	n.far = make(map[string]*nameServer)
	for _, addr := range []string{far4, far6} {
		n.far[addr] = serveNames(t, r.far, at(addr, "53"), "site.example", external)
	}
	// Each by its address: what answers a datagram at all of them does so by another.
	for _, addr := range []string{host4, host6, gatewayA4, gatewayA6, gatewayI4, gatewayI6} {
		r.host.Listen("tcp", at(addr, "53"))
		r.host.Listen("udp", at(addr, "53"))
	}
	n.a3 = r.idle("--name", "a3", "--network", "A", "--network-alias", "alpha", "--dns-option", "ndots:3")
	// It goes by a2's name on its network, and by a2's on network A.
	r.idle("--name", "b2", "--network", "B", "--network-alias", "a2", "--network-alias", "a2.A")
	r.idle("--name", "b3", "--network", "A", "-h", "a2", "--network-alias", "a2", "--network-alias", "alpha")
	r.idle("--name", "both", "--network", "A", "--network", "B")
}

// TestAttackNames: 15, nothing that an internal network asks for goes out, nor does it
// ask by itself; 16, it has its own names all the same, and no other service of the
// host; 23, a container is found before what a domain that the host searches has of its
// name; 24, names stay on their network, and nobody takes another's; 25, no forged answer
// is believed.
func TestAttackNames(t *testing.T) {
	attackedWith(t, []string{"--resolv-conf", namesConf(t)}, func(t *testing.T, r *attackRange) *namesRange {
		n := new(namesRange)
		n.prepare(t, r)
		return n
	}, func(t *testing.T, r *attackRange, n *namesRange) {
		n.internal(t, r)
		if full() || r.moment == atFirst { // no rule is between a container and its resolver
			n.searched(t, r)
			n.claimed(t, r)
		}
		n.forged(t, r)
	})
}

// label is one that nobody has asked for.
func label(what string) string { return fmt.Sprintf("%s-%016x", what, rand.Uint64()) }

// internal is rows 15 and 16.
func (n *namesRange) internal(t *testing.T, r *attackRange) {
	i2 := r.idle("--network", "I", "--network-alias", "i2", "--dns", far4, "--dns", far6, "--dns", host4)
	defer r.Must("rm", "-f", i2.id)
	ears := []*lab.Frames{r.far.Frames("eth0"), r.router.Frames("eth0"), r.abroad.Frames("eth0")}
	reverse4, reverse6 := "2.100.51.198.in-addr.arpa", strings.Repeat("2.", 31)+"2.ip6.arpa"
	var secrets []string
	var wg sync.WaitGroup
	for _, from := range []box{r.i1, i2} {
		for _, proto := range []string{"udp", "tcp"} {
			for _, qtype := range []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeTXT, wire.TypePTR, wire.TypeANY} {
				secret := label("secret")
				secrets = append(secrets, secret)
				for _, name := range []string{secret + ".site.example", secret, reverse4, reverse6} {
					wg.Go(func() {
						if got, err := query(from.Host, proto, resolver, name, qtype); err != nil || got != "SERVFAIL" {
							t.Errorf("%s asks by %s for %s %s: %q, %v", from.Name(), proto, name, wire.TypeToString[qtype], got, err)
						}
					})
				}
			}
		}
	}
	wg.Wait()
	r.i1.resolves("i2", wire.TypeA, "NOERROR "+i2.addr4.String())
	r.i1.resolves("i2", wire.TypeAAAA, "NOERROR "+i2.addr6.String())
	open := label("open")
	r.a1.resolves(open+".site.example", wire.TypeA, "NOERROR "+external)
	if missing := ears[0].Missing([]string{open}, 10*time.Second); len(missing) > 0 {
		t.Errorf("cannot tell: what network A asks for is not heard at its server")
	}
	for _, ear := range ears {
		if missing := ear.Missing(secrets, 300*time.Millisecond); len(missing) != len(secrets) {
			t.Errorf("%d names that an internal network asked for were heard outside", len(secrets)-len(missing))
		}
		ear.Close()
	}
	var pairs [][2]lab.Probe
	for _, addrs := range [][2]string{{host4, host4}, {host6, host6}, {gatewayI4, gatewayA4}, {gatewayI6, gatewayA6}} {
		for _, proto := range []string{"udp", "tcp"} {
			pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, proto, at(addrs[0], "53")), from(r.a1.Host, proto, at(addrs[1], "53"))})
		}
	}
	barred(t, pairs...)
}

// searched is row 23.
func (n *namesRange) searched(t *testing.T, r *attackRange) {
	a24, a26 := r.a2.addr4.String(), r.a2.addr6.String()
	for _, server := range []string{far4, far6} {
		n.ask(server)
		before := n.far[server].count()
		eventually(t, "the server at "+server+" is asked", func() bool {
			_, err := query(r.a1.Host, "udp", resolver, label("first")+".site.example", wire.TypeA)
			return err == nil && n.far[server].count() > before
		})
		var waiting sync.WaitGroup
		for _, from := range []box{r.a1, n.a3} {
			// The control: the program searches the domain, and finds there what is not here,
			// which does not answer.
			waiting.Go(func() { contains(t, "ping", r.called(from, "nobody"), "("+external+")") })
			contains(t, "ping by a container's name", r.called(from, "a2"), "("+a24+")")
			contains(t, "ping by a container's name on a network", r.called(from, "a2.A"), "("+a24+")")
			from.resolves("a2", wire.TypeAAAA, "NOERROR "+a26)
			from.resolves("a2.fairlead.internal", wire.TypeAAAA, "NOERROR "+a26)
			// Who says which domain is meant gets that one.
			from.resolves("a2.site.example", wire.TypeA, "NOERROR "+external)
		}
		waiting.Wait()
		if n.far[server].heard("a2") || n.far[server].heard("a2.fairlead.internal") {
			t.Errorf("a container's name was asked for outside")
		}
	}
	n.ask(far4)
}

// called is what ping says in the container, which asks as all its programs do.
func (r *attackRange) called(from box, name string) string {
	r.t.Helper()
	out, stderr, _ := r.CLI("exec", from.id, "ping", "-4", "-c", "1", "-W", "1", name)
	return out + stderr
}

// claimed is row 24.
func (n *namesRange) claimed(t *testing.T, r *attackRange) {
	a24, a26 := r.a2.addr4.String(), r.a2.addr6.String()
	b2, both := r.box("b2"), r.box("both")
	for _, name := range []string{"a1", "a2.A", "alpha", "a3.A", r.a1.id[:12]} {
		if name == "a2.A" {
			continue // which b2 goes by
		}
		for _, qtype := range []uint16{wire.TypeA, wire.TypeAAAA} {
			r.b1.resolves(name, qtype, "NXDOMAIN")
		}
	}
	for _, addr := range []string{a24, a26} {
		back, err := wire.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		r.b1.resolves(back, wire.TypePTR, "NXDOMAIN")
		r.a1.resolves(back, wire.TypePTR, "NOERROR a2.a.")
	}
	for _, name := range []string{"alpha", "a2", "b1"} {
		if got := register(t, r.b1.Host, name, r.b1.addr4.String()); got != "NOTIMP" {
			t.Errorf("a registration of %s by a container is answered with %s", name, got)
		}
	}
	// The controls: b1 has what is its network's, and a name that anybody may have is
	// everybody's who has it.
	r.b1.resolves("a2", wire.TypeA, "NOERROR "+b2.addr4.String())
	alpha := []string{n.a3.addr4.String(), r.box("b3").addr4.String()}
	slices.Sort(alpha)
	r.a1.resolves("alpha", wire.TypeA, "NOERROR "+strings.Join(alpha, " "))
	for _, from := range []box{r.a1, both} {
		from.resolves("a2", wire.TypeA, "NOERROR "+a24)
		from.resolves("a2", wire.TypeAAAA, "NOERROR "+a26)
		from.resolves("a2.A", wire.TypeA, "NOERROR "+a24)
		from.resolves("a2.A", wire.TypeAAAA, "NOERROR "+a26)
	}
	for _, alias := range []string{"localhost", "a.LOCALHOST", "fairlead.internal", "x.fairlead.internal"} {
		if _, stderr, code := r.CLI("network", "connect", "--alias", alias, "A", "b1"); code == 0 || !strings.Contains(stderr, "reserved") {
			t.Errorf("alias %s: exit status %d\n%s", alias, code, stderr)
		}
		if _, stderr, code := r.CLI("create", "--network", "A", "--network-alias", alias, "demo", "true"); code == 0 || !strings.Contains(stderr, "reserved") {
			t.Errorf("a container with alias %s: exit status %d\n%s", alias, code, stderr)
		}
	}
	r.a1.resolves("localhost", wire.TypeA, "NOERROR 127.0.0.1")
	r.a1.resolves("x.localhost", wire.TypeAAAA, "NOERROR ::1")
	r.a1.resolves("nobody.fairlead.internal", wire.TypeA, "NXDOMAIN")
}

// register asks a container's resolver to register a name (RFC 2136), and returns its
// answer.
func register(t *testing.T, h *lab.Host, name, addr string) string {
	t.Helper()
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = net.Dial("udp", resolver)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rr, err := wire.NewRR(name + ". 60 IN A " + addr)
	if err != nil {
		t.Fatal(err)
	}
	m := new(wire.Msg).SetUpdate(".")
	m.Insert([]wire.RR{rr})
	answer, _, err := (&wire.Client{Timeout: 5 * time.Second}).ExchangeWithConn(m, &wire.Conn{Conn: conn})
	if err != nil {
		return err.Error()
	}
	return wire.RcodeToString[answer.Rcode]
}

// count is how many queries came.
func (s *nameServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}
