package doctor

import (
	"net/netip"
	"time"
)

// Host is what was read of a host.
type Host struct {
	// Release is the kernel's, as uname(2) has it.
	Release string
	Filter  Filter
	// Modules says of each of ModuleNames whether the kernel has it; what could not be
	// told is not there.
	Modules map[string]bool
	// BTF says that the kernel describes its types to eBPF programs.
	BTF bool
	// CgroupV2 says that /sys/fs/cgroup is of version 2, CgroupHybrid that version 2 is
	// mounted beside version 1.
	CgroupV2, CgroupHybrid bool
	// Programs are versions by name, "" where a program is not there.
	Programs map[string]string
	// Sysctls are those of SysctlNames that the kernel has.
	Sysctls map[string]string
	// Uplinks are interfaces that lead out, Default the one of the default route.
	Uplinks []Uplink
	Default string
	Routes  []Route
	// Walls are other programs' chains that drop what is forwarded.
	Walls []Wall
	// Firewalld says that it runs here. UFW is on where its chains are there.
	Firewalld, UFW bool
	// Legacy says that rules of iptables-legacy are in the kernel, and NFTables that
	// other programs have some in nf_tables.
	Legacy, NFTables bool
	// Chains are other programs' chains, as in "ip filter DOCKER", Links all names
	// of interfaces, and Running the names of other engines' processes here.
	Chains, Links, Running []string
	// FilesOpen of FilesMax, files of the whole machine; OpenLimit is how many one
	// process may have at most.
	FilesOpen, FilesMax, OpenLimit uint64
	Networks                       []Network
	// Neighbours are by family, IPv4 and IPv6; none where the kernel does not tell.
	Neighbours map[string]Neighbours
	// Daemon is nil where none was asked.
	Daemon *Daemon
	// Unread is what could not be read, and why.
	Unread []string
}

// Filter is what nf_tables can do.
type Filter struct {
	// Err is why there is none, "" where there is.
	Err                           string
	Owner, Persist, Bridge, Flows bool
}

// Uplink is an interface that leads out.
type Uplink struct {
	Name string
	MTU  int
}

// Route is one that leads by a device.
type Route struct {
	Destination netip.Prefix
	// Device is "" of a route that leads nowhere.
	Device string
}

// Wall is a chain that drops what is forwarded.
type Wall struct {
	Chain, Cause string
	// Ours is how many rules of ours let containers through.
	Ours int
}

// Network is one of ours.
type Network struct {
	Name, Bridge string
	// Default is the one that comes with the daemon.
	Default bool
	Subnets []netip.Prefix
	MTU     int
	// Endpoints is how many containers are on it.
	Endpoints int
}

// Daemon is what the daemon says of itself.
type Daemon struct {
	// Backend is nftables, iptables or none.
	Backend string
	// OwnChains are those of the iptables back end.
	OwnChains []string
	// Differences are what debug check finds.
	Differences []string
	// Unserved are published ports that neither a rule of ours leads to their containers
	// nor the userland proxy, as HOST/PROTO of CONTAINER.
	Unserved []string
	// Unpublished are host ports that containers ask for and do not have, in the same
	// form: the userland proxy alone would serve them.
	Unpublished []string
	// UserlandProxy says that it is on.
	UserlandProxy bool
	// FastPath is how it is with the fast path; nil where it is not asked for.
	FastPath *FastPath
	// Paused says that healing is, since when.
	Paused bool
	Since  time.Time
}

// FastPath is what containers of one network may send each other by, past its bridge, and
// those and outside past the host's routing and NAT.
type FastPath struct {
	// Lack is why it is not used on this host, "" where it is.
	Lack string
	// Links is how many containers' links take it; Slow are reasons why others do not.
	Links int
	Slow  []string
	// Connections is how many with outside take it; ConnectionsLack is why none does, ""
	// where some may, and SlowLinks are reasons why those by a link of the host's do not.
	Connections     int
	ConnectionsLack string
	SlowLinks       []string
}

// ModuleNames are the parts of the kernel that are asked for, with the options that
// build them.
var ModuleNames = map[string]string{
	"veth": "CONFIG_VETH", "bridge": "CONFIG_BRIDGE", "nf_conntrack": "CONFIG_NF_CONNTRACK", "nf_nat": "CONFIG_NF_NAT",
	"bridge_vlan_filtering": "CONFIG_BRIDGE_VLAN_FILTERING", "br_netfilter": "CONFIG_BRIDGE_NETFILTER", "bpf": "CONFIG_BPF_SYSCALL",
}

// SysctlNames are the parameters that are looked at.
var SysctlNames = []string{
	"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.disable_ipv6",
	"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.route_localnet",
	"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
	"net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
	"net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3",
	"fs.inotify.max_user_instances", "fs.inotify.max_user_watches",
}
