package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab"
)

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
