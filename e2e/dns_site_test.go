package e2e

import (
	"fmt"
	"net"
	"net/netip"
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

// resolver is where containers ask.
const resolver = "127.0.0.11:53"

// query asks a server from inside a host and returns its answer in short: the code,
// and what the records say, in order.
func query(h *lab.Host, proto, server, name string, qtype uint16) (string, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = net.DialTimeout(proto, server, 2*time.Second)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	q := new(wire.Msg).SetQuestion(wire.Fqdn(name), qtype)
	m, _, err := (&wire.Client{Net: proto, Timeout: 6 * time.Second}).ExchangeWithConn(q, &wire.Conn{Conn: conn})
	if err != nil {
		return "", err
	}
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(append([]string{wire.RcodeToString[m.Rcode]}, out...), " "), nil
}

// resolves asks the container's resolver by both protocols.
func (b box) resolves(name string, qtype uint16, want string) {
	b.s.t.Helper()
	for _, proto := range []string{"udp", "tcp"} {
		if got, err := query(b.Host, proto, resolver, name, qtype); err != nil || got != want {
			b.s.t.Errorf("%s asks by %s for %s %s: %q, %v; want %q", b.Name(), proto, name, wire.TypeToString[qtype], got, err, want)
		}
	}
}

// nameServer is a server on a host, by both protocols. It knows hosts of one domain,
// and remembers what was asked and by whom.
type nameServer struct {
	mu    sync.Mutex
	asked []string
	peers map[string]bool
	// before is called with what comes by UDP, before it is answered; it may be nil.
	before func(q *wire.Msg, from netip.AddrPort)
	// refuses has it answer nothing.
	refuses bool
}

// refuse has it answer nothing, or go on.
func (s *nameServer) refuse(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = now
}

// beforehand has f called before each answer by UDP.
func (s *nameServer) beforehand(f func(q *wire.Msg, from netip.AddrPort)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// serveNames starts a server that has addr for every name under domain, and nothing
// else; names that begin with big. have so many that they only go by TCP.
func serveNames(t *testing.T, h *lab.Host, address, domain, addr string) *nameServer {
	t.Helper()
	s := &nameServer{peers: make(map[string]bool)}
	var pc net.PacketConn
	var l net.Listener
	err := h.Do(func() (err error) {
		if pc, err = net.ListenPacket("udp", address); err != nil {
			return err
		}
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatalf("serve names at %s on %s: %v", address, h.Name(), err)
	}
	for _, server := range []*wire.Server{{PacketConn: pc}, {Listener: l}} {
		udp := server.PacketConn != nil
		server.Handler = wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
			_ = w.WriteMsg(s.answer(q, w.RemoteAddr(), domain, addr, udp))
		})
		done := make(chan struct{})
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = server.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-done
		})
	}
	return s
}

func (s *nameServer) answer(q *wire.Msg, from net.Addr, domain, addr string, udp bool) *wire.Msg {
	name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
	host, _, _ := net.SplitHostPort(from.String())
	s.mu.Lock()
	s.asked = append(s.asked, name)
	s.peers[host] = true
	before, refuses := s.before, s.refuses
	s.mu.Unlock()
	if before != nil && udp {
		before(q, netip.MustParseAddrPort(from.String()))
	}
	m := new(wire.Msg).SetReply(q)
	switch {
	case refuses:
		m.Rcode = wire.RcodeRefused
	case name != domain && !strings.HasSuffix(name, "."+domain):
		m.Rcode = wire.RcodeNameError
	case strings.HasPrefix(name, "big.") && udp:
		m.Truncated = true
	case q.Question[0].Qtype == wire.TypeA:
		rr, _ := wire.NewRR(q.Question[0].Name + " 1 IN A " + addr)
		m.Answer = append(m.Answer, rr)
		for i := range 100 {
			if strings.HasPrefix(name, "big.") {
				rr, _ := wire.NewRR(fmt.Sprintf("%s 1 IN A 198.51.100.%d", q.Question[0].Name, i))
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	return m
}

func (s *nameServer) heard(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.asked, name)
}

// namesSite is a site whose host asks a server outside, which knows example.org.
func namesSite(t *testing.T) (s *site, outside *nameServer, conf string) {
	t.Helper()
	return namesSiteOn(t, nftables)
}

func namesSiteOn(t *testing.T, backend string) (s *site, outside *nameServer, conf string) {
	t.Helper()
	s = newHosts(t)
	outside = serveNames(t, s.outside, outside4+":53", "example.org", "203.0.113.1")
	conf = filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+outside4+"\nsearch site.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.startOn(backend, "--resolv-conf", conf)
	return s, outside, conf
}

// resolvConf is the file as the container sees it.
func (b box) resolvConf() string { return b.s.Must("exec", b.id, "cat", "/etc/resolv.conf") }

// on is the container's address on a network.
func (b box) on(network string) (v4, v6 string) {
	n := b.s.inspect(b.id).NetworkSettings.Networks[network]
	return n.IPAddress, n.GlobalIPv6Address
}
