package e2e

import (
	"errors"
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

// TestDNSNames: containers of an own network know each other by name, alias, short
// ID, hostname and link, in both families and both directions; and nobody else does.
func TestDNSNames(t *testing.T) { forBackends(t, testDNSNames) }

func testDNSNames(t *testing.T, backend string) {
	s, outside, _ := namesSiteOn(t, backend)
	s.Must("network", "create", "--ipv6", "front")
	s.Must("network", "create", "--internal", "back")
	web := s.idle("--name", "Web", "--network", "front", "--network-alias", "www", "-h", "webhost")
	db := s.idle("--name", "db", "--network", "front", "--network-alias", "www", "--link", "Web:shop")
	s.Must("network", "connect", "back", "db")
	lone := s.idle("--name", "lone", "--network", "back")
	plain := s.idle("--name", "plain")
	web4, web6 := web.on("front")
	db4, db6 := db.on("front")
	dbBack, _ := db.on("back")
	shared := []string{web4, db4}
	slices.Sort(shared)
	back := func(addr string) string {
		name, err := wire.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		from  box
		name  string
		qtype uint16
		want  string
	}{
		{db, "Web", wire.TypeA, "NOERROR " + web4},
		{db, "web.front", wire.TypeAAAA, "NOERROR " + web6},
		{db, "webhost", wire.TypeA, "NOERROR " + web4},
		{db, web.id[:12], wire.TypeA, "NOERROR " + web4},
		{db, "www", wire.TypeA, "NOERROR " + strings.Join(shared, " ")},
		{db, "shop", wire.TypeA, "NOERROR " + web4},
		{web, "shop", wire.TypeA, "NXDOMAIN"},
		{web, "db", wire.TypeAAAA, "NOERROR " + db6},
		{web, "db.back", wire.TypeA, "NXDOMAIN"},
		{web, back(db4), wire.TypePTR, "NOERROR db.front."},
		{web, back(db6), wire.TypePTR, "NOERROR db.front."},
		// There in the other family, or as another type; and not there at all.
		{lone, "db", wire.TypeA, "NOERROR " + dbBack},
		{lone, "db", wire.TypeAAAA, "NOERROR"},
		{lone, "db", wire.TypeMX, "NOERROR"},
		{web, "nothing", wire.TypeA, "NXDOMAIN"},
		// What others know; not on a network that does not lead out.
		{web, "x.example.org", wire.TypeA, "NOERROR 203.0.113.1"},
		{db, "x.example.org", wire.TypeA, "NOERROR 203.0.113.1"},
		{lone, "secret.example.org", wire.TypeA, "SERVFAIL"},
	} {
		c.from.resolves(c.name, c.qtype, c.want)
	}
	if outside.heard("secret.example.org") {
		t.Error("a name that an internal network asked for was asked for outside")
	}
	for name := range map[string]bool{"web": true, "db": true, "www": true} {
		if outside.heard(name) {
			t.Errorf("%s was asked for outside", name)
		}
	}
	// An answer too long for UDP is fetched, and given, by TCP.
	if got, err := query(web.Host, "tcp", resolver, "big.example.org", wire.TypeA); err != nil || strings.Count(got, "198.51.100.") != 100 {
		t.Errorf("by TCP: %q, %v", got, err)
	}
	// The program in the container finds it by the file.
	contains(t, "ping in the container", s.Must("exec", "db", "ping", "-c", "1", "www.front"), "1 packets received")
	contains(t, "ping in the container, by link", s.Must("exec", "db", "ping", "-c", "1", "shop"), web6, "1 packets received")
	contains(t, "nslookup in the container", s.Must("exec", "db", "nslookup", "web."), web4)
	if got := db.resolvConf(); got != "nameserver 127.0.0.11\nsearch site.example\noptions ndots:0" {
		t.Errorf("resolv.conf of a container on an own network:\n%s", got)
	}
	// On the default network there are no names, and the servers are the host's.
	if got := plain.resolvConf(); got != "nameserver "+outside4+"\nsearch site.example" {
		t.Errorf("resolv.conf of a container on the default network:\n%s", got)
	}
	if _, err := query(plain.Host, "tcp", resolver, "web", wire.TypeA); err == nil {
		t.Error("a container on the default network has a resolver")
	}
	s.consistent()
}

// TestDNSFollowsContainers: names come and go with containers, connections and new
// names; the file changes where it has to, and not where its user changed it.
func TestDNSFollowsContainers(t *testing.T) {
	t.Parallel()
	s, _, _ := namesSite(t)
	s.Must("network", "create", "front")
	web := s.idle("--name", "web", "--network", "front")
	late := s.idle("--name", "late")
	edited := s.idle("--name", "edited")
	s.Must("exec", "edited", "sh", "-c", "echo nameserver 192.0.2.99 >/etc/resolv.conf")
	for _, name := range []string{"late", "edited"} {
		s.Must("network", "connect", "--alias", name+"-alias", "front", name)
	}
	web4, _ := web.on("front")
	late4, _ := late.on("front")
	late.resolves("web", wire.TypeA, "NOERROR "+web4)
	web.resolves("late-alias", wire.TypeA, "NOERROR "+late4)
	contains(t, "resolv.conf after the first own network", late.resolvConf(), "nameserver 127.0.0.11\n")
	if got := edited.resolvConf(); got != "nameserver 192.0.2.99" {
		t.Errorf("a resolv.conf that was edited in the container became\n%s", got)
	}
	s.Must("rename", "web", "site")
	late.resolves("site", wire.TypeA, "NOERROR "+web4)
	late.resolves("web", wire.TypeA, "NXDOMAIN")
	s.Must("network", "disconnect", "front", "edited")
	late.resolves("edited", wire.TypeA, "NXDOMAIN")
	s.Must("rm", "-f", "site")
	late.resolves("site", wire.TypeA, "NXDOMAIN")
	s.consistent()
}

// TestDNSServers: who is asked for other names, and from where.
func TestDNSServers(t *testing.T) {
	t.Parallel()
	s, outside, conf := namesSite(t)
	s.Must("network", "create", "--ipv6", "front")
	// A container that is a name server: port 53 is its own.
	ns := s.idle("--name", "ns", "--network", "front")
	inside := serveNames(t, ns.Host, "[::]:53", "inner.example", "203.0.113.7")
	ns4, ns6 := ns.on("front")
	ns.resolves("ns", wire.TypeA, "NOERROR "+ns4)
	user := s.idle("--name", "user", "--network", "front", "--dns", ns4, "--dns-search", "inner.example", "--dns-option", "ndots:1")
	user.resolves("a.inner.example", wire.TypeA, "NOERROR 203.0.113.7")
	user.resolves("big.inner.example", wire.TypeAAAA, "NOERROR")
	user.resolves("a.example.org", wire.TypeA, "NXDOMAIN")
	user.resolves("ns", wire.TypeA, "NOERROR "+ns4)
	// With ndots a name without dots is the search list's affair.
	user.resolves("alone", wire.TypeA, "NXDOMAIN")
	if inside.heard("alone") {
		t.Error("a name without dots was forwarded where ndots is set")
	}
	user4, _ := user.on("front")
	if inside.mu.Lock(); !inside.peers[user4] || len(inside.peers) != 1 {
		t.Errorf("the server of --dns was asked by %v, want %s alone", inside.peers, user4)
	}
	inside.mu.Unlock()
	if got := user.resolvConf(); got != "nameserver 127.0.0.11\nsearch fairlead.internal inner.example\noptions ndots:1" {
		t.Errorf("resolv.conf:\n%s", got)
	}
	six := s.idle("--network", "front", "--dns", ns6)
	six.resolves("a.inner.example", wire.TypeA, "NOERROR 203.0.113.7")
	// The host's servers are asked by the host, also those on its own loopback, and
	// as its file has them now.
	if outside.mu.Lock(); len(outside.peers) > 1 || (len(outside.peers) == 1 && !outside.peers[host4]) {
		t.Errorf("the host's server was asked by %v", outside.peers)
	}
	outside.mu.Unlock()
	serveNames(t, s.host, "127.0.0.1:53", "example.org", "203.0.113.2")
	serveNames(t, s.outside, "["+outside6+"]:53", "example.org", "203.0.113.6")
	for server, want := range map[string]string{"127.0.0.1": "203.0.113.2", outside6: "203.0.113.6"} {
		if err := errors.Join(os.WriteFile(conf+".new", []byte("nameserver "+server+"\n"), 0o644), os.Rename(conf+".new", conf)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the host's new server "+server+" is asked", func() bool {
			got, err := query(ns.Host, "udp", resolver, "b.example.org", wire.TypeA)
			return err == nil && got == "NOERROR "+want
		})
	}
	s.consistent()
}

// TestDNSDaemonOptions: what the daemon is told of names is for containers that say
// nothing themselves.
func TestDNSDaemonOptions(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	serveNames(t, s.outside, outside4+":53", "example.org", "203.0.113.1")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{
		"--dns", outside4, "--dns-search", "corp.example", "--dns-opt", "timeout:3",
	}})
	s.importImage("demo")
	s.Must("network", "create", "front")
	a := s.idle("--network", "front")
	a.resolves("x.example.org", wire.TypeA, "NOERROR 203.0.113.1")
	if got := a.resolvConf(); got != "nameserver 127.0.0.11\nsearch corp.example\noptions timeout:3 ndots:0" {
		t.Errorf("resolv.conf:\n%s", got)
	}
	b := s.idle("--dns", "192.0.2.77", "--dns-search", "x")
	if got := b.resolvConf(); got != "nameserver 192.0.2.77\nsearch x\noptions timeout:3" {
		t.Errorf("resolv.conf of one that says otherwise, on the default network:\n%s", got)
	}
}

// asksAgainAndAgain asks by both protocols until the returned function is called; an
// answer that is not the one wanted, or none, fails the test.
func (b box) asksAgainAndAgain(names map[string]string) (stop func()) {
	b.s.t.Helper()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for _, proto := range []string{"udp", "tcp"} {
		for name, want := range names {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-ended:
						b.s.t.Logf("%d queries by %s for %s", n, proto, name)
						return
					case <-time.After(5 * time.Millisecond):
					}
					if got, err := query(b.Host, proto, resolver, name, wire.TypeA); err != nil || got != want {
						b.s.t.Errorf("query %d by %s for %s: %q, %v", n, proto, name, got, err)
						return
					}
				}
			})
		}
	}
	return sync.OnceFunc(func() {
		close(ended)
		wg.Wait()
	})
}

// TestDNSOutlivesAnUpgrade: no query is lost when daemon and relay are replaced by
// those of another build.
func TestDNSOutlivesAnUpgrade(t *testing.T) {
	t.Parallel()
	s, _, _ := namesSite(t)
	s.Must("network", "create", "front")
	web := s.idle("--name", "web", "--network", "front")
	db := s.idle("--name", "db", "--network", "front")
	web4, _ := web.on("front")
	other := lab.OtherBinary(t)
	before := s.relays()
	stop := db.asksAgainAndAgain(map[string]string{"web": "NOERROR " + web4, "y.example.org": "NOERROR 203.0.113.1"})
	for _, binary := range []string{other, lab.Binary(t)} {
		s.Stop()
		s.Binary = binary
		s.Start()
	}
	stop()
	if now := s.relays(); slices.Equal(now, before) {
		t.Errorf("the relay was not replaced: %v", now)
	}
	s.Must("rm", "-f", "web")
	db.resolves("web", wire.TypeA, "NXDOMAIN")
	s.consistent()
}

// TestDNSOutlivesTheDaemon: names are answered while the daemon is killed and comes
// back, and again right after the relay was.
func TestDNSOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	s, _, _ := namesSite(t)
	s.Must("network", "create", "front")
	web := s.idle("--name", "web", "--network", "front")
	db := s.idle("--name", "db", "--network", "front")
	web4, _ := web.on("front")
	stop := db.asksAgainAndAgain(map[string]string{"web": "NOERROR " + web4, "y.example.org": "NOERROR 203.0.113.1"})
	time.Sleep(100 * time.Millisecond)
	s.Kill()
	time.Sleep(300 * time.Millisecond)
	s.Start()
	third := s.idle("--name", "third", "--network", "front")
	third4, _ := third.on("front")
	stop()
	db.resolves("third", wire.TypeA, "NOERROR "+third4)

	s.shoot("relay", s.relays())
	began := time.Now()
	for {
		if got, err := query(db.Host, "tcp", resolver, "third", wire.TypeA); err == nil && got == "NOERROR "+third4 {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("five seconds after the relay was killed names are not answered\n%s", s.LogTail(20))
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("names were answered again %s after the relay was killed", time.Since(began))
	eventually(t, "another container has names again", func() bool {
		got, err := query(third.Host, "udp", resolver, "web", wire.TypeA)
		return err == nil && got == "NOERROR "+web4
	})
	s.consistent()
	// What was opened anew does not keep a container either.
	s.Must("rm", "-f", "third")
	db.resolves("third", wire.TypeA, "NXDOMAIN")
	s.consistent()
}

// TestDNSRelayKilledAmidWork: who comes right after the relay was killed waits for the
// next one, and fails for nothing.
func TestDNSRelayKilledAmidWork(t *testing.T) {
	t.Parallel()
	s, _, _ := namesSite(t)
	s.Must("network", "create", "front")
	db := s.idle("--name", "db", "--network", "front")
	for range 3 {
		s.shoot("relay", s.relays())
		web := s.idle("--name", "web", "--network", "front")
		web4, _ := web.on("front")
		eventually(t, "names are answered again", func() bool {
			got, err := query(db.Host, "udp", resolver, "web", wire.TypeA)
			return err == nil && got == "NOERROR "+web4
		})
		s.shoot("relay", s.relays())
		s.Must("rm", "-f", "web")
		s.consistent()
	}
}

// TestDNSWithoutNftables: on a kernel without nf_tables, which a system call filter
// plays, names are answered all the same.
func TestDNSWithoutNftables(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "fairlead")
	text := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s %s \"$@\"\n", withoutNetfilter, self, lab.Binary(t))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Args: []string{"--iptables=false"}})
	s.Binary = script
	s.Start()
	s.importImage("demo")
	s.Must("network", "create", "front")
	a := s.idle("--name", "a", "--network", "front")
	b := s.idle("--name", "b")
	s.Must("network", "connect", "front", "b")
	a4, _ := a.on("front")
	b.resolves("a", wire.TypeA, "NOERROR "+a4)
	contains(t, "the daemon's log", s.LogTail(100), "takes its port 53")
	s.Must("network", "disconnect", "front", "b")
	if _, err := query(b.Host, "tcp", resolver, "a", wire.TypeA); err == nil {
		t.Error("the resolver stayed")
	}
	s.Must("rm", "-f", "a", "b")
}
