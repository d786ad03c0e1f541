package dns

import (
	"testing"

	wire "github.com/miekg/dns"
)

// What a sandbox calls itself further does not take the place of another's own name,
// whole or with the network's, nor of what is the asker's own.
func TestNobodyTakesAnothersName(t *testing.T) {
	t.Parallel()
	u := &upstream{answer: func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{says(a, wire.RcodeNameError)}, nil }}
	r := New(u, nil)
	r.SetUpstreams(hosts("192.0.2.1"))
	on := func(network string, names []string, a ...string) Endpoint {
		return Endpoint{NetworkID: network, Network: network, Names: names, Addrs: addrs(a...)}
	}
	both := []Endpoint{on("a", []string{"both"}, "10.1.0.9"), on("b", []string{"both"}, "10.2.0.9")}
	both[1].Priority = 1
	r.Set(Sandbox{ID: "both", Outward: true, Endpoints: both})
	r.Set(Sandbox{ID: "thief", Endpoints: []Endpoint{on("a", []string{"thief", "a2", "shared", "localhost", "localhost.b", "a2.fairlead.internal"}, "10.1.0.6", "fd01::6")}})
	r.Set(Sandbox{ID: "a2", Endpoints: []Endpoint{on("a", []string{"A2", "shared"}, "10.1.0.2")}})
	r.Set(Sandbox{ID: "b2", Endpoints: []Endpoint{on("b", []string{"b2", "a2.a", "thief.a", "x.fairlead.internal"}, "10.2.0.2")}})
	r.Set(Sandbox{ID: "dotted", Endpoints: []Endpoint{on("b", []string{"both.a"}, "10.2.0.7")}})
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"a2", wire.TypeA, "NOERROR 10.1.0.2"},
		{"a2", wire.TypeAAAA, "NOERROR"}, // the thief has one
		{"a2.a", wire.TypeA, "NOERROR 10.1.0.2"},
		{"thief.a", wire.TypeA, "NOERROR 10.1.0.6"},
		{"shared.a", wire.TypeAAAA, "NOERROR fd01::6"},
		{"both.a", wire.TypeA, "NOERROR 10.2.0.7"}, // its own name
		{"localhost", wire.TypeA, "NOERROR 127.0.0.1"},
		{"localhost", wire.TypeAAAA, "NOERROR ::1"},
		{"localhost", wire.TypeTXT, "NOERROR"},
		{"a.b.LOCALHOST", wire.TypeA, "NOERROR 127.0.0.1"},
		{"a2.fairlead.internal", wire.TypeA, "NOERROR 10.1.0.2"},
		{"a2.a.fairlead.internal", wire.TypeA, "NOERROR 10.1.0.2"},
		{"x.fairlead.internal", wire.TypeA, "NXDOMAIN"},
		{"fairlead.internal", wire.TypeA, "NOERROR"},
		{"2.0.1.10.in-addr.arpa.fairlead.internal", wire.TypePTR, "NXDOMAIN"},
	} {
		if got := said(ask(t, r, "both", question(c.name, c.qtype), UDP)); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.name, wire.TypeToString[c.qtype], got, c.want)
		}
	}
	if log := u.log(); len(log) > 0 {
		t.Errorf("others were asked: %v", log)
	}
	// The thief goes, and with it nothing of a2; a2 goes, and the name is free.
	r.Remove("a2")
	if got := said(ask(t, r, "both", question("a2", wire.TypeA), UDP)); got != "NOERROR 10.1.0.6" {
		t.Errorf("a name that nobody has as its own: %q", got)
	}
}

func TestReserved(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"localhost": true, "LocalHost.": true, "a.localhost": true, "fairlead.internal": true, "x.Fairlead.internal": true,
		"localhost.a": false, "notlocalhost": false, "internal": false, "xfairlead.internal": false, "": false,
	} {
		if Reserved(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}
