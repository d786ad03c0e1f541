package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestC4: with --icc=false and a link, the linking container reaches the ports that
// the other exposes and no others; no other container does, and not the other way
// round; also after restarts, and on a network of one's own. In short that one is by one
// back end and the default network by the other; make attack has both by both.
func TestC4(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend, "--icc=false", "--ipv6")
		s.importImage("web", "EXPOSE 80 53/udp", `CMD ["sleep","3600"]`)
		s.Must(append([]string{"network", "create", "--ipv6", "apart"}, iccOff...)...)
		for n, network := range []string{"bridge", "apart"} {
			if !chosen(n, slices.Index(backends, backend)) {
				continue
			}
			web := s.run("--name", "web", "--network", network, "--expose", "8080", "web")
			db := s.idle("--name", "db", "--network", network, "--link", "web:web")
			other := s.idle("--network", network)
			s.linkHolds(web, db, other)
			s.Restart()
			s.linkHolds(web, db, other)
			if network == "bridge" { // it comes back with another address
				s.Must("kill", "web")
				s.Must("wait", "web")
				third := s.idle()
				s.Must("start", "web")
				moved := s.box("web")
				if moved.addr4 == web.addr4 {
					t.Errorf("web has its old address %s, which was to be another's", moved.addr4)
				}
				s.linkHolds(moved, db, third)
				s.Must("rm", "-f", third.id)
			}
			s.consistent()
			s.Must("rm", "-f", "web", "db", other.id)
			s.consistent()
		}
	})
}

// linkHolds checks both sides of C4: what the link opens, and what it does not.
func (s *site) linkHolds(web, db, other box) {
	s.t.Helper()
	var servers []*lab.Server
	var pairs [][2]lab.Probe
	for _, family := range []struct {
		any     string
		web, db netip.Addr
	}{{"0.0.0.0", web.addr4, db.addr4}, {"::", web.addr6, db.addr6}} {
		if !family.web.IsValid() {
			continue
		}
		for _, port := range []struct {
			proto, port string
			open        bool
		}{{"tcp", "80", true}, {"tcp", "8080", true}, {"udp", "53", true}, {"udp", "80", false}, {"tcp", "53", false}, {"tcp", "81", false}} {
			servers = append(servers, web.Listen(port.proto, at(family.any, port.port)), db.Listen(port.proto, at(family.any, port.port)))
			to := at(family.web, port.port)
			if port.open {
				if r := lab.Seen(s.t, db.Host, port.proto, to); r.Host != web.Name() {
					s.t.Errorf("%s answered db at %s/%s", r.Host, to, port.proto)
				}
			} else {
				pairs = append(pairs, [2]lab.Probe{from(db.Host, port.proto, to), from(s.host, port.proto, to)})
			}
			back := at(family.db, port.port)
			pairs = append(pairs,
				[2]lab.Probe{from(other.Host, port.proto, to), from(s.host, port.proto, to)},
				[2]lab.Probe{from(web.Host, port.proto, back), from(s.host, port.proto, back)})
		}
		pairs = append(pairs, [2]lab.Probe{from(db.Host, "icmp", family.web.String()), from(s.host, "icmp", family.web.String())})
	}
	barred(s.t, pairs...)
	for _, srv := range servers {
		srv.Close()
	}
	if lost := frames(s.t, other, web); len(lost) != len(frameKinds) {
		s.t.Errorf("of another container's frames to web only these were stopped: %q", lost)
	}
	// Nor does the address of the one that is linked help another.
	to, err := net.ParseMAC(interfaces(s.t, web.Host)["eth0"].MAC)
	if err != nil {
		s.t.Fatal(err)
	}
	ear := web.Frames("eth0")
	defer ear.Close()
	for _, b := range []box{db, other} {
		b.SendFrame("eth0", to, 0x0800, syn(db.addr4, web.addr4, "by "+b.id))
	}
	if lost := ear.Missing([]string{"by " + db.id, "by " + other.id}, 300*time.Millisecond); len(lost) != 1 || lost[0] != "by "+other.id {
		s.t.Errorf("of a packet of db's and one with its address by another these were stopped: %q", lost)
	}
}

// syn is the beginning of a TCP connection to port 80 (RFC 9293), with a text.
func syn(from, to netip.Addr, text string) []byte {
	h := make([]byte, 20, 20+len(text))
	binary.BigEndian.PutUint16(h, 4444)
	binary.BigEndian.PutUint16(h[2:], 80)
	h[12], h[13] = 5<<4, 2
	return ipv4(from, to, 6, append(h, text...))
}
