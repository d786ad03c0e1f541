package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/exposure"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestExposure probes each claim of `exposure`, reachable or not, from where it says: the
// host, a machine outside that has routes to the containers, and a container of each
// network. What is published, what only listens, and what a container has on the host's
// network. In short a claim is probed by one of the back ends, by chance; make attack has
// all by both.
func TestExposure(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		s.startOn(backend)
		networks := map[string][]string{
			"open":   {"--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64"},
			"apart":  {"--subnet", "10.31.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false"},
			"bare":   {"--subnet", "10.32.0.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected"},
			"inside": {"--subnet", "10.33.0.0/24", "--internal"},
			"routed": {"--ipv6", "--subnet", "10.34.0.0/24", "--subnet", "fd00:34::/64", "-o", "com.docker.network.bridge.gateway_mode_ipv6=routed"},
		}
		vantage := map[string]*lab.Host{string(exposure.Outside): s.outside, string(exposure.Host): s.host}
		for name, flags := range networks {
			s.Must(slices.Concat([]string{"network", "create"}, flags, []string{name})...)
			vantage["network "+name] = s.idle("--network", name).Host
		}
		vantage["network bridge"] = s.idle().Host
		for _, via := range []string{"10.30.0.0/24", "10.31.0.0/24", "10.32.0.0/24", "10.33.0.0/24", "10.34.0.0/24"} {
			s.outside.Run("ip", "route", "add", via, "via", host4)
		}
		s.outside.Run("ip", "-6", "route", "add", "fd00:30::/63", "via", host6)
		s.outside.Run("ip", "-6", "route", "add", "fd00:34::/64", "via", host6)
		names := make(map[string]string)
		for name := range networks {
			ports := []string{"-p", "8080", "-p", host4 + "::8081"}
			switch name {
			case "inside":
				ports = nil
			case "open":
				ports = append(ports, "-p", "127.0.0.1::8082", "-p", "9100-9109:9100-9109")
			}
			b := s.idle(slices.Concat([]string{"--name", "web-" + name, "--network", name}, ports)...)
			for _, port := range []string{"8080", "8081", "8082", "9090", "9104"} {
				b.serve("tcp", "0.0.0.0:"+port)
				if b.addr6.IsValid() {
					b.serve("tcp", "[::]:"+port)
				}
			}
			names["web-"+name] = b.Name()
		}
		s.Must("run", "-d", "--name", "naked", "--network", "host", "demo", "httpd", "-f", "-p", "7070", "-h", "/www")
		var r exposure.Report
		eventually(t, "the host's container listens", func() bool {
			r = decode[exposure.Report](t, s.Must("exposure", "-f", "json"))
			return slices.ContainsFunc(r.Ports, func(p exposure.Port) bool { return p.Kind == exposure.OnHost && p.Host.Port() == 7070 })
		})
		kinds := make(map[exposure.Kind]int)
		verdicts := make(map[bool]int)
		var wg sync.WaitGroup
		slots := make(chan struct{}, 32)
		for _, p := range r.Ports {
			if p.Proto != "tcp" || p.Kind == exposure.Published && p.Container == "web-open" && p.Target.Port() >= 9100 && p.Target.Port() != 9104 {
				continue // nobody listens there
			}
			for _, way := range p.Ways {
				from := vantage[strings.TrimSpace(string(way.From)+" "+way.Name)]
				if from == nil {
					t.Errorf("nobody is %s %s", way.From, way.Name)
					continue
				}
				if way.Rule == "" {
					t.Errorf("%s %s from %s %s: no rule is named", p.Container, p.Target, way.From, way.Name)
				}
				claim := fmt.Sprint(p.Kind, p.Container, p.Target.Port(), p.Target.Addr().Is4(), way.From, way.Name)
				if !full() && byChance(2, claim) != (backend == nftables) {
					continue
				}
				for _, addr := range way.By {
					if way.From == exposure.Network && p.Target.Addr() == addr.Addr() && from.Name() == names[p.Container] {
						continue
					}
					kinds[p.Kind]++
					verdicts[way.Reachable]++
					wg.Go(func() {
						slots <- struct{}{}
						defer func() { <-slots }()
						if reached := answers(from, addr.String(), names[p.Container], way.Reachable); reached != way.Reachable {
							t.Errorf("%s %s port %s->%s from %s %s by %s: reached is %t, and it is said: %t, by %s", p.Kind, p.Container, p.Host, p.Target, way.From, way.Name, addr, reached, way.Reachable, way.Rule)
						}
					})
				}
			}
		}
		wg.Wait()
		if kinds[exposure.Published] < 20 || kinds[exposure.Listening] < 20 || kinds[exposure.OnHost] < 4 || verdicts[true] < 20 || verdicts[false] < 20 {
			t.Errorf("too little was claimed to mean anything: %v, %v\n%+v", kinds, verdicts, r)
		}
		if told := s.Must("events", "--since", "1h", "--until", "0s", "-f", "event=top"); told != "" {
			t.Errorf("a look was told as an event:\n%s", told)
		}
		out := s.Must("exposure")
		contains(t, "the text", out, "web-open  ", "naked  ", "kept out  from ", "reached")
		if backend == nftables {
			contains(t, "the text", out, "element tcp . ", " of map inet fairlead publish4any", "rule inet fairlead forward_inbound handle ", "publish4rangeany")
		}
	})
}

// answers says whether the server of that name answers; where it should, it may take its
// time. The web server of a container on the host's network says something else.
func answers(from *lab.Host, addr, name string, wanted bool) bool {
	patience := time.Second
	if wanted {
		patience = 10 * time.Second
	}
	if name != "" {
		r, err := from.Ask("tcp", addr, patience)
		return err == nil && r.Host == name
	}
	conn, err := from.Dial("tcp", addr, patience)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
