package trace

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// TestWhoServesAPort: what comes to a published port's socket goes on where somebody
// serves it, and is told to wait for nobody where nobody does.
func TestWhoServesAPort(t *testing.T) {
	t.Parallel()
	const takes, led = "the relay takes it, and connects to ", "programs on the cgroup root lead it to "
	for _, c := range []struct {
		ask          string
		proxy, hooks bool
		says         string // a note of the way, or the end of the cause
	}{
		{"host 127.0.0.1:8080", true, false, takes + "10.30.0.2:80"},
		{"host 127.0.0.1:8080", false, true, led + "10.30.0.2:80"},
		{"host 127.0.0.1:8080", false, false, "nothing else serves loopback here"},
		{"host [::1]:8080", true, false, takes + "10.30.0.2:80"},
		{"host [::1]:8080", false, true, "the container has no address of that family, and the userland proxy is off"},
		{"outside [2001:db8::1]:8080", true, false, takes + "10.30.0.2:80"},
		{"outside [2001:db8::1]:8080", false, true, "the container has no address of that family, and the userland proxy is off"},
		{"outside 192.0.2.1:8090", true, false, takes + "[fd00:30::2]:80"},
		{"outside 192.0.2.1:8090", false, true, "the container has no address of that family, and the userland proxy is off"},
		{"outside [2001:db8::1]:8090", false, true, "no rule translates it, and the userland proxy is off"},
	} {
		p := pictured()
		p.UserlandProxy, p.Hooks = c.proxy, c.hooks
		for _, b := range [][2]string{{"[::]:8080", "10.30.0.2:80"}, {"0.0.0.0:8090", "[fd00:30::2]:80"}, {"[::]:8090", "[fd00:30::2]:80"}} {
			at := netip.MustParseAddrPort(b[0])
			p.Attachments[0].Ports = append(p.Attachments[0].Ports, spec.PortBinding{Proto: "tcp", Host: at, Container: netip.MustParseAddrPort(b[1])})
			p.Host.Listeners = append(p.Host.Listeners, picture.Listener{Proto: "tcp", At: at, Process: "fairlead", PID: 7})
		}
		e, err := Explain(p, question(t, c.ask))
		if err != nil {
			t.Fatal(err)
		}
		served := strings.HasPrefix(c.says, takes) || strings.HasPrefix(c.says, led)
		if e.Reachable != served || !served && (len(e.Causes) != 1 || e.Causes[0].Code != "not-served" || !strings.HasSuffix(e.Causes[0].What, c.says)) {
			t.Errorf("%s, proxy %v, hooks %v: %+v; want %q", c.ask, c.proxy, c.hooks, e.Causes, c.says)
			continue
		}
		said := false
		for _, h := range e.There.Hops {
			for _, note := range h.Notes {
				said = said || strings.HasPrefix(note, c.says)
			}
		}
		if said != served {
			t.Errorf("%s, proxy %v, hooks %v: it is not said that %s: %+v", c.ask, c.proxy, c.hooks, c.says, e.There.Hops)
		}
	}
}

// TestWhatIsNotPublishedForWantOfTheProxy: nothing holds the port on the family that the container
// lacks, and it is told why, whatever else is published.
func TestWhatIsNotPublishedForWantOfTheProxy(t *testing.T) {
	t.Parallel()
	wants := func(proto spec.Proto) spec.PortRequest {
		return spec.PortRequest{Proto: proto, Port: 80, HostPort: 8080}
	}
	tcp, udp := wants(spec.TCP), wants(spec.UDP)
	both := []spec.PortRequest{tcp, udp}
	ranged, only4 := tcp, tcp
	ranged.HostPortEnd, only4.HostIP = 8090, netip.IPv4Unspecified()
	nothing := func(*picture.Picture) {}
	for name, c := range map[string]struct {
		asked []spec.PortRequest
		// published are the protocols and host's addresses of the ports.
		published string
		proxy     bool
		code      string
		plant     func(p *picture.Picture)
	}{
		"off":                  {both[:1], "tcp 0.0.0.0:8080", false, "not-served", nothing},
		"on":                   {both[:1], "tcp 0.0.0.0:8080", true, "other-address", nothing},
		"not asked for":        {nil, "tcp 0.0.0.0:8080", false, "other-address", nothing},
		"tcp and udp":          {both, "tcp 0.0.0.0:8080 udp 0.0.0.0:8080", false, "not-served", nothing},
		"udp and tcp":          {both, "udp 0.0.0.0:8080 tcp 0.0.0.0:8080", false, "not-served", nothing},
		"tcp and udp, on":      {both, "tcp 0.0.0.0:8080 udp 0.0.0.0:8080", true, "other-address", nothing},
		"udp and tcp, on":      {both, "udp 0.0.0.0:8080 tcp 0.0.0.0:8080", true, "other-address", nothing},
		"udp alone":            {both[1:], "udp 0.0.0.0:8080", false, "other-protocol", nothing},
		"udp alone is there":   {both, "udp 0.0.0.0:8080", false, "not-served", nothing},
		"any port":             {[]spec.PortRequest{{Proto: spec.TCP, Port: 80}}, "tcp 0.0.0.0:8080", false, "not-served", nothing},
		"one of a range":       {[]spec.PortRequest{ranged}, "tcp 0.0.0.0:8080", false, "not-served", nothing},
		"another of the range": {[]spec.PortRequest{ranged}, "tcp 0.0.0.0:8081", false, "nothing-listening", nothing},
		"on the other family":  {[]spec.PortRequest{only4}, "tcp 0.0.0.0:8080", false, "other-address", nothing},
		"the network's address": {both, "tcp 192.0.2.1:8080 udp 192.0.2.1:8080", false, "published-elsewhere", func(p *picture.Picture) {
			p.Networks[0].HostBinding = netip.MustParseAddr("192.0.2.1")
		}},
		"it has the family": {both[:1], "tcp 0.0.0.0:8080", false, "other-address", func(p *picture.Picture) {
			p.Attachments[0].Endpoints[0].Gateway6 = netip.MustParseAddr("fd00:30::1")
		}},
	} {
		p := pictured()
		p.UserlandProxy, p.Hooks = c.proxy, !c.proxy
		a := &p.Attachments[0]
		a.Endpoints[0].Addr6, a.Endpoints[0].Gateway6, a.Requests = netip.Prefix{}, netip.Addr{}, c.asked
		a.Ports, p.Host.Listeners = nil, nil
		for words := strings.Fields(c.published); len(words) > 0; words = words[2:] {
			b := spec.PortBinding{Proto: spec.Proto(words[0]), Host: netip.MustParseAddrPort(words[1]), Container: netip.MustParseAddrPort("10.30.0.2:80")}
			a.Ports = append(a.Ports, b)
			p.Host.Listeners = append(p.Host.Listeners, picture.Listener{Proto: words[0], At: b.Host, Process: "fairlead", PID: 7})
		}
		c.plant(p)
		for _, ask := range []string{"host [::1]:8080", "outside [2001:db8::1]:8080"} {
			e, err := Explain(p, question(t, ask))
			if err != nil || e.Reachable || len(e.Causes) != 1 || e.Causes[0].Code != c.code {
				t.Errorf("%s, %s: %v: %+v, want %s", name, ask, err, e.Causes, c.code)
			}
		}
	}
}

// TestNotPublishedForWantOfTheProxyFromOutside: who asks for the container's port over the
// family that it lacks is told why the host's is not published, and who has it.
func TestNotPublishedForWantOfTheProxyFromOutside(t *testing.T) {
	t.Parallel()
	const ask, on = "-6 outside web:80", "fairlead daemon --userland-proxy=true"
	nothing := func(*picture.Picture) {}
	listener := func(at string) func(p *picture.Picture) {
		return func(p *picture.Picture) {
			p.Host.Listeners = append(p.Host.Listeners, picture.Listener{Proto: "tcp", At: netip.MustParseAddrPort(at), Process: "python3", PID: 42})
		}
	}
	for name, c := range map[string]struct {
		ask, code, says, mend string
		proxy                 bool
		asks                  spec.PortRequest
		plant                 func(p *picture.Picture)
	}{
		"off":           {ask, "not-served", "port 8080/tcp of the host, and is not published on [2001:db8::1]:8080: what the userland proxy alone", on, false, spec.PortRequest{HostPort: 8080}, nothing},
		"off, any port": {ask, "not-served", "port 8080/tcp of the host", on, false, spec.PortRequest{}, nothing},
		"off, no such uplink": {ask, "not-served", "is not published on [::]:8080: what", on, false, spec.PortRequest{HostPort: 8080}, func(p *picture.Picture) {
			p.Host.Links[uplink-1].Addrs, p.Host.Routes = prefixes("192.0.2.1/24"), nil
		}},
		"off, taken":              {ask, "not-served", "is off", on, false, spec.PortRequest{HostPort: 8080}, listener("[::]:8080")},
		"taken by a program":      {ask, "port-taken", "python3 (PID 42) has the port", "fairlead restart web", true, spec.PortRequest{HostPort: 8080}, listener("[::]:8080")},
		"taken on one address":    {ask, "port-taken", "python3 (PID 42) has the port", "sport = :8080", true, spec.PortRequest{HostPort: 8080}, listener("[::1]:8080")},
		"taken in another family": {ask, "not-served", "was not free", "fairlead restart web", true, spec.PortRequest{HostPort: 8080}, listener("127.0.0.1:8080")},
		"taken by a container": {ask, "port-taken", "container db has the port", "fairlead restart web", true, spec.PortRequest{HostPort: 8080}, func(p *picture.Picture) {
			p.Attachments[1].Ports = []spec.PortBinding{{Proto: "tcp", Host: netip.MustParseAddrPort("[::1]:8080"), Container: netip.MustParseAddrPort("[fd00:30::3]:80")}}
		}},
		"asked for in the other family": {ask, "not-published", "does not publish port 80/tcp", "", false, spec.PortRequest{HostPort: 8080, HostIP: netip.IPv4Unspecified()}, nothing},
		"asked for on loopback":         {ask, "not-published", "does not publish port 80/tcp", "", false, spec.PortRequest{HostPort: 8080, HostIP: netip.IPv6Loopback()}, nothing},
		"the network's address": {ask, "not-published", "does not publish port 80/tcp", "", false, spec.PortRequest{HostPort: 8080}, func(p *picture.Picture) {
			p.Networks[0].HostBinding = netip.MustParseAddr("192.0.2.1")
		}},
		"internal": {ask, "internal-network", "", "", false, spec.PortRequest{HostPort: 8080}, func(p *picture.Picture) {
			p.Networks[0].Internal, p.Attachments[0].Endpoints[0].Gateway4 = true, netip.Addr{}
		}},
		"dual": {ask, "not-published", "", "", false, spec.PortRequest{HostPort: 8080}, func(p *picture.Picture) {
			p.Attachments[0].Endpoints[0].Gateway6 = netip.MustParseAddr("fd00:30::1")
		}},
		"another port":     {"-6 outside web:81", "not-published", "does not publish port 81/tcp", "", false, spec.PortRequest{HostPort: 8080}, nothing},
		"another protocol": {"-6 outside web:80/udp", "not-published", "does not publish port 80/udp", "", false, spec.PortRequest{HostPort: 8080}, nothing},
	} {
		p := pictured()
		p.UserlandProxy = c.proxy
		p.Attachments[0].Endpoints[0].Addr6, p.Attachments[0].Endpoints[0].Gateway6 = netip.Prefix{}, netip.Addr{}
		c.asks.Proto, c.asks.Port = spec.TCP, 80
		p.Attachments[0].Requests = []spec.PortRequest{c.asks}
		c.plant(p)
		e, err := Explain(p, question(t, c.ask))
		if err != nil || len(e.Causes) != 1 || e.Causes[0].Code != c.code || !strings.Contains(e.Causes[0].What, c.says) || !strings.Contains(strings.Join(e.Causes[0].Mend, "\n"), c.mend) {
			t.Errorf("%s: %v: %+v; want %s: %s, %s", name, err, e.Causes, c.code, c.says, c.mend)
		}
	}
}
