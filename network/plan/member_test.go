package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

func permitted(p []firewall.Permit) string {
	var out []string
	for _, p := range p {
		out = append(out, fmt.Sprintf("%s>%s:%d/%s", p.From, p.To, p.Port, p.Proto))
	}
	return strings.Join(out, " ")
}

// TestLinksBecomePermits: on networks whose containers are kept apart, in both
// families, whichever end comes last.
func TestLinksBecomePermits(t *testing.T) {
	t.Parallel()
	s := testState(t)
	for _, name := range []string{"apart", "together"} {
		req := spec.NetworkRequest{Name: name, IPv6: true, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.7.0.0/24")}, {Prefix: netip.MustParsePrefix("fd07::/64")}}}
		if name == "apart" {
			req.Options = map[string]string{OptICC: "false"}
		} else {
			req.Subnets = nil
		}
		addNetwork(t, s, req)
	}
	link := func(to int, alias string, ports ...uint16) spec.Link {
		l := spec.Link{Sandbox: hexID(to), Alias: alias}
		for _, p := range ports {
			l.Ports = append(l.Ports, spec.ContainerPort{Proto: spec.TCP, Port: p})
		}
		return l
	}
	decide := func(id int, network string, addr string, links ...spec.Link) spec.Attachment {
		t.Helper()
		req := spec.EndpointRequest{Network: network, Links: links}
		if addr != "" {
			req.Addr4 = netip.MustParseAddr(addr)
		}
		a, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(id), Name: "c", Endpoints: []spec.EndpointRequest{req}}, ids(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddAttachment(a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := decide(10, "apart", "", link(11, "web", 80, 443), link(11, "www", 80), link(12, "db"))
	if got := permitted(s.Member(a).Permits); got != "" {
		t.Errorf("linked to nobody that is there: %s", got)
	}
	b := decide(11, "apart", "")
	want := "10.7.0.2>10.7.0.3:80/tcp 10.7.0.2>10.7.0.3:443/tcp fd07::2>fd07::3:80/tcp fd07::2>fd07::3:443/tcp"
	for _, end := range []spec.Attachment{a, b} {
		if got := permitted(s.Member(end).Permits); got != want {
			t.Errorf("of %.0s%s: %s\nwant %s", end.Sandbox.ID, end.Sandbox.ID[60:], got, want)
		}
	}
	// It goes, and comes back with another address.
	s.RemoveAttachment(hexID(11))
	if got := permitted(s.Member(a).Permits); got != "" {
		t.Errorf("after the other has gone: %s", got)
	}
	b = decide(11, "apart", "10.7.0.99")
	if got := permitted(s.Member(b).Permits); !strings.HasPrefix(got, "10.7.0.2>10.7.0.99:80/tcp") {
		t.Errorf("after it came back: %s", got)
	}
	s.RemoveAttachment(hexID(10))
	if got := permitted(s.Member(b).Permits); got != "" || len(s.linkedBy) != 0 {
		t.Errorf("after the linking one has gone: %s, %v", got, s.linkedBy)
	}
	// Where containers reach each other anyway there is nothing to permit.
	c := decide(20, "together", "", link(21, "x", 80))
	decide(21, "together", "")
	if got := permitted(s.Member(c).Permits); got != "" {
		t.Errorf("with ICC: %s", got)
	}
}

func TestDecideConnect(t *testing.T) {
	t.Parallel()
	s := testState(t)
	a, err := attach(s, 10, []string{"bridge"}, spec.PortRequest{Proto: spec.TCP, Port: 80}, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8080, HostPortEnd: 8090})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attach(s, 11, []string{"bridge"}, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8081}); err != nil {
		t.Fatal(err)
	}
	ch, err := s.DecideConnect(hexID(10), spec.EndpointRequest{Network: "dual", GwPriority: 1}, ids(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, ch.Before, compareNet...); diff != "" {
		t.Errorf("before:\n%s", diff)
	}
	var got []string
	for _, p := range ch.After.Ports {
		got = append(got, p.String()+" "+p.Container.Addr().String())
	}
	want := []string{
		"0.0.0.0:32768->80/tcp 10.5.0.2", "[::]:32768->80/tcp fd05::2", "0.0.0.0:8080->80/tcp 10.5.0.2", "[::]:8080->80/tcp fd05::2",
	}
	if !cmp.Equal(got, want) {
		t.Errorf("ports %q, want %q", got, want)
	}
	if fresh := ch.Fresh(); len(fresh) != 0 {
		t.Errorf("ports %v are held anew", fresh)
	}
	if err := s.ReplaceAttachment(ch.During()); err != nil {
		t.Fatal(err)
	}
	if err := s.ReplaceAttachment(ch.After); err != nil {
		t.Fatal(err)
	}
	if _, err := attach(s, 12, []string{"bridge"}, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8080}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a port that was kept is free: %v", err)
	}
	back, err := s.DecideDisconnect(hexID(10), "dual", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, back.After, compareNet...); diff != "" {
		t.Errorf("there and back:\n%s", diff)
	}
	if again, ok := ChangeBetween(ch.Before, ch.After); !ok || again.Endpoint.ID != ch.Endpoint.ID {
		t.Errorf("change between: %+v", again.Endpoint)
	}
	if again, ok := ChangeBetween(back.Before, back.After); !ok || again.Endpoint.ID != ch.Endpoint.ID {
		t.Errorf("change between, of a disconnect: %+v", again.Endpoint)
	}
}

// TestRoutedPorts: a routed family has no host ports; the other goes on as always.
func TestRoutedPorts(t *testing.T) {
	t.Parallel()
	s := testState(t)
	addNetwork(t, s, spec.NetworkRequest{
		Name: "half", IPv6: true, Options: map[string]string{OptGateway6: "routed"},
		Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.7.0.0/24")}, {Prefix: netip.MustParsePrefix("fd07::/64")}},
	})
	addNetwork(t, s, spec.NetworkRequest{
		Name: "whole", Options: map[string]string{OptGateway4: "routed"}, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.8.0.0/24")}},
	})
	tcp := func(host string, port uint16) spec.PortRequest {
		r := spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: port}
		if host != "" {
			r.HostIP = netip.MustParseAddr(host)
		}
		return r
	}
	for i, c := range []struct {
		network string
		req     spec.PortRequest
		want    string
		says    string
	}{
		{"half", tcp("", 8080), "0.0.0.0:8080>10.7.0.2:80 [::]:0>[fd07::2]:80", ""},
		{"half", tcp("0.0.0.0", 8081), "0.0.0.0:8081>10.7.0.3:80", ""},
		{"half", tcp("::1", 8082), "", "network half is routed"},
		{"whole", tcp("", 0), "0.0.0.0:0>10.8.0.2:80", ""},
		{"whole", tcp("::1", 8083), "", "network whole is routed"},
	} {
		a, err := attach(s, 10+i, []string{c.network}, c.req)
		if c.says != "" {
			if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s %v: %v, want %q", c.network, c.req, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range a.Ports {
			got = append(got, p.Host.String()+">"+p.Container.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %v: %q, want %q", c.network, c.req, got, c.want)
		}
	}
}

func TestRefusedEndpoints(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name string
		req  spec.EndpointRequest
		kind error
		says string
	}{
		{"an interface called lo", spec.EndpointRequest{Interface: "lo"}, errdefs.ErrInvalidArgument, "kernel's own"},
		{"an interface with a slash", spec.EndpointRequest{Interface: "a/b"}, errdefs.ErrInvalidArgument, "only letters"},
		{"an interface that is long", spec.EndpointRequest{Interface: "abcdefghijklmnop"}, errdefs.ErrInvalidArgument, "15 bytes"},
		{"an alias with a newline", spec.EndpointRequest{Aliases: []string{"a\nb"}}, errdefs.ErrInvalidArgument, "alias"},
		{"a link-local address that is none", spec.EndpointRequest{LinkLocal: []netip.Addr{addr("10.0.0.1")}}, errdefs.ErrInvalidArgument, "not link-local"},
		{"a link-local address twice", spec.EndpointRequest{LinkLocal: []netip.Addr{addr("169.254.1.1"), addr("169.254.1.1")}}, errdefs.ErrConflict, "in use"},
		{"a link-local address in use", spec.EndpointRequest{LinkLocal: []netip.Addr{addr("169.254.9.9")}}, errdefs.ErrConflict, "in use"},
		{"a sysctl without IFNAME", spec.EndpointRequest{Sysctls: map[string]string{"net.ipv4.conf.eth0.arp_announce": "1"}}, errdefs.ErrInvalidArgument, "IFNAME"},
		{"a sysctl of all interfaces", spec.EndpointRequest{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}, errdefs.ErrInvalidArgument, "IFNAME"},
		{"a sysctl that climbs", spec.EndpointRequest{Sysctls: map[string]string{"net.ipv4.conf.IFNAME.../../x": "1"}}, errdefs.ErrInvalidArgument, "IFNAME"},
		{"an address of the other family", spec.EndpointRequest{Addr4: addr("fd05::9")}, errdefs.ErrInvalidArgument, "outside the subnet"},
	} {
		s := testState(t)
		taken, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(9), Name: "c9", Endpoints: []spec.EndpointRequest{
			{Network: "dual", LinkLocal: []netip.Addr{addr("169.254.9.9")}},
		}}, ids(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddAttachment(taken); err != nil {
			t.Fatal(err)
		}
		if _, err := attach(s, 10, []string{"bridge"}); err != nil {
			t.Fatal(err)
		}
		c.req.Network = "dual"
		_, err1 := s.DecideAttachment(spec.AttachRequest{ID: hexID(11), Name: "c11", Endpoints: []spec.EndpointRequest{c.req}}, ids(), nil)
		_, err2 := s.DecideConnect(hexID(10), c.req, ids(), nil)
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v; want %v saying %q", c.name, err, c.kind, c.says)
			}
		}
	}
}

// TestInterfaceNames: names that were asked for are left out by those that were not.
func TestInterfaceNames(t *testing.T) {
	t.Parallel()
	s := testState(t)
	addNetwork(t, s, spec.NetworkRequest{Name: "lan", Options: map[string]string{OptInterfacePrefix: "lan"}})
	a, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(10), Name: "c", Endpoints: []spec.EndpointRequest{
		{Network: "bridge"}, {Network: "dual", Interface: "eth0"}, {Network: "lan"}, {Network: "back"},
	}}, ids(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range a.Endpoints {
		got = append(got, e.Interface)
	}
	if want := []string{"eth1", "eth0", "lan0", "eth2"}; !cmp.Equal(got, want) {
		t.Errorf("interfaces %v, want %v", got, want)
	}
}
