package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
)

func (h Host) kernel(f *findings) {
	switch {
	case h.Filter.Err != "":
		f.add(Problem, "kernel", fmt.Sprintf("Linux %s: nf_tables cannot be used (%s): no rule can be made", h.Release, h.Filter.Err), "modprobe nf_tables")
		return
	case !h.Filter.Owner || !h.Filter.Persist:
		f.add(Note, "kernel", fmt.Sprintf("Linux %s: its nf_tables has no owner and persist flags (Linux 6.9): another program's flush takes Fairlead's rules away until the daemon puts them back", h.Release))
	default:
		f.add(OK, "kernel", fmt.Sprintf("Linux %s, nf_tables with owner and persist", h.Release))
	}
	if !h.Filter.Bridge {
		f.add(Warning, "kernel", "nf_tables has no family bridge (CONFIG_NF_TABLES_BRIDGE): containers may send under each other's addresses, and cannot be kept apart on one network", "modprobe nf_tables_bridge || modprobe nft_meta_bridge")
	}
	if !h.Filter.Flows {
		f.add(Note, "kernel", "nf_tables cannot count connections (CONFIG_NFT_CONNLIMIT, CONFIG_NFT_NUMGEN): one container may fill the table of connections", "modprobe -a nft_connlimit nft_numgen")
	}
}

// needed says what each part of the kernel is for, and how much it matters.
var needed = []struct {
	name  string
	level Level
	why   string
}{
	{"veth", Problem, "containers cannot be attached"},
	{"bridge", Problem, "networks cannot be made"},
	{"nf_conntrack", Problem, "connections cannot be tracked, so nothing can be published or masqueraded"},
	{"nf_nat", Problem, "addresses cannot be translated, so nothing can be published or masqueraded"},
	{"bpf", Note, "--userland-proxy=false does not serve loopback, and what the kernel dropped and why cannot be asked"},
	{"bridge_vlan_filtering", Note, "bridges of the host's own that use VLANs cannot filter them"},
}

func (h Host) modules(f *findings) {
	var have []string
	for _, n := range needed {
		switch there, known := h.Modules[n.name]; {
		case !known:
		case there:
			have = append(have, n.name)
		default:
			var cure []string
			if n.name != "bpf" && n.name != "bridge_vlan_filtering" { // those are no modules
				cure = []string{"modprobe " + n.name}
			}
			f.add(n.level, "modules", fmt.Sprintf("the kernel has no %s (%s): %s", n.name, ModuleNames[n.name], n.why), cure...)
		}
	}
	if len(have) > 0 {
		f.add(OK, "modules", strings.Join(have, ", "))
	}
	if !h.BTF {
		f.add(Note, "ebpf", "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): why it dropped a packet cannot be asked of it")
	}
	switch {
	case h.CgroupV2:
		f.add(OK, "cgroup", "cgroup version 2")
	case h.CgroupHybrid:
		f.add(OK, "cgroup", "cgroup version 1, with version 2 beside it")
	default:
		f.add(Note, "cgroup", "cgroup version 1 alone: --userland-proxy=false does not serve loopback", "systemd.unified_cgroup_hierarchy=1 on the kernel's command line")
	}
}

func (h Host) programs(f *findings) {
	var have []string
	for _, name := range []string{"containerd", "runc"} {
		switch version, asked := h.Programs[name]; {
		case !asked:
		case version == "":
			f.add(Problem, "programs", name+" is not installed: no container can be started", "apt-get install "+map[string]string{"containerd": "containerd", "runc": "runc"}[name])
		default:
			have = append(have, name+" "+version)
		}
	}
	if len(have) > 0 {
		f.add(OK, "programs", strings.Join(have, ", "))
	}
	if h.Daemon != nil && h.Daemon.Backend == "iptables" && h.Programs["iptables"] == "" {
		f.add(Problem, "programs", "the firewall back end is iptables, which is not installed", "apt-get install iptables")
	}
}

func (h Host) limits(f *findings) {
	if h.FilesMax > 0 && h.FilesOpen*10 >= h.FilesMax*9 {
		f.add(Problem, "files", fmt.Sprintf("%d of %d files that the machine may have open are", h.FilesOpen, h.FilesMax), fmt.Sprintf("sysctl -w fs.file-max=%d", 2*h.FilesMax))
	}
	// Each published port is an open file or several, and a range of them is open at once.
	if h.OpenLimit > 0 && h.OpenLimit < 65536 {
		f.add(Warning, "files", fmt.Sprintf("a process may have %d files open: publishing ranges of ports may fail", h.OpenLimit), "ulimit -Hn 1048576", "systemctl edit fairlead: LimitNOFILE=1048576")
	}
	for _, l := range []struct {
		key  string
		want uint64
	}{{"fs.inotify.max_user_instances", 128}, {"fs.inotify.max_user_watches", 8192}} {
		if n, ok := h.number(l.key); ok && n < l.want {
			f.add(Warning, "inotify", fmt.Sprintf("%s is %d: programs in containers that watch files may fail", l.key, n), fmt.Sprintf("sysctl -w %s=%d", l.key, l.want*4))
		}
	}
}

func (h Host) daemon(f *findings) {
	for _, what := range h.Unread {
		f.add(Note, "look", "not looked at: "+what)
	}
	d := h.Daemon
	if d == nil {
		f.add(Note, "daemon", "no daemon was asked: what differs from what it wants is not known", "fairlead daemon")
		return
	}
	if d.Paused {
		f.add(Warning, "healing", "healing is paused since "+d.Since.UTC().Format("2006-01-02 15:04:05 UTC")+": what other programs change of the network stays changed", "fairlead heal resume")
	}
	for _, line := range d.Differences {
		f.add(Problem, "wanted", line, d.cure(line))
	}
	d.ports(f)
	if len(d.Differences) == 0 {
		f.add(OK, "wanted", "the kernel has what the daemon wants, firewall "+d.Backend)
	}
}

// cure is what mends a difference: most are put right by the daemon, as soon as it may.
func (d *Daemon) cure(difference string) string {
	if container, ok := spec.CuredByRestart(difference); ok {
		return "fairlead restart " + container
	}
	if command, ok := spec.CuredByContinuing(difference); ok {
		return command
	}
	if d.Paused {
		return "fairlead heal resume"
	}
	return "systemctl restart fairlead"
}

// ports says which published ports nobody serves, and which are not published for want of
// the userland proxy.
func (d *Daemon) ports(f *findings) {
	if len(d.Unserved) > 0 {
		f.add(Warning, "ports", fmt.Sprintf("nobody serves %s: no rules are made for them (--iptables, --ip6tables) and the userland proxy is off, so they are held, and answer on loopback at most", some(d.Unserved)), "fairlead daemon --userland-proxy=true")
	}
	switch {
	case len(d.Unpublished) == 0:
	case d.UserlandProxy:
		f.add(Warning, "ports", fmt.Sprintf("not published, though containers ask for it: %s; another program or container had it when the userland proxy was to serve it", some(d.Unpublished)), "ss -ltnup  # who has the port; when it is free:", "fairlead restart CONTAINER")
	default:
		f.add(Note, "ports", fmt.Sprintf("not published, though containers ask for it: %s; the containers have no address of that family, or the port is loopback's, and the userland proxy is off", some(d.Unpublished)), "fairlead daemon --userland-proxy=true")
	}
}

// some are the first of them: a range may have thousands.
func some(all []string) string {
	first := all[:min(len(all), 3)]
	more := ""
	if n := len(all) - len(first); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(first, ", ") + more
}

// fastPath says whether what was asked for is there, and what stands in its way.
func (h Host) fastPath(f *findings) {
	if h.Daemon == nil || h.Daemon.FastPath == nil {
		return
	}
	p := h.Daemon.FastPath
	if p.Lack != "" {
		f.add(Note, "fastpath", "--fast-path is on, and containers reach each other by the bridge, and outside by the host's routing, all the same: "+p.Lack)
		return
	}
	f.add(OK, "fastpath", fmt.Sprintf("links of containers that take the fast path: %d", p.Links))
	for _, why := range p.Slow {
		f.add(Note, "fastpath", "not by the fast path: "+why)
	}
	if p.ConnectionsLack != "" {
		f.add(Note, "fastpath", "connections with outside do not take the fast path: "+p.ConnectionsLack)
		return
	}
	f.add(OK, "fastpath", fmt.Sprintf("connections with outside that take the fast path: %d", p.Connections))
	for _, why := range p.SlowLinks {
		f.add(Note, "fastpath", "connections with outside do not take the fast path: "+why)
	}
}

// has says whether any of the names begins with one of the prefixes.
func has(names []string, prefixes ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(n, p) })
	})
}
