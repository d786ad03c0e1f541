// Package look reads a host for package doctor. It changes nothing, and goes on past
// what cannot be read, which it notes.
package look

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/kernel/firewalld"
	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/ruleset"
)

// ours begins the alias of every bridge of ours, of whichever daemon.
const ours = "fairlead:"

// reader reads one host.
type reader struct {
	doctor.Host
}

// failed notes what could not be read.
func (r *reader) failed(what string, err error) {
	if err != nil {
		r.Unread = append(r.Unread, fmt.Sprintf("%s: %v", what, err))
	}
}

// Host reads the calling process's host. forward is what must pass other programs'
// chains, of a host without a daemon with the default table's name as its Tag. Where
// iptables.Legacy is in its Leave, the legacy FORWARD chains have our own rules.
func Host(ctx context.Context, forward nft.Forward) doctor.Host {
	var r reader
	r.machine(ctx)
	r.failed("links and routes", r.links())
	r.failed("nf_tables", r.filter(forward))
	r.failed("legacy iptables", r.legacy(ctx, iptables.Forward{Tag: forward.Tag, Group: forward.Group, Bridges: forward.Bridges, Others: forward.Others}, forward.Leave))
	if bus, err := firewalld.Dial(ctx); err == nil {
		r.Firewalld, err = bus.Running(ctx)
		r.failed("firewalld", err)
		r.failed("firewalld", bus.Close())
	}
	return r.Host
}

// machine reads what has nothing to do with the network.
func (r *reader) machine(ctx context.Context) {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		r.Release = unix.ByteSliceToString(name.Release[:])
	}
	r.Modules = modules(r.Release)
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	r.BTF = err == nil
	r.CgroupV2, r.CgroupHybrid = cgroups()
	r.Programs = programs(ctx)
	r.Sysctls = make(map[string]string)
	for _, key := range doctor.SysctlNames {
		if v, err := sysctl.Get(key); err == nil {
			r.Sysctls[key] = v
		}
	}
	r.Neighbours = neighbours()
	r.FilesOpen, r.FilesMax = files()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		r.OpenLimit = limit.Max
	}
	r.Running = engines()
}

// links reads interfaces and routes, and takes bridges of ours for networks.
func (r *reader) links() error {
	h, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer h.Close()
	all, err := h.Links()
	if err != nil {
		return err
	}
	names := make(map[int]string)
	for _, l := range all {
		names[l.Index] = l.Name
		r.Links = append(r.Links, l.Name)
		switch {
		case strings.HasPrefix(l.Alias, ours) && l.Kind == "bridge":
			n := doctor.Network{Name: l.Name, Bridge: l.Name, MTU: l.MTU}
			for _, a := range l.Addrs {
				if !a.Addr().IsLinkLocalUnicast() {
					n.Subnets = append(n.Subnets, a.Masked())
				}
			}
			r.Networks = append(r.Networks, n)
		case l.Running && slices.ContainsFunc(l.Addrs, outward):
			r.Uplinks = append(r.Uplinks, doctor.Uplink{Name: l.Name, MTU: l.MTU})
		}
	}
	if l, err := h.DefaultInterface(); err == nil {
		r.Default = l.Name
		if !slices.ContainsFunc(r.Uplinks, func(u doctor.Uplink) bool { return u.Name == l.Name }) {
			r.Uplinks = append(r.Uplinks, doctor.Uplink{Name: l.Name, MTU: l.MTU})
		}
	}
	leads, err := h.Leads()
	for _, l := range leads {
		if a := l.Destination.Addr(); !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsLoopback() {
			r.Routes = append(r.Routes, doctor.Route{Destination: l.Destination, Device: names[l.Index]})
		}
	}
	return err
}

// outward says that others can be reached from the address.
func outward(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback() }

// filter reads nf_tables.
func (r *reader) filter(forward nft.Forward) error {
	f, err := nft.NewSocket()
	if err != nil {
		r.Filter.Err = err.Error()
		return nil
	}
	defer f.Close()
	c, err := nft.Open(f)
	if err != nil {
		r.Filter.Err = err.Error()
		return nil
	}
	features := c.Features()
	r.Filter = doctor.Filter{Owner: features.Owner, Persist: features.Persist, Bridge: features.Bridge, Flows: features.Flows}
	tables, err := c.Tables()
	if err != nil {
		return err
	}
	// Tables of ours, of whichever daemon, say so in their comments.
	var own []string
	for _, t := range tables {
		if strings.HasPrefix(t.Comment, "made by fairlead") || t.Name == forward.Tag {
			own = append(own, t.Name)
			forward.Leave = append(forward.Leave, string(ruleset.Inet)+" "+t.Name)
		} else {
			r.NFTables = true
		}
	}
	chains, err := c.ChainNames(own...)
	if err != nil {
		return err
	}
	r.Chains = append(r.Chains, chains...)
	r.UFW = r.UFW || hasUFW(chains)
	walls, err := c.Walls(forward)
	for _, w := range walls {
		r.Walls = append(r.Walls, doctor.Wall{Chain: w.Chain.String(), Cause: w.Cause, Ours: w.Added})
	}
	return err
}

// legacy reads iptables-legacy's tables, where they are in use.
func (r *reader) legacy(ctx context.Context, forward iptables.Forward, leave []string) error {
	if !iptables.InUse("iptables") && !iptables.InUse("ip6tables") {
		return nil
	}
	chains, used, err := iptables.LegacyChains(ctx)
	if err != nil {
		return err
	}
	r.Legacy = used
	r.Chains = append(r.Chains, chains...)
	r.UFW = r.UFW || hasUFW(chains)
	if slices.Contains(leave, string(iptables.Legacy)) {
		return nil
	}
	walls, err := iptables.Walls(ctx, forward)
	for _, w := range walls {
		r.Walls = append(r.Walls, doctor.Wall{Chain: w.Chain, Cause: w.Cause, Ours: w.Ours})
	}
	return err
}

func hasUFW(chains []string) bool {
	return slices.ContainsFunc(chains, func(c string) bool { return strings.Contains(c, " ufw-") || strings.Contains(c, " ufw6-") })
}
