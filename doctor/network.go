package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// number is a sysctl that is a number.
func (h Host) number(key string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(h.Sysctls[key]), 10, 64)
	return n, err == nil
}

func (h Host) forwarding(f *findings) {
	six := slices.ContainsFunc(h.Networks, func(n Network) bool {
		return slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() })
	})
	well := true
	for _, c := range []struct {
		key, family string
		wanted      bool
	}{
		{"net.ipv4.ip_forward", "IPv4", true}, {"net.ipv6.conf.all.forwarding", "IPv6", six},
	} {
		if h.Sysctls[c.key] != "0" || !c.wanted {
			continue
		}
		well = false
		if h.Daemon == nil && len(h.Networks) == 0 {
			f.add(Note, "forwarding", fmt.Sprintf("the host does not forward %s (%s=0): the daemon turns it on when it starts, unless --ip-forward=false", c.family, c.key))
			continue
		}
		f.add(Problem, "forwarding", fmt.Sprintf("the host does not forward %s (%s=0): containers reach nothing outside, and are not reached", c.family, c.key), "sysctl -w "+c.key+"=1")
	}
	if six && h.Sysctls["net.ipv6.conf.all.disable_ipv6"] == "1" {
		well = false
		f.add(Problem, "forwarding", "IPv6 is switched off on the host, and a network of ours has it", "sysctl -w net.ipv6.conf.all.disable_ipv6=0")
	}
	if well {
		f.add(OK, "forwarding", "on")
	}
}

func (h Host) walls(f *findings) {
	for _, w := range h.Walls {
		head := fmt.Sprintf("chain %s drops what is forwarded (%s)", w.Chain, w.Cause)
		switch {
		case w.Ours > 0:
			f.add(Note, "forward", fmt.Sprintf("%s; %s of ours let containers through, and the chain's own policy and rules are as they were", head, rules(w.Ours)))
		case h.Daemon == nil:
			f.add(Note, "forward", head+"; the daemon adds rules that let containers through when it starts")
		case h.Daemon.Paused:
			f.add(Problem, "forward", head+", and nothing lets containers through: healing is paused", "fairlead heal resume")
		default:
			f.add(Problem, "forward", head+", and nothing lets containers through", "systemctl restart fairlead")
		}
	}
	if len(h.Walls) == 0 {
		f.add(OK, "forward", "no other program's chain drops what containers send")
	}
}

func rules(n int) string {
	if n == 1 {
		return "1 rule"
	}
	return fmt.Sprintf("%d rules", n)
}

func (h Host) overlap(f *findings) {
	found := false
	for _, n := range h.Networks {
		for _, subnet := range n.Subnets {
			for _, r := range h.Routes {
				if r.Device == n.Bridge || !r.Destination.Overlaps(subnet) || r.Destination.IsSingleIP() && r.Device == "" {
					continue
				}
				found = true
				by := "by " + r.Device
				del := fmt.Sprintf("ip route del %s dev %s", r.Destination, r.Device)
				if r.Device == "" {
					by, del = "nowhere", fmt.Sprintf("ip route del %s", r.Destination)
				}
				if r.Destination.Addr().Is6() {
					del = strings.Replace(del, "ip route", "ip -6 route", 1)
				}
				if r.Destination.Bits() >= subnet.Bits() {
					f.add(Problem, "overlap", fmt.Sprintf("network %s has %s, and a route of the host leads %s %s: containers with those addresses are not reached", n.Name, subnet, r.Destination, by), del)
				} else {
					f.add(Warning, "overlap", fmt.Sprintf("network %s has %s, a part of %s, where a route of the host leads %s: containers cannot reach those addresses there", n.Name, subnet, r.Destination, by), renew(n))
				}
			}
		}
	}
	if !found && len(h.Networks) > 0 {
		f.add(OK, "overlap", "no subnet of ours is another route's")
	}
}

// renew is how the network gets another subnet.
func renew(n Network) string {
	if n.Default {
		return "fairlead daemon --bip ADDRESS/LENGTH"
	}
	return fmt.Sprintf("fairlead network rm %s && fairlead network create --subnet PREFIX %s", n.Name, n.Name)
}

func (h Host) mtu(f *findings) {
	i := slices.IndexFunc(h.Uplinks, func(u Uplink) bool { return u.Name == h.Default })
	if i < 0 {
		f.add(Note, "mtu", "the host has no default route: containers reach what the host's other routes lead to")
		return
	}
	up, well := h.Uplinks[i], true
	for _, n := range h.Networks {
		if n.MTU <= up.MTU || up.MTU == 0 {
			continue
		}
		well = false
		cure := fmt.Sprintf("fairlead network rm %s && fairlead network create --opt com.docker.network.driver.mtu=%d %s", n.Name, up.MTU, n.Name)
		if n.Default {
			cure = fmt.Sprintf("fairlead daemon --mtu %d", up.MTU)
		}
		f.add(Warning, "mtu", fmt.Sprintf("network %s has packets of %d bytes, and uplink %s takes %d: large ones are lost where ICMP is filtered on the way", n.Name, n.MTU, up.Name, up.MTU), cure)
	}
	if well {
		f.add(OK, "mtu", fmt.Sprintf("no network's packets are larger than %s takes (%d)", up.Name, up.MTU))
	}
}

func (h Host) conntrack(f *findings) {
	count, ok := h.number("net.netfilter.nf_conntrack_count")
	most, ok2 := h.number("net.netfilter.nf_conntrack_max")
	if !ok || !ok2 || most == 0 {
		return
	}
	what := fmt.Sprintf("%d of %d connections are tracked", count, most)
	cure := fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most)
	switch {
	case count*100 >= most*95:
		f.add(Problem, "conntrack", what+": new ones are dropped", cure)
	case count*100 >= most*75:
		f.add(Warning, "conntrack", what+": when it is full, new ones are dropped", cure)
	default:
		f.add(OK, "conntrack", what)
	}
}

func (h Host) sysctls(f *findings) {
	if h.Sysctls["net.ipv4.conf.all.rp_filter"] == "1" && len(h.Uplinks) > 1 {
		f.add(Warning, "sysctl", "net.ipv4.conf.all.rp_filter is 1 (strict), and the host has several uplinks: what comes by one and would be answered by another is dropped", "sysctl -w net.ipv4.conf.all.rp_filter=2")
	}
	if h.Sysctls["net.ipv4.conf.all.route_localnet"] == "1" {
		f.add(Note, "sysctl", "net.ipv4.conf.all.route_localnet is 1: the kernel routes 127.0.0.0/8 from elsewhere; Fairlead's own rules keep containers and neighbours from what is published there", "sysctl -w net.ipv4.conf.all.route_localnet=0")
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		if key := "net.bridge.bridge-nf-call-" + family; h.Sysctls[key] == "1" {
			f.add(Note, "sysctl", key+" is 1: frames between containers of one network pass the host's "+family+" rules too, which may drop them", "sysctl -w "+key+"=0")
		}
	}
}
