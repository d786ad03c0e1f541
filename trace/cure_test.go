package trace

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// Indices of the links of apartOnes.
const (
	vaultBridge, safePort, safeIndex = 6, 7, 17
)

// apartOnes adds an internal network, vault, with container safe, whose traffic with others is
// dropped by our own table; bare is on no network.
func apartOnes(p *picture.Picture) {
	p.Table = "fairlead"
	p.Networks = append(p.Networks, spec.Network{
		ID: "n2", Name: "vault", Bridge: "br1", Internal: true, IPv4: true,
		Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.31.0.0/24"), Gateway: addr("10.31.0.1")}},
	})
	added := []picture.Link{
		{Index: vaultBridge, Name: "br1", Kind: "bridge", MTU: 1500, Up: true, Carrier: true, Addrs: prefixes("10.31.0.1/24")},
		{Index: safePort, Name: "veth3", Kind: "veth", Master: vaultBridge, Peer: safeIndex, MTU: 1500, Up: true, Carrier: true},
	}
	p.Host.Links = append(p.Host.Links, added...)
	p.Host.Routes = append(p.Host.Routes, routes(added, 0)...)
	ns := stack("/netns/safe", safePort, "02:42:0a:1f:00:02", "10.31.0.2/24")
	ns.Links[1].Index = safeIndex
	ns.Routes = slices.DeleteFunc(routes(ns.Links, 0), func(r picture.Route) bool { return r.Dst.Bits() == 0 })
	p.Containers = append(p.Containers,
		picture.Container{ID: "safe0000", Name: "safe", Running: true, Mode: "vault", Networks: []string{"vault"}, Namespace: ns},
		picture.Container{ID: "bare0000", Name: "bare", Running: true, Mode: "none", Namespace: &picture.Namespace{Path: "/netns/bare", Rules: everybodysRules()}})
	p.Attachments = append(p.Attachments, spec.Attachment{
		Sandbox:   spec.Sandbox{ID: "safe0000", Name: "safe", Path: "/netns/safe"},
		Endpoints: []spec.Endpoint{{NetworkID: "n2", Network: "vault", Bridge: "br1", HostIf: "veth3", Interface: "eth0", Addr4: netip.MustParsePrefix("10.31.0.2/24")}},
	})
	p.Host.Ruleset.Tables = append(p.Host.Ruleset.Tables, &netfilter.Table{
		Family: netfilter.FamilyInet, Name: "fairlead", Chains: map[string]*netfilter.Chain{"f": {Name: "f", Type: "filter", Hook: netfilter.Forward, Drop: true}},
	})
}

// withoutIPv6 has network back without it.
func withoutIPv6(p *picture.Picture) {
	p.Networks[0].Subnets = p.Networks[0].Subnets[:1]
	for i := range p.Attachments {
		e := &p.Attachments[i].Endpoints[0]
		e.Addr6, e.Gateway6 = netip.Prefix{}, netip.Addr{}
	}
}

func paused(i int) func(*picture.Picture) {
	return func(p *picture.Picture) { p.Containers[i].Paused = true }
}

func stoppedAs(status string) func(*picture.Picture) {
	return func(p *picture.Picture) {
		p.Containers[0].Running, p.Containers[0].Namespace, p.Containers[0].Status = false, nil, status
	}
}

// dbRoute adds a route to container db's.
func dbRoute(dst, via string) func(*picture.Picture) {
	return func(p *picture.Picture) {
		db(p).Routes = append(db(p).Routes, picture.Route{Table: tableMain, Kind: picture.Unicast, Dst: netip.MustParsePrefix(dst), Via: addr(via), Link: dbIndex})
	}
}

// noICC has network back keep its containers apart.
func noICC(change func(p *picture.Picture)) func(*picture.Picture) {
	return func(p *picture.Picture) {
		p.Table, p.Networks[0].ICC = "fairlead", false
		p.Host.Ruleset.Tables = append(p.Host.Ruleset.Tables, &netfilter.Table{
			Family: netfilter.FamilyBridge, Name: "fairlead", Chains: map[string]*netfilter.Chain{"c": {Name: "c", Type: "filter", Hook: netfilter.Forward, Drop: true}},
		})
		change(p)
	}
}

// strict has web, which has no route out but the given ones, check its senders.
func strict(keys ...string) func(*picture.Picture) {
	return func(p *picture.Picture) {
		for _, k := range keys {
			web(p).Sysctls["net/ipv4/conf/"+k+"/rp_filter"] = "1"
		}
	}
}

func both(changes ...func(*picture.Picture)) func(*picture.Picture) {
	return func(p *picture.Picture) {
		for _, c := range changes {
			c(p)
		}
	}
}

func webWithoutDefault(p *picture.Picture) {
	web(p).Routes = slices.DeleteFunc(web(p).Routes, func(r picture.Route) bool { return r.Dst.Bits() == 0 })
}

// secondUplink gives the host another interface that leads out, beside that of its default
// route; it checks its senders.
func secondUplink(p *picture.Picture) {
	added := []picture.Link{{Index: 8, Name: "second", Up: true, Carrier: true, MTU: 1500, Addrs: prefixes("198.51.100.1/24")}}
	p.Host.Links = append(p.Host.Links, added...)
	p.Host.Routes = append(p.Host.Routes, routes(added, uplink, "192.0.2.254")...)
	p.Host.Sysctls["net/ipv4/conf/second/rp_filter"] = "1"
}

// TestCures: the commands that are told open the way that was asked for.
func TestCures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ask    string
		change func(p *picture.Picture)
		code   string
		mend   string
		says   string
	}{
		{"db web:80", paused(0), "container-paused", "fairlead unpause web", "container web is paused"},
		{"db web", paused(0), "container-paused", "fairlead unpause web", "answers pings"},
		{"outside web:80", paused(0), "container-paused", "fairlead unpause web", "container web"},
		{"db 192.0.2.9", paused(1), "container-paused", "fairlead unpause db", "container db"},
		{"db safe", apartOnes, "internal-network", "fairlead network connect vault db", "vault is internal"},
		{"safe web:80", apartOnes, "internal-network", "fairlead network connect back safe", "vault is internal"},
		{"safe 192.0.2.9", apartOnes, "internal-network", "fairlead network connect bridge safe", "vault"},
		{"bare web:80", apartOnes, "no-network", "fairlead network disconnect none bare && fairlead network connect back bare", "none"},
		{"db bare", apartOnes, "no-network", "fairlead network disconnect none bare && fairlead network connect back bare", "none"},
		{"bare safe", apartOnes, "no-network", "fairlead network disconnect none bare && fairlead network connect vault bare", "none"},
		{"bare safe", both(apartOnes, func(p *picture.Picture) {
			e := p.Attachments[1].Endpoints[0]
			e.Addr4 = netip.MustParsePrefix("10.30.0.9/24")
			p.Attachments[2].Endpoints = append(p.Attachments[2].Endpoints, e)
		}), "no-network", "fairlead network disconnect none bare && fairlead network connect back bare", "none"},
		{"-6 db web:80", withoutIPv6, "no-ipv6", "fairlead network create --ipv6 NAME && fairlead network connect NAME db && fairlead network connect NAME web", "no address"},
		{"-6 db 2001:db8::9", both(withoutIPv6, withoutDefault), "no-ipv6", "fairlead network create --ipv6 NAME && fairlead network connect NAME db", "no IPv6"},
		{"-6 web safe", apartOnes, "no-ipv6", "fairlead network connect back safe", "safe"},
		{"db 203.0.113.9", dbRoute("203.0.113.0/24", "10.30.0.77"), "wrong-gateway", inDB + "ip route del 203.0.113.0/24 via 10.30.0.77 dev eth0", "route 203.0.113.0/24 via 10.30.0.77"},
		{"db 203.0.113.9", dbRoute("203.0.113.0/24", "10.30.0.2"), "wrong-gateway", inDB + "ip route del 203.0.113.0/24 via 10.30.0.2 dev eth0", "route 203.0.113.0/24 via 10.30.0.2"},
		{"db web:81", noICC(none), "icc-off", "fairlead run --name web --expose 81 … && fairlead run --name db --link web …", "icc"},
		{"db web:53/udp", noICC(none), "icc-off", "fairlead run --name web --expose 53/udp … && fairlead run --name db --link web …", "icc"},
		{"db web:80", noICC(none), "icc-off", "fairlead run --name db --link web …", "icc"},
		{"db web:81", noICC(func(p *picture.Picture) { p.Containers[0].Exposed = []string{"81/tcp"} }), "icc-off", "fairlead run --name db --link web …", "icc"},
		{"outside web:80", both(strict("eth0"), webWithoutDefault), "no-default-route", inWeb + "ip route add default via 10.30.0.1 dev eth0", "no default route"},
		{"outside web:80", both(strict("all", "eth0"), func(p *picture.Picture) {
			web(p).Routes = append(web(p).Routes, picture.Route{Table: tableMain, Kind: picture.Unicast, Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: lo})
		}), "rp-filter", inWeb + "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0", "all.rp_filter and net.ipv4.conf.eth0.rp_filter"},
		{"db web:80", stoppedAs("Exited (1) 2 seconds ago"), "container-stopped", "fairlead start web", "fairlead logs web"},
		{"db web:83", func(p *picture.Picture) {
			web(p).Listeners = append(web(p).Listeners, picture.Listener{Proto: "tcp", At: netip.MustParseAddrPort("[::]:83"), Process: "httpd", PID: 9})
		}, "ipv6-only", inWeb + "ss -ltnp sport = :83", "listens on IPv6 alone"},
		{"outside web:8080", none, "not-published", "fairlead why outside web:80/tcp", "port 8080 of the host is port 80 of container web: ask web:80, or 192.0.2.1:8080"},
		{"db web:8080", none, "nothing-listening", inWeb + "ss -ltnup", "port 8080 of the host is its port 80"},
		{"outside 198.51.100.1:80", secondUplink, "rp-filter", "sysctl -w net.ipv4.conf.second.rp_filter=0", "by second"},
	} {
		p := pictured()
		c.change(p)
		e, err := Explain(p, question(t, c.ask))
		if err != nil || e.Reachable || len(e.Causes) != 1 || e.Causes[0].Code != c.code {
			t.Errorf("%s: %v: %+v; want %s", c.ask, err, e.Causes, c.code)
			continue
		}
		cause := e.Causes[0]
		first, _, _ := strings.Cut(append(cause.Mend, "")[0], "  # ")
		if all := cause.What + " " + cause.Where + " " + strings.Join(cause.Mend, " "); first != c.mend || !strings.Contains(all, c.says) || e.Stopped == nil {
			t.Errorf("%s, %s: %+v; want %q and %q", c.ask, c.code, cause, c.mend, c.says)
		}
	}
}

// TestWhoseHostPort: who asks the container for the host's port is told the container's own, and who
// came by the host's port, which was right, is not.
func TestWhoseHostPort(t *testing.T) {
	t.Parallel()
	for ask, told := range map[string]bool{"db web:8080": true, "outside 192.0.2.1:8080": false, "host 127.0.0.1:8080": false} {
		p := pictured()
		web(p).Listeners = nil
		e, err := Explain(p, question(t, ask))
		if err != nil || len(e.Causes) != 1 || e.Causes[0].Code != "nothing-listening" || strings.Contains(e.Causes[0].What, "of the host is its port") != told {
			t.Errorf("%s: %v: %+v; want it told: %v", ask, err, e.Causes, told)
		}
	}
}

// TestNames: a word that is nothing is said to be nothing, whoever does not answer for it; whom
// machines outside ask is not known.
func TestNames(t *testing.T) {
	t.Parallel()
	silent := picture.Resolution{Asked: []netip.Addr{resolverAddr}, Silent: []netip.Addr{resolverAddr}}
	for _, c := range []struct{ from, name, code, says string }{
		{"db", "lo2", "name-unknown", "no container, network or address is called lo2"},
		{"db", "300.1.1.1", "name-unknown", "no container, network or address is called 300.1.1.1"},
		{"outside", "lo2", "name-unknown", "no container, network or address is called lo2"},
		{"outside", "nosuch.example", "name-unknown", "whom a machine outside asks"},
		{"db", "nosuch.example", "dns-silent", "127.0.0.11"},
		{"host", "nobodys.example", "name-unknown", "nobody knows the name"},
	} {
		p := pictured()
		p.Resolutions[c.name] = silent
		if c.name == "nobodys.example" { // a server that answers that there is none
			p.Resolutions[c.name] = picture.Resolution{Asked: silent.Asked, Unknown: true}
		}
		e, err := Explain(p, question(t, c.from+" "+c.name+":80"))
		if err != nil || len(e.Causes) != 1 || e.Causes[0].Code != c.code || !strings.Contains(e.Causes[0].What, c.says) || len(e.Causes[0].Mend) == 0 {
			t.Errorf("%s %s: %v: %+v; want %s: %s", c.from, c.name, err, e.Causes, c.code, c.says)
		}
	}
}

// TestPassesBy: what goes from one machine outside to another beyond the same interface is no
// question of this host's; what it forwards between two is.
func TestPassesBy(t *testing.T) {
	t.Parallel()
	for _, ask := range []string{"outside 192.0.2.9:80", "192.0.2.8 192.0.2.9", "outside outside", "-6 outside 2001:db8::9"} {
		if e, err := Explain(pictured(), question(t, ask)); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "does not pass this host") {
			t.Errorf("%s: %v, %+v; want that it does not pass", ask, err, e.Causes)
		}
	}
	p := pictured()
	secondUplink(p)
	if _, err := Explain(p, question(t, "192.0.2.8 198.51.100.9")); err != nil {
		t.Errorf("through the host: %v", err)
	}
}

// TestOwnMTU: a smaller MTU of an end's own link is a doubt, and no black hole.
func TestOwnMTU(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		p := pictured()
		p.Containers[i].Namespace.Links[1].MTU = 1280
		e, err := Explain(p, question(t, "db web:80"))
		if err != nil || !e.Reachable || len(e.Doubts) != 1 || !strings.Contains(e.Doubts[0], "1280") || e.Stopped != nil {
			t.Errorf("the MTU of container %d: %v: %+v, doubts %q", i, err, e.Causes, e.Doubts)
		}
	}
}

// TestWhoseDrop: what is seen to be dropped on this host is the host's, or the container's, with
// a command that looks there.
func TestWhoseDrop(t *testing.T) {
	t.Parallel()
	none := Answer{Kind: AnswerNone}
	for _, c := range []struct {
		name            string
		hooks           bool
		o               Observation
		code, who, mend string
	}{
		{"a rule in a container", false, Observation{Answer: none, Verdicts: []TableVerdict{{Verdict: "drop", Name: "web", Namespace: webPath, Family: "inet", Table: "own", Chain: "c"}}}, "dropped", "container web", inWeb + "nft -a list chain inet own c"},
		{"a rule of the host", false, Observation{Answer: none, Verdicts: []TableVerdict{{Verdict: "drop", Name: "host", Family: "inet", Table: "t", Chain: "c"}}}, "dropped", "the host", "nft -a list chain inet t c"},
		{"a queue", false, Observation{Answer: none, Drops: []KernelDrop{{Name: "host", Reason: "QDISC_DROP", Interface: "uplink"}}}, "kernel-drop", "the host", "tc -s qdisc show dev uplink"},
		{"a chain at an interface", true, Observation{Answer: none, Drops: []KernelDrop{{Name: "host", Reason: "NETFILTER_DROP", Interface: "uplink"}}}, "kernel-drop", "the host", "nft list hooks"},
		{"last seen before such a chain", true, Observation{Answer: none, Seen: []Sight{{Name: "host", Interface: "veth2"}}}, "no-answer", "the host", "nft list hooks"},
		{"never seen", true, Observation{Answer: none}, "no-answer", "this host", "nft list hooks"},
		{"last seen as it left", true, Observation{Answer: none, Seen: []Sight{{Name: "host", Interface: "uplink", Outgoing: true}}}, "no-answer", "the machine at the other end", ""},
	} {
		p := pictured()
		if c.hooks {
			p.Host.Ruleset.Tables = append(p.Host.Ruleset.Tables, &netfilter.Table{Family: netfilter.FamilyNetdev, Name: "edge", Chains: map[string]*netfilter.Chain{"in": {Name: "in", Type: "filter", Hook: netfilter.NoHook, Drop: true}, "jumpedTo": {Name: "jumpedTo", Hook: netfilter.NoHook}}})
		}
		e, err := Explain(p, question(t, "db 192.0.2.9"))
		if err != nil || !e.Reachable {
			t.Fatalf("%s: %v: %+v", c.name, err, e.Causes)
		}
		got := e.Proved(&c.o).Causes
		if len(got) != 1 || got[0].Code != c.code || !strings.HasPrefix(got[0].Who, c.who) || strings.Join(got[0].Mend[:min(1, len(got[0].Mend))], "") != c.mend || c.mend == "nft list hooks" && !strings.Contains(got[0].What, "table netdev edge, chain in") {
			t.Errorf("%s: %+v; want %s, %s, %q", c.name, got, c.code, c.who, c.mend)
		}
	}
}
