package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// bare is a host without a daemon, and a machine outside, where plans are followed. The
// namespaces that they make have names in a mount namespace of the host's own.
type bare struct {
	*site
	pid int
}

func newBare(t *testing.T) bare {
	t.Helper()
	s := newHosts(t)
	p := s.host.Start("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec sleep 3600")
	b := bare{site: s, pid: p.Pid}
	eventually(t, "a /run of the host's own", func() bool {
		return b.shell("mkdir -p /run/netns && grep -q ' /run tmpfs' /proc/self/mounts").Code == 0
	})
	return b
}

// shell has the host's shell run a script.
func (b bare) shell(script string) lab.Result {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := b.host.Command(ctx, "nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", b.pid), "sh", "-e")
	return finish(cmd, []byte(script))
}

// follow runs the script of a plan.
func (b bare) follow(script string) {
	b.t.Helper()
	if r := b.shell(script); r.Code != 0 {
		b.t.Fatalf("exit status %d\n%s%s\nof the script\n%s", r.Code, r.Stdout, r.Stderr, script)
	}
}

// made is the container that a plan of that name made.
func (b bare) made(name string, addr4, addr6 string) box {
	return box{
		Host: b.lab.Inside(name, fmt.Sprintf("/proc/%d/root/run/netns/%s", b.pid, name)), s: b.site,
		addr4: netip.MustParseAddr(addr4), addr6: netip.MustParseAddr(addr6),
	}
}

// TestB1Plan feeds plans to a shell on hosts that have nothing of ours, and finds the
// networks there that the daemon makes. In short what is not about the text of rules is
// met by one back end, by turns; make attack has all by both.
func TestB1Plan(t *testing.T) {
	t.Parallel()
	for n, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "--firewall-backend", backend)
			for _, n := range []struct {
				number int
				name   string
				flags  []string
			}{
				{1, "back", nil},
				{2, "apart", []string{"-o", "com.docker.network.bridge.enable_icc=false"}},
				{3, "vault", []string{"--internal"}},
			} {
				args := append([]string{
					"network", "create", "--ipv6", "-o", "com.docker.network.bridge.name=br-" + n.name,
					"--subnet", fmt.Sprintf("10.77.%d.0/24", n.number), "--subnet", fmt.Sprintf("fd77:%d::/64", n.number),
				}, n.flags...)
				s.Must(append(args, n.name)...)
			}
			for turn, part := range []struct {
				name string
				test func(*testing.T, *site)
			}{
				{"published", planPublished},
				{"apart", planApart},
				{"internal", planInternal},
				{"connect", planConnect},
				{"here", planHere},
				{"refused", planRefused},
			} {
				if chosen(n, turn) {
					t.Run(part.name, func(t *testing.T) { part.test(t, s) })
				}
			}
			t.Run("the real thing", func(t *testing.T) { planBesideReal(t, s, backend) })
			t.Run("diff", func(t *testing.T) { planDiff(t, s, backend) })
		})
	}
}

// two makes two containers of a network on a bare host: the first with all that it needs.
func (b bare) two(s *site, network string, number int, flags ...string) (one, other box) {
	b.t.Helper()
	run := func(name, last string) []string {
		return []string{"run", "--name", name, "--network", network, "--ip", fmt.Sprintf("10.77.%d.%s", number, last), "--ip6", fmt.Sprintf("fd77:%d::%s", number, last)}
	}
	b.follow(s.Must(append(append([]string{"plan"}, run("one", "20")...), append(flags, "demo", "sleep", "1")...)...))
	b.follow(s.Must(append(append([]string{"plan", "--here"}, run("other", "30")...), "demo", "sleep", "1")...))
	return b.made("one", fmt.Sprintf("10.77.%d.20", number), fmt.Sprintf("fd77:%d::20", number)),
		b.made("other", fmt.Sprintf("10.77.%d.30", number), fmt.Sprintf("fd77:%d::30", number))
}

// serves has a server on the port in both families.
func (b box) serves(proto, port string) {
	b.s.t.Helper()
	for _, addr := range []string{"0.0.0.0", "::"} {
		b.serve(proto, at(addr, port))
	}
}

// outward asserts that the container reaches the machine outside, under an address of the host's.
func (b bare) outward(from box) {
	b.t.Helper()
	for outside, host := range map[string][]string{outside4: {host4, second4}, outside6: {host6, second6}} {
		srv := b.outside.Listen("tcp", at(outside, "7"))
		if r := lab.Seen(b.t, from.Host, "tcp", at(outside, "7")); !slices.Contains(host, r.Peer.Addr().Unmap().String()) {
			b.t.Errorf("%s is %s outside, want one of %v", from.Name(), r.Peer.Addr(), host)
		}
		srv.Close()
	}
}

func planPublished(t *testing.T, s *site) {
	b := newBare(t)
	one, other := b.two(s, "back", 1, "-p", "1234:11211", "-p", "8080:80", "-p", "9000-9001:90-91/udp")
	one.serves("tcp", "11211")
	one.serves("tcp", "80")
	one.serves("tcp", "81")
	one.serves("udp", "91")
	for host, outside := range map[string]string{host4: outside4, host6: outside6} {
		one.sees(b.outside, "tcp", at(host, "8080"), outside)
		one.sees(b.outside, "udp", at(host, "9001"), outside)
		one.sees(b.outside, "tcp", at(host, "1234"), outside)
		lab.Reachable(t, b.host, "tcp", at(host, "8080"))
	}
	one.sees(other.Host, "tcp", at(one.addr4, "81"), other.addr4)
	one.sees(other.Host, "tcp", at(one.addr6, "81"), other.addr6)
	for gateway, own := range map[string]netip.Addr{"10.77.1.1": one.addr4, "fd77:1::1": one.addr6} {
		one.sees(b.host, "tcp", at(own, "81"), gateway)
		lab.Reachable(t, one.Host, "icmp", gateway)
	}
	b.outward(one)
	// Outside knows the way, and must not come in by another port.
	b.outside.Run("ip", "route", "add", "10.77.1.0/24", "via", host4)
	b.outside.Run("ip", "route", "add", "fd77:1::/64", "via", host6)
	lab.Unreachable(t, b.outside, "tcp", at(one.addr4, "81"), lab.Probe{From: b.host, Proto: "tcp", Addr: at(one.addr4, "81")})
	lab.Unreachable(t, b.outside, "tcp", at(one.addr6, "81"), lab.Probe{From: b.host, Proto: "tcp", Addr: at(one.addr6, "81")})
}

func planApart(t *testing.T, s *site) {
	b := newBare(t)
	one, other := b.two(s, "apart", 2)
	one.serves("tcp", "80")
	for _, addr := range []netip.Addr{one.addr4, one.addr6} {
		lab.Unreachable(t, other.Host, "tcp", at(addr, "80"), lab.Probe{From: b.host, Proto: "tcp", Addr: at(addr, "80")})
	}
	b.outward(other)
}

func planInternal(t *testing.T, s *site) {
	b := newBare(t)
	one, other := b.two(s, "vault", 3, "-p", "8080:80")
	one.serves("tcp", "80")
	for _, addr := range []string{outside4, outside6} {
		defer b.outside.Listen("tcp", at(addr, "7")).Close()
	}
	b.outside.Run("ip", "route", "add", "10.77.3.0/24", "via", host4)
	b.outside.Run("ip", "route", "add", "fd77:3::/64", "via", host6)
	for _, f := range []struct {
		addr                   netip.Addr
		gateway, outside, host string
	}{{one.addr4, "10.77.3.1", outside4, host4}, {one.addr6, "fd77:3::1", outside6, host6}} {
		inside := lab.Probe{From: other.Host, Proto: "tcp", Addr: at(f.addr, "80")}
		lab.Reachable(t, other.Host, "tcp", inside.Addr)
		lab.Unreachable(t, b.outside, "tcp", inside.Addr, inside)
		lab.Unreachable(t, b.outside, "tcp", at(f.host, "8080"), inside)
		// A route that it gives itself leads nowhere either.
		other.Run("ip", "route", "add", "default", "via", f.gateway)
		lab.Unreachable(t, other.Host, "tcp", at(f.outside, "7"), lab.Probe{From: b.host, Proto: "tcp", Addr: at(f.outside, "7")})
	}
}

// planConnect makes a container of two networks, the second by its own plan.
func planConnect(t *testing.T, s *site) {
	real := s.idle("--name", "both", "--network", "vault", "--ip", "10.77.3.40", "--ip6", "fd77:3::40", "-p", "8088:80")
	script := s.Must("plan", "network", "connect", "--ip", "10.77.1.40", "--ip6", "fd77:1::40", "back", "both")
	b := newBare(t)
	b.follow(script)
	both := b.made("both", "10.77.1.40", "fd77:1::40")
	both.serves("tcp", "80")
	both.sees(b.outside, "tcp", at(host4, "8088"), outside4)
	both.sees(b.outside, "tcp", at(host6, "8088"), outside6)
	b.outward(both)
	s.Must("network", "connect", "--ip", "10.77.1.40", "--ip6", "fd77:1::40", "back", "both")
	if want, got := netOf(real.Host), netOf(both.Host); want != got {
		t.Errorf("the plan made\n%s\nthe daemon\n%s", got, want)
	}
	s.Must("rm", "-f", "both")
}

// netOf is addresses and routes in a container, but for numbers.
func netOf(h *lab.Host) string {
	return h.Run("sh", "-c", `(ip -br link; ip -br addr) | sed 's/@[^ ]*//' | tr -s ' '; ip route; ip -6 route`)
}

// planBesideReal runs what was planned, and compares.
func planBesideReal(t *testing.T, s *site, backend string) {
	args := []string{"run", "--name", "web", "--network", "back", "-p", "8090:80", "-P", "--expose", "81"}
	before := s.hostState()
	script := s.Must(append(append([]string{"plan"}, args...), "demo", "sleep", "3600")...)
	if after := s.hostState(); after != before {
		t.Errorf("a plan changed\n%s\nto\n%s", before, after)
	}
	b := newBare(t)
	b.follow(script)
	real := s.run(append(args[1:], "demo", "sleep", "3600")...)
	web := b.made("web", real.addr4.String(), real.addr6.String())
	if want, got := netOf(real.Host), netOf(web.Host); want != got {
		t.Errorf("the plan made\n%s\nthe daemon\n%s", got, want)
	}
	// The daemon has more networks: what the plan made is among what it made.
	have := strings.Split(rulesOf(s.host, backend), "\n")
	for _, rule := range strings.Split(rulesOf(b.host, backend), "\n") {
		if !slices.Contains(have, rule) {
			t.Errorf("the plan made, and the daemon did not:\n%s", rule)
		}
	}
	port := s.Must("port", "web", "81/tcp")
	_, number, _ := strings.Cut(strings.Fields(port)[0], ":")
	if !strings.Contains(script, "tcp 0.0.0.0:"+number+" for ") {
		t.Errorf("port 81 is %s, of which the plan says nothing:\n%s", port, script)
	}
	s.Must("rm", "-f", "web")
}

// rulesOf are the rules, or the elements of each set and map, a line each, but for names
// made of IDs.
func rulesOf(h *lab.Host, backend string) string {
	if backend == "iptables" {
		return h.Run("sh", "-c", `for p in iptables ip6tables; do $p-save | grep ^-A | sed "s/fairlead-[0-9a-f]*/fairlead-ID/; s/^/$p /"; done`)
	}
	const names = `s/veth[0-9a-f]*/veth/g; s/daemon [0-9a-f]*/daemon ID/; s/counter packets.*bytes [0-9]*/counter/; s/0x[0-9a-f]*/HEX/`
	return h.Run("sh", "-c", `nft -s list ruleset | tr '\n\t' '  ' | sed 's/flags owner[,persist]*//' | sed 's/elements = {/\n/g; s/, */\n/g; s/ } *}/\n/g; `+names+`' | grep -E '^ *"?(tcp|udp|br-|10[.]77|fd77)[^{}]*$' | sed 's/^ *//; s/ *$//' | sort -u`)
}

// hostState is all that a plan must not change: not whether a link has a carrier, which
// comes and goes a moment after its ports.
func (s *site) hostState() string {
	s.t.Helper()
	state := s.host.Run("sh", "-c", `ip -br addr | awk '{$2 = ""; print}'; (ip route; ip -6 route) | sed 's/ linkdown//'; nft -s list ruleset; iptables-save | grep -v '^[#:]'; ss -tulnH | awk '{print $1, $5}' | sort; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding`)
	return strings.Join([]string{state, s.Must("ps", "-aq"), s.Must("network", "ls", "-q"), s.Must("network", "inspect", "back")}, "\n")
}

// planRefused asks for what cannot be, of the command and of its plan: the same is said,
// and nothing has changed.
func planRefused(t *testing.T, s *site) {
	s.idle("--name", "taken", "-p", "8070:80")
	defer s.Must("rm", "-f", "taken")
	defer s.host.Listen("tcp", at("0.0.0.0", "8071")).Close()
	defer s.host.Listen("udp", at("0.0.0.0", "8072")).Close()
	before := s.hostState()
	for _, args := range [][]string{
		{"run", "--name", "taken", "demo", "true"},
		{"run", "-p", "8070:80", "demo", "true"},
		{"run", "-p", "8071:80", "demo", "true"},
		{"run", "-p", "8072:80/udp", "demo", "true"},
		{"run", "-p", "203.0.113.9:80:80", "demo", "true"},
		{"run", "-p", "70000:80", "demo", "true"},
		{"run", "--network", "nowhere", "demo", "true"},
		{"run", "--network", "back", "--ip", "10.78.0.1", "demo", "true"},
		{"run", "--network", "back", "--ip", "10.77.1.1", "demo", "true"},
		{"run", "--ip", "172.17.0.9", "demo", "true"},
		{"run", "--network", "container:nobody", "demo", "true"},
		{"create", "--link", "nobody", "demo", "true"},
		{"network", "create", "back"},
		{"network", "create", "--subnet", "10.77.1.0/25", "more"},
		{"network", "create", "--driver", "macvlan", "more"},
		{"network", "create", "-o", "com.docker.network.bridge.name=uplink", "more"},
		{"network", "create", "-o", "com.docker.network.bridge.enable_icc=perhaps", "more"},
		{"network", "connect", "nowhere", "taken"},
		{"network", "connect", "bridge", "taken"},
		{"network", "connect", "--ip", "10.78.0.1", "back", "taken"},
	} {
		_, want, code := s.CLI(args...)
		out, got, planCode := s.CLI(append([]string{"plan"}, args...)...)
		if got = strings.ReplaceAll(got, "fairlead plan ", "fairlead "); code == 0 || got != want || planCode != code || out != "" {
			t.Errorf("%v: exit status %d\n%sits plan: %d\n%s%s", args, code, want, planCode, out, got)
		}
	}
	if after := s.hostState(); after != before {
		t.Errorf("what was refused changed\n%s\nto\n%s", before, after)
	}
}

// planHere has a shell follow, beside the daemon, what is still to be done: it ends before
// it has changed anything, as the tables are the daemon's, and the plan claims nothing else.
func planHere(t *testing.T, s *site) {
	script := s.Must("plan", "--here", "run", "--name", "stopped", "--network", "back", "-p", "8050:80", "demo", "true")
	if strings.Contains(script, "It makes the same one") {
		t.Errorf("tables with an owner are said to be anybody's:\n%s", script)
	}
	before := s.hostState()
	r := finish(s.host.Command(t.Context(), "sh"), []byte(script))
	if r.Code != 1 || strings.Count(r.Stderr, "\n") != 1 || !strings.HasPrefix(r.Stderr, "nothing was done: table fairlead is the daemon's own") || r.Stdout != "" {
		t.Errorf("exit status %d\n%s%s\nof\n%s", r.Code, r.Stdout, r.Stderr, script)
	}
	if after := s.hostState(); after != before {
		t.Errorf("it changed\n%s\nto\n%s", before, after)
	}
}

// planDiff breaks what is there, has a shell follow what is said of it, and finds all well.
func planDiff(t *testing.T, s *site, backend string) {
	c := s.idle("--name", "broken", "--network", "back", "-p", "8060:80")
	defer s.Must("rm", "-f", "broken")
	if text := s.Must("plan", "--diff"); text != "" {
		t.Errorf("all is well, and the plan is\n%s", text)
	}
	s.Must("heal", "pause")
	defer s.Must("heal", "resume")
	veth := s.host.Run("sh", "-c", "ip -br link show master br-back type veth | cut -d@ -f1")
	s.host.Run("sh", "-ec", "ip link set "+veth+" nomaster; ip addr del 10.77.1.1/24 dev br-back; sysctl -w net.ipv4.ip_forward=0; ip link del br-vault; ip link set br-apart mtu 1400")
	if backend == "iptables" {
		s.host.Run("sh", "-ec", "iptables -F DOCKER; iptables -t nat -F DOCKER; ip6tables -D FORWARD -j DOCKER-USER || true")
	}
	script := s.Must("plan", "--diff")
	if r := finish(s.host.Command(t.Context(), "sh", "-e"), []byte(script)); r.Code != 0 {
		t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if text := s.Must("plan", "--diff"); text != "" {
		t.Errorf("after\n%s\nthere is still\n%s", script, text)
	}
	c.serves("tcp", "80")
	c.sees(s.outside, "tcp", at(host4, "8060"), outside4)
}
