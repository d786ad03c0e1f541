package doctor_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/network/spec"
)

// well is a host that nothing ails.
func well() doctor.Host {
	h := doctor.Host{
		Release: "6.18.0", Filter: doctor.Filter{Owner: true, Persist: true, Bridge: true, Flows: true}, Modules: make(map[string]bool),
		BTF: true, CgroupV2: true, Programs: map[string]string{"containerd": "2.1.0", "runc": "1.3.0", "iptables": "1.8.11"},
		Sysctls: map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.all.disable_ipv6": "0",
			"net.ipv4.conf.all.rp_filter": "2", "net.ipv4.conf.all.route_localnet": "0",
			"net.netfilter.nf_conntrack_count": "10", "net.netfilter.nf_conntrack_max": "1000",
			"net.ipv4.neigh.default.gc_thresh3": "1024", "net.ipv6.neigh.default.gc_thresh3": "1024",
			"fs.inotify.max_user_instances": "128", "fs.inotify.max_user_watches": "8192",
		},
		Uplinks: []doctor.Uplink{{Name: "eth0", MTU: 1500}, {Name: "eth1", MTU: 9000}}, Default: "eth0",
		Routes: []doctor.Route{
			{Destination: netip.MustParsePrefix("192.0.2.0/24"), Device: "eth0"}, {Destination: netip.MustParsePrefix("172.17.0.0/16"), Device: "fairlead0"},
		},
		FilesOpen: 10, FilesMax: 1000, OpenLimit: 1 << 20,
		Networks: []doctor.Network{
			{Name: "bridge", Bridge: "fairlead0", Default: true, MTU: 1500, Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}},
			{Name: "dual", Bridge: "br1", MTU: 1500, Subnets: []netip.Prefix{netip.MustParsePrefix("10.30.0.0/24"), netip.MustParsePrefix("fd00:30::/64")}},
		},
		Daemon:     &doctor.Daemon{Backend: "nftables"},
		Neighbours: map[string]doctor.Neighbours{"IPv4": {Entries: 10}, "IPv6": {Entries: 10}},
	}
	for name := range doctor.ModuleNames {
		h.Modules[name] = true
	}
	return h
}

// TestExamine plants each finding, and has it named with its level and its cure; of a host
// that is well there is none.
func TestExamine(t *testing.T) {
	t.Parallel()
	for _, f := range doctor.Examine(well()).Findings {
		if f.Level != doctor.OK {
			t.Errorf("a host that is well: %+v", f)
		}
	}
	for _, c := range []struct {
		plant       func(h *doctor.Host)
		level       doctor.Level
		check, what string
		cure        string
	}{
		{func(h *doctor.Host) { h.Filter.Err = "operation not supported" }, doctor.Problem, "kernel", "nf_tables cannot be used", "modprobe nf_tables"},
		{func(h *doctor.Host) { h.Filter.Persist = false }, doctor.Note, "kernel", "no owner and persist", ""},
		{func(h *doctor.Host) { h.Filter.Bridge = false }, doctor.Warning, "kernel", "CONFIG_NF_TABLES_BRIDGE", "modprobe nf_tables_bridge"},
		{func(h *doctor.Host) { h.Filter.Flows = false }, doctor.Note, "kernel", "cannot count connections", "modprobe -a"},
		{func(h *doctor.Host) { h.Modules["veth"] = false }, doctor.Problem, "modules", "no veth (CONFIG_VETH)", "modprobe veth"},
		{func(h *doctor.Host) { h.Modules["bpf"] = false }, doctor.Note, "modules", "no bpf", ""},
		{func(h *doctor.Host) { h.BTF = false }, doctor.Note, "ebpf", "CONFIG_DEBUG_INFO_BTF", ""},
		{func(h *doctor.Host) { h.CgroupV2 = false }, doctor.Note, "cgroup", "version 1 alone", "systemd.unified"},
		{func(h *doctor.Host) { h.Programs["runc"] = "" }, doctor.Problem, "programs", "runc is not installed", "apt-get install runc"},
		{func(h *doctor.Host) { h.Daemon.FastPath = &doctor.FastPath{Lack: "the kernel is older"} }, doctor.Note, "fastpath", "by the bridge, and outside by the host's routing, all the same: the kernel is older", ""},
		{func(h *doctor.Host) {
			h.Daemon.FastPath = &doctor.FastPath{Links: 2, Slow: []string{"its containers are kept apart"}}
		}, doctor.Note, "fastpath", "not by the fast path: its containers are kept apart", ""},
		{func(h *doctor.Host) {
			h.Daemon.FastPath = &doctor.FastPath{ConnectionsLack: "nft chain ip filter FORWARD has rules on what is routed"}
		}, doctor.Note, "fastpath", "with outside do not take the fast path: nft chain ip filter FORWARD", ""},
		{func(h *doctor.Host) {
			h.Daemon.FastPath = &doctor.FastPath{Connections: 2, SlowLinks: []string{"link eth0 is another's port"}}
		}, doctor.Note, "fastpath", "with outside do not take the fast path: link eth0 is another's port", ""},
		{func(h *doctor.Host) { h.Daemon.Backend, h.Programs["iptables"] = "iptables", "" }, doctor.Problem, "programs", "iptables, which is not installed", "apt-get install iptables"},
		{func(h *doctor.Host) { h.Sysctls["net.ipv4.ip_forward"] = "0" }, doctor.Problem, "forwarding", "IPv4", "sysctl -w net.ipv4.ip_forward=1"},
		{func(h *doctor.Host) { h.Sysctls["net.ipv6.conf.all.forwarding"] = "0" }, doctor.Problem, "forwarding", "IPv6", "sysctl -w net.ipv6.conf.all.forwarding=1"},
		{func(h *doctor.Host) { h.Sysctls["net.ipv6.conf.all.disable_ipv6"] = "1" }, doctor.Problem, "forwarding", "IPv6 is switched off", "disable_ipv6=0"},
		{func(h *doctor.Host) {
			h.Daemon, h.Networks, h.Sysctls["net.ipv4.ip_forward"] = nil, nil, "0"
		}, doctor.Note, "forwarding", "the daemon turns it on", ""},
		{func(h *doctor.Host) {
			h.Walls = []doctor.Wall{{Chain: "ip filter FORWARD", Cause: "policy drop", Ours: 2}}
		}, doctor.Note, "forward", "chain ip filter FORWARD drops what is forwarded (policy drop); 2 rules of ours", ""},
		{func(h *doctor.Host) { h.Walls = []doctor.Wall{{Chain: "ip filter FORWARD", Cause: "policy drop"}} }, doctor.Problem, "forward", "nothing lets containers through", "systemctl restart fairlead"},
		{func(h *doctor.Host) { h.Firewalld = true }, doctor.Note, "firewall", "firewalld runs", "firewall-cmd --info-zone=fairlead"},
		{func(h *doctor.Host) { h.UFW = true }, doctor.Note, "firewall", "ufw is on", "ufw status verbose"},
		{func(h *doctor.Host) { h.Legacy = true }, doctor.Note, "firewall", "rules of iptables-legacy are in the kernel", "iptables-legacy-save"},
		{func(h *doctor.Host) { h.Legacy, h.NFTables = true, true }, doctor.Warning, "firewall", "both in the kernel", "iptables-legacy-save"},
		{func(h *doctor.Host) {
			h.Routes = append(h.Routes, doctor.Route{Destination: netip.MustParsePrefix("172.16.0.0/12"), Device: "wg0"})
		}, doctor.Warning, "overlap", "network bridge has 172.17.0.0/16, a part of 172.16.0.0/12", "fairlead daemon --bip"},
		{func(h *doctor.Host) {
			h.Routes = append(h.Routes, doctor.Route{Destination: netip.MustParsePrefix("fd00:30::/64"), Device: "wg0"})
		}, doctor.Problem, "overlap", "network dual has fd00:30::/64", "ip -6 route del fd00:30::/64 dev wg0"},
		{func(h *doctor.Host) {
			h.Routes = append(h.Routes, doctor.Route{Destination: netip.MustParsePrefix("10.30.0.0/24")})
		}, doctor.Problem, "overlap", "leads 10.30.0.0/24 nowhere", "ip route del 10.30.0.0/24"},
		{func(h *doctor.Host) { h.Uplinks[0].MTU = 1400 }, doctor.Warning, "mtu", "network dual has packets of 1500 bytes", "com.docker.network.driver.mtu=1400"},
		{func(h *doctor.Host) { h.Default = "" }, doctor.Note, "mtu", "no default route", ""},
		{func(h *doctor.Host) { h.Sysctls["net.netfilter.nf_conntrack_count"] = "800" }, doctor.Warning, "conntrack", "800 of 1000", "nf_conntrack_max=2000"},
		{func(h *doctor.Host) { h.Sysctls["net.netfilter.nf_conntrack_count"] = "1000" }, doctor.Problem, "conntrack", "new ones are dropped", "nf_conntrack_max=2000"},
		{func(h *doctor.Host) { h.Neighbours["IPv6"] = doctor.Neighbours{Entries: 1000} }, doctor.Problem, "neighbours", "1000 of 1024 IPv6", "sysctl -w net.ipv6.neigh.default.gc_thresh3=4096"},
		{func(h *doctor.Host) { h.Neighbours["IPv4"] = doctor.Neighbours{Entries: 800} }, doctor.Warning, "neighbours", "800 of 1024 IPv4", "net.ipv4.neigh.default.gc_thresh2=2048"},
		{func(h *doctor.Host) { h.Networks[1].Endpoints = 1000 }, doctor.Warning, "neighbours", "IPv6 neighbours, of all namespaces together; the containers here need 2000", "net.ipv6.neigh.default.gc_thresh3=8000"},
		{func(h *doctor.Host) { h.Neighbours["IPv6"] = doctor.Neighbours{Entries: 9, Full: 4} }, doctor.Note, "neighbours", "no room for another 4 times", "gc_thresh3=4096"},
		{func(h *doctor.Host) { h.Links = []string{"docker0"} }, doctor.Warning, "leftovers", "docker0 is left of Docker", "ip link del docker0"},
		{func(h *doctor.Host) { h.Links, h.Running = []string{"docker0"}, []string{"dockerd"} }, doctor.Note, "leftovers", "Docker runs beside Fairlead", ""},
		{func(h *doctor.Host) { h.Chains = []string{"ip filter DOCKER-USER", "ip nat DOCKER"} }, doctor.Warning, "leftovers", "ip filter DOCKER-USER, ip nat DOCKER", "iptables-nft-save -t nat | grep -v DOCKER | iptables-nft-restore"},
		{func(h *doctor.Host) { h.Chains = []string{"iptables-legacy filter CNI-FORWARD"} }, doctor.Warning, "leftovers", "CNI-FORWARD", "iptables-legacy-save -t filter | grep -v CNI- | iptables-legacy-restore"},
		{func(h *doctor.Host) { h.Chains = []string{"inet netavark NETAVARK-FORWARD"} }, doctor.Warning, "leftovers", "netavark", "nft delete table inet netavark"},
		{func(h *doctor.Host) { h.Sysctls["net.ipv4.conf.all.rp_filter"] = "1" }, doctor.Warning, "sysctl", "strict", "rp_filter=2"},
		{func(h *doctor.Host) { h.Sysctls["net.ipv4.conf.all.route_localnet"] = "1" }, doctor.Note, "sysctl", "route_localnet", "route_localnet=0"},
		{func(h *doctor.Host) { h.Sysctls["net.bridge.bridge-nf-call-ip6tables"] = "1" }, doctor.Note, "sysctl", "bridge-nf-call-ip6tables is 1", "bridge-nf-call-ip6tables=0"},
		{func(h *doctor.Host) { h.FilesOpen = 950 }, doctor.Problem, "files", "950 of 1000", "fs.file-max=2000"},
		{func(h *doctor.Host) { h.OpenLimit = 1024 }, doctor.Warning, "files", "1024 files open", "ulimit"},
		{func(h *doctor.Host) { h.Sysctls["fs.inotify.max_user_instances"] = "8" }, doctor.Warning, "inotify", "max_user_instances is 8", "fs.inotify.max_user_instances=512"},
		{func(h *doctor.Host) { h.Daemon.Paused, h.Daemon.Since = true, time.Unix(0, 0) }, doctor.Warning, "healing", "paused since 1970", "fairlead heal resume"},
		{func(h *doctor.Host) { h.Daemon.Differences = []string{"link vethx is down"} }, doctor.Problem, "wanted", "link vethx is down", "systemctl restart"},
		{func(h *doctor.Host) { h.Daemon.Unserved = []string{"a", "b", "c", "d"} }, doctor.Warning, "ports", "nobody serves a, b, c and 1 more", "--userland-proxy=true"},
		{func(h *doctor.Host) { h.Daemon.Unpublished = []string{"a", "b"} }, doctor.Note, "ports", "ask for it: a, b; the containers have no address of that family", "--userland-proxy=true"},
		{func(h *doctor.Host) {
			h.Daemon.Unpublished, h.Daemon.UserlandProxy = []string{"a", "b", "c", "d"}, true
		}, doctor.Warning, "ports", "ask for it: a, b, c and 1 more; another program or container had it", "fairlead restart CONTAINER"},
		{func(h *doctor.Host) { h.Daemon = nil }, doctor.Note, "daemon", "no daemon was asked", "fairlead daemon"},
		{func(h *doctor.Host) { h.Unread = []string{"x: y"} }, doctor.Note, "look", "not looked at: x: y", ""},
	} {
		h := well()
		c.plant(&h)
		r := doctor.Examine(h)
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
			return f.Level == c.level && f.Check == c.check && strings.Contains(f.What, c.what) && strings.Contains(strings.Join(f.Cure, "\n"), c.cure)
		}) {
			t.Errorf("not named: %s %s %q, cure %q, in %+v", c.level, c.check, c.what, c.cure, r.Findings)
		}
	}
}

// TestCuresOfDifferences: what a container did in its own namespace is not mended by the
// daemon's restart, nor by healing that goes on; each difference has the cure that helps.
func TestCuresOfDifferences(t *testing.T) {
	t.Parallel()
	inside := fmt.Sprintf("container web: table ip %s is gone"+spec.RestartCure, spec.ResolverTable, "web")
	for _, c := range []struct {
		paused           bool
		difference, cure string
	}{
		{false, inside, "fairlead restart web"},
		{true, inside, "fairlead restart web"},
		{true, fmt.Sprintf("a helper has not answered in 1s"+spec.ContinueCure+", and so on", 4711), "kill -CONT 4711"},
		{false, "link vethx is down", "systemctl restart fairlead"},
		{true, "link vethx is down", "fairlead heal resume"},
		{false, fmt.Sprintf("link vethx is renamed"+spec.RestartCure, "x; reboot"), "systemctl restart fairlead"},
	} {
		h := well()
		h.Daemon.Paused, h.Daemon.Differences = c.paused, []string{"bridge br1 is missing", c.difference}
		found := doctor.Examine(h).Findings
		i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.Check == "wanted" && f.What == c.difference })
		if i < 0 || !slices.Equal(found[i].Cure, []string{c.cure}) {
			t.Errorf("healing paused %t: %q, want the cure %q, in %+v", c.paused, c.difference, c.cure, found)
		}
	}
}

// TestOwnChains: the iptables back end's chains are nobody's leftovers.
func TestOwnChains(t *testing.T) {
	t.Parallel()
	h := well()
	h.Chains, h.Daemon.OwnChains = []string{"ip filter DOCKER", "ip filter DOCKER-USER"}, []string{"DOCKER", "DOCKER-USER"}
	for _, f := range doctor.Examine(h).Findings {
		if f.Check == "leftovers" {
			t.Errorf("got %+v", f)
		}
	}
}

// TestOrder: what is worst comes first.
func TestOrder(t *testing.T) {
	t.Parallel()
	h := well()
	h.UFW, h.OpenLimit, h.Sysctls["net.ipv4.ip_forward"] = true, 10, "0"
	var levels []doctor.Level
	for _, f := range doctor.Examine(h).Findings {
		if len(levels) == 0 || levels[len(levels)-1] != f.Level {
			levels = append(levels, f.Level)
		}
	}
	if want := []doctor.Level{doctor.Problem, doctor.Warning, doctor.Note, doctor.OK}; !slices.Equal(levels, want) {
		t.Errorf("got %v, want %v", levels, want)
	}
}
