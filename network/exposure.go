package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/exposure"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Exposure says who can reach what; processes are those of containers on the host's own
// network, by the containers' names and IDs.
func (c *Controller) Exposure(processes map[[2]string][]int) (exposure.Report, error) {
	links, err := c.HostLinks()
	if err != nil {
		return exposure.Report{}, err
	}
	p := exposure.Picture{
		Backend: string(c.cfg.Firewall), IPv6Rules: !c.cfg.NoIPv6Firewall, Proxy: c.cfg.UserlandProxy, Hooks: c.hooks != nil,
		Direct: c.cfg.AllowDirectRouting, Networks: c.Networks(), Attachments: c.Attachments(), Sockets: make(map[string][]exposure.Socket),
	}
	for _, l := range links.Uplinks(func(bridge string) bool {
		for _, n := range p.Networks {
			if n.Bridge == bridge && !n.Foreign {
				return true
			}
		}
		return false
	}) {
		for _, a := range l.Addrs {
			if !a.Addr().IsLinkLocalUnicast() && !a.Addr().IsLoopback() {
				p.Addresses = append(p.Addresses, a.Addr())
			}
		}
	}
	if p.Rule, err = c.rules(); err != nil {
		return exposure.Report{}, err
	}
	if p.Translation, err = c.translations(p.Attachments); err != nil {
		return exposure.Report{}, err
	}
	for _, a := range p.Attachments {
		if p.Sockets[a.Sandbox.ID], err = listeners(a.Sandbox); err != nil {
			return exposure.Report{}, err
		}
	}
	if p.OnHost, err = onHost(processes); err != nil {
		return exposure.Report{}, err
	}
	return exposure.Derive(p), nil
}

// rules names our rules by chain and comment, as the kernel has them now.
func (c *Controller) rules() (func(chain, comment string) string, error) {
	names := make(map[[2]string]string)
	if c.fw != nil && c.cfg.Firewall == FirewallNFTables {
		for _, family := range []ruleset.Family{ruleset.Inet, ruleset.Bridge} {
			ids, err := c.fw.RuleIDs(family, c.plan.Table)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				key := [2]string{id.Chain, id.Comment}
				if names[key] == "" {
					names[key] = fmt.Sprintf("rule %s %s %s handle %d (%s)", family, c.plan.Table, id.Chain, id.Handle, id.Comment)
				}
			}
		}
	}
	return func(chain, comment string) string { return names[[2]string{chain, comment}] }, nil
}

// portRange finds a range of ports in an element's text.
var portRange = regexp.MustCompile(` (\d+)-(\d+)\b`)

// translations names what translates each binding: elements that the kernel has, or
// rules of iptables.
func (c *Controller) translations(attached []spec.Attachment) (func(sandbox string, b spec.PortBinding) string, error) {
	type key struct {
		sandbox string
		spec.PortBinding
	}
	out := make(map[key]string)
	wanted := make(map[string][]ruleset.Element) // by map
	whose := make(map[string][]key)
	for _, a := range attached {
		whole := c.plan.Firewall.AddMember(c.member(a))
		for _, b := range a.Ports {
			alone := a
			alone.Ports = []spec.PortBinding{b}
			one := c.plan.Firewall.AddMember(c.member(alone))
			for _, x := range one.XTables {
				if text := x.String(); strings.Contains(text, "DNAT") {
					out[key{a.Sandbox.ID, b}] = text
				}
			}
			for _, change := range append(one.Rules, whole.Rules...) {
				add, ok := change.(ruleset.AddElements)
				if !ok || add.Family != ruleset.Inet || !strings.HasPrefix(add.Set, "publish") {
					continue
				}
				for _, e := range add.Elements {
					if strings.Contains(add.Set, "range") && !spans(e.String(), b) || !strings.Contains(add.Set, "range") && !single(one.Rules, e) {
						continue
					}
					wanted[add.Set] = append(wanted[add.Set], e)
					whose[add.Set] = append(whose[add.Set], key{a.Sandbox.ID, b})
				}
			}
		}
	}
	for set, elements := range wanted {
		there, err := c.fw.HasElements(ruleset.Inet, c.plan.Table, set, elements)
		if err != nil {
			return nil, err
		}
		for i, e := range elements {
			if there[i] {
				out[whose[set][i]] = fmt.Sprintf("element %s of map inet %s %s", e, c.plan.Table, set)
			}
		}
	}
	return func(sandbox string, b spec.PortBinding) string { return out[key{sandbox, b}] }, nil
}

// single says that the element is among those of one binding alone.
func single(rules []ruleset.Change, e ruleset.Element) bool {
	for _, change := range rules {
		if add, ok := change.(ruleset.AddElements); ok {
			for _, have := range add.Elements {
				if ruleset.CompareElements(have, e) == 0 {
					return true
				}
			}
		}
	}
	return false
}

// spans says that a range of ports, as an element has it, is the binding's.
func spans(element string, b spec.PortBinding) bool {
	m := portRange.FindStringSubmatch(element)
	if m == nil || b.Host.Port() != b.Container.Port() || !strings.Contains(element, b.Container.Addr().String()) || !strings.HasPrefix(element, string(b.Proto)+" ") {
		return false
	}
	first, err := strconv.Atoi(m[1])
	last, err2 := strconv.Atoi(m[2])
	port := int(b.Host.Port())
	named := b.Host.Addr().IsUnspecified() || strings.Contains(element, " "+b.Host.Addr().String()+" ")
	return err == nil && err2 == nil && first <= port && port <= last && named
}

// listeners are the sockets in a sandbox that strangers can reach, but for our
// resolver's.
func listeners(s spec.Sandbox) (out []exposure.Socket, err error) {
	ns, err := netns.Open(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is being taken away
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = netns.Do(ns, func() error {
		all, err := socket.Listeners()
		for _, l := range all {
			out = append(out, exposure.Socket{Proto: spec.Proto(l.Proto), Local: netip.AddrPortFrom(l.Local.Addr().Unmap(), l.Local.Port()), IPv6Only: l.IPv6Only})
		}
		return err
	})
	return out, err
}

// onHost are the sockets of the host that the processes have.
func onHost(processes map[[2]string][]int) (out []exposure.OnHostSocket, err error) {
	if len(processes) == 0 {
		return nil, nil
	}
	all, err := socket.Listeners()
	if err != nil {
		return nil, err
	}
	for who, pids := range processes {
		for _, l := range all {
			for _, pid := range pids {
				if socket.HeldBy(pid, l.Link) {
					s := exposure.Socket{Proto: spec.Proto(l.Proto), Local: l.Local, IPv6Only: l.IPv6Only}
					out = append(out, exposure.OnHostSocket{Container: who[0], ID: who[1], Socket: s})
					break
				}
			}
		}
	}
	return out, nil
}
