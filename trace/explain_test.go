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

// question is FROM and TO in one line, with -6 before them for IPv6.
func question(t *testing.T, text string) Question {
	t.Helper()
	rest, v6 := strings.CutPrefix(text, "-6 ")
	from, to, _ := strings.Cut(rest, " ")
	q, err := ParseQuestion(from, to, v6)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q
}

func kinds(p Path) string {
	var out []string
	for _, h := range p.Hops {
		out = append(out, string(h.Kind))
	}
	return strings.Join(out, " ")
}

// TestReachable: with nothing in the way the packet comes there and its answer back, by the
// hops that it has to pass.
func TestReachable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ask, there, back string }{
		{"db web:80", "container peer bridge peer container", "container peer bridge peer container"},
		{"db web", "container peer bridge peer container", "container peer bridge peer container"},
		{"-6 db web:80", "container peer bridge peer container", "container peer bridge peer container"},
		{"db 192.0.2.9", "container peer bridge uplink outside", "outside uplink bridge peer container"},
		{"-6 db 2001:db8::9", "container peer bridge uplink outside", "outside uplink bridge peer container"},
		{"outside web:80", "outside uplink bridge peer container", "container peer bridge uplink outside"},
		{"host web:80", "host bridge peer container", "container peer bridge host"},
		{"db host", "container peer bridge host", "host bridge peer container"},
		{"back web:80", "container peer bridge peer container", "container peer bridge peer container"},
		{"host 127.0.0.1:8080", "host host bridge peer container", "container peer bridge host"},
		{"db outside", "container peer bridge uplink outside", "outside uplink bridge peer container"},
	} {
		p := pictured()
		if c.ask == "back web:80" {
			slices.Reverse(p.Attachments) // it is asked from a member, which is not web then
		}
		e, err := Explain(p, question(t, c.ask))
		if err != nil || !e.Reachable || e.Stopped != nil || kinds(e.There) != c.there || kinds(e.Back) != c.back {
			t.Errorf("%s: %v: %s / %s, causes %+v; want %s / %s", c.ask, err, kinds(e.There), kinds(e.Back), e.Causes, c.there, c.back)
		}
	}
}

// TestTranslated: addresses change where NAT changes them, and back on the way back.
func TestTranslated(t *testing.T) {
	t.Parallel()
	out, _ := Explain(pictured(), question(t, "db 192.0.2.9:53/udp"))
	if last, _ := out.There.Last(); last.Flow.String() != "192.0.2.1:50000 → 192.0.2.9:53/udp" {
		t.Errorf("outwards: %s", last.Flow)
	}
	if last, _ := out.Back.Last(); last.Flow.String() != "192.0.2.9:53 → 10.30.0.3:50000/udp" {
		t.Errorf("outwards, back: %s", last.Flow)
	}
	in, _ := Explain(pictured(), question(t, "outside web:80"))
	if last, _ := in.There.Last(); last.Flow.Destination.String() != "10.30.0.2:80" {
		t.Errorf("inwards: %s", last.Flow)
	}
	if last, _ := in.Back.Last(); last.Flow.Source.String() != "192.0.2.1:8080" {
		t.Errorf("inwards, back: %s", last.Flow)
	}
}

// TestUnknown: what nobody has is an error, what is ambiguous too.
func TestUnknown(t *testing.T) {
	t.Parallel()
	if _, err := Explain(pictured(), question(t, "nosuch web")); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("from nobody: %v", err)
	}
	p := pictured()
	p.Containers[0].Names, p.Containers[1].Names = []string{"shop"}, []string{"shop"}
	if _, err := Explain(p, question(t, "host shop")); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a name of two: %v", err)
	}
}

// TestHealed: what was put back lately is told, and that healing is paused; a cause of ours
// then names what puts back everything.
func TestHealed(t *testing.T) {
	t.Parallel()
	p := pictured()
	p.Healing = spec.Healing{Paused: true, Last: []spec.Mend{{Kind: "veth", What: "container web: link veth1 is down"}}}
	p.Host.Links[webPort-1].Up = false
	e, err := Explain(p, question(t, "db web:80"))
	if err != nil || !e.Paused || len(e.Healed) != 1 || !slices.Equal(e.Causes[0].Mend, []string{"ip link set veth1 up", healHint}) {
		t.Errorf("%v: %+v", err, e)
	}
	if e, err := Explain(p, question(t, "db 192.0.2.9:81")); err != nil || !e.Reachable {
		t.Errorf("another way: %v: %+v", err, e)
	}
	if e, err := Explain(p, question(t, "outside web:81")); err != nil || len(e.Causes) != 1 || slices.Contains(e.Causes[0].Mend, healHint) {
		t.Errorf("a cause that healing does not mend: %v: %+v", err, e.Causes)
	}
}

// TestDoubt: a rule that asks for what is not known does not stop the packet, and is told.
func TestDoubt(t *testing.T) {
	t.Parallel()
	p := pictured()
	ruleset(p, strings.Replace(saved[rules4], ":FORWARD ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]\n-A FORWARD -m owner --uid-owner 5 -j DROP", 1), "")
	e, err := Explain(p, question(t, "db 192.0.2.9"))
	if err != nil || !e.Reachable || len(e.Doubts) != 1 || !strings.Contains(e.Doubts[0], "chain FORWARD") {
		t.Errorf("%v: %+v", err, e)
	}
}

// TestNameCutOff: a container is reached by its address while its name cannot be looked up, which
// is told to those who ask by the name.
func TestNameCutOff(t *testing.T) {
	t.Parallel()
	for ask, doubts := range map[string]int{"db web:80": 1, "db 10.30.0.2:80": 0, "web db:22": 0} {
		p := pictured()
		withoutTable(p)
		e, err := Explain(p, question(t, ask))
		if err != nil || len(e.Doubts) != doubts || doubts > 0 && (!e.Reachable || !strings.Contains(e.Doubts[0], "fairlead restart db")) {
			t.Errorf("%s: %v: %+v", ask, err, e)
		}
	}
}

// TestNameEmptied: a table leads to the resolver and back while both of its chains have rules.
func TestNameEmptied(t *testing.T) {
	t.Parallel()
	const table = "table ip " + spec.ResolverTable
	for _, c := range []struct {
		questions, answers int
		family             uint8
		says               string // nothing where names can be asked for
	}{
		{2, 2, netfilter.FamilyIPv4, ""},
		{0, 0, netfilter.FamilyIPv4, "emptied " + table},
		{0, 2, netfilter.FamilyIPv4, "emptied chain questions of " + table},
		{2, 0, netfilter.FamilyIPv4, "emptied chain answers of " + table},
		{-1, 2, netfilter.FamilyIPv4, "emptied chain questions of " + table},
		{2, 2, netfilter.FamilyIPv6, "threw " + table + " away"},
	} {
		p := pictured()
		withoutTable(p)
		chains := make(map[string]*netfilter.Chain)
		for name, rules := range map[string]int{spec.ResolverQuestions: c.questions, spec.ResolverAnswers: c.answers} {
			if rules >= 0 {
				chains[name] = &netfilter.Chain{Name: name, Rules: make([]netfilter.Rule, rules)}
			}
		}
		db(p).Ruleset.Tables = append(db(p).Ruleset.Tables, &netfilter.Table{Family: c.family, Name: spec.ResolverTable, Chains: chains})
		e, err := Explain(p, question(t, "db web:80"))
		if err != nil || (len(e.Doubts) > 0) != (c.says != "") || c.says != "" && !strings.Contains(e.Doubts[0], c.says) {
			t.Errorf("%+v: %v: %+v", c, err, e.Doubts)
		}
	}
}

// rule adds a rule of iptables-legacy to the host's chain.
func rule(table, chain, text string) func(p *picture.Picture) {
	return func(p *picture.Picture) {
		for _, have := range p.Host.Ruleset.Tables {
			if have.Name == table && have.Family == netfilter.FamilyIPv4 {
				added := netfilter.ParseSaved("*"+table+"\n:"+chain+" ACCEPT [0:0]\n-A "+chain+" "+text+"\n", netfilter.FamilyIPv4)[0].Chains[chain]
				if was := have.Chains[chain]; was != nil {
					added.Rules, added.Drop = append(added.Rules, was.Rules...), was.Drop
				}
				have.Chains[chain] = added
			}
		}
	}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }
