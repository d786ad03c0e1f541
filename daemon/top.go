package daemon

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/traffic"
)

// meter reads counters, and remembers of the connections that the kernel tracks which
// there were. It is one client's.
type meter struct {
	*daemon
	flows flowBook
}

// Meter begins to count.
func (v views) Meter() api.Meter { return &meter{daemon: v.daemon} }

// Sample is what has been counted until now.
func (m *meter) Sample(ctx context.Context) (traffic.Sample, error) {
	s := traffic.Sample{Time: time.Now(), Containers: []traffic.Container{}, Networks: []traffic.Network{}, Ports: []traffic.Port{}}
	counts, err := m.network.LinkCounts()
	if err != nil {
		return s, err
	}
	running, err := m.engine.List(ctx, engine.ListOptions{})
	if err != nil {
		return s, err
	}
	attached := m.network.Attachments()
	s.Containers, s.Networks = counted(counts, m.network.Networks(), attached, sharing(running))
	s.Ports = m.ports(ctx, attached)
	processes := m.helpers()
	if own, err := usageOf(os.Getpid()); err == nil {
		processes["daemon"] = own
	}
	for _, name := range []string{"daemon", "relay", "streams"} {
		if u, ok := processes[name]; ok {
			s.Processes = append(s.Processes, traffic.Process{Name: name, PID: u.PID, Memory: u.Memory, CPU: u.CPU})
		}
	}
	return s, nil
}

// sharing are the names of containers that have another's network, by that one's ID.
func sharing(running []container.Summary) map[string][]string {
	out := make(map[string][]string)
	for _, c := range running {
		if mode := container.NetworkMode(c.HostConfig.NetworkMode); mode.IsContainer() {
			out[mode.ConnectedContainer()] = append(out[mode.ConnectedContainer()], nameOf(c))
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// counted gives each container, and each network, the counters of its cables: what the
// host's end received is what the container sent.
func counted(counts network.LinkCounts, nets []spec.Network, attached []spec.Attachment, shared map[string][]string) ([]traffic.Container, []traffic.Network) {
	sums, members := make(map[string]traffic.Counters), make(map[string]int)
	containers := make([]traffic.Container, 0, len(attached))
	for _, a := range attached {
		one := traffic.Container{ID: a.Sandbox.ID, Name: a.Sandbox.Name, SharedBy: shared[a.Sandbox.ID], Networks: []string{}}
		for _, e := range a.Endpoints {
			l := counts.Links[e.HostIf]
			cable := traffic.Counters{
				ReceivedBytes: l.SentBytes, SentBytes: l.ReceivedBytes, ReceivedPackets: l.SentPackets, SentPackets: l.ReceivedPackets,
				Dropped: l.ReceivedDropped + l.SentDropped, Refused: counts.Refused[e.HostIf],
			}
			one.Networks = append(one.Networks, e.Network)
			one.Counters = one.Add(cable)
			sums[e.NetworkID] = sums[e.NetworkID].Add(cable)
			members[e.NetworkID]++
		}
		containers = append(containers, one)
	}
	networks := make([]traffic.Network, 0, len(nets))
	for _, n := range nets {
		bridge := counts.Links[n.Bridge]
		networks = append(networks, traffic.Network{
			ID: n.ID, Name: n.Name, Bridge: n.Bridge, Containers: members[n.ID], Counters: sums[n.ID], In: bridge.SentBytes, Out: bridge.ReceivedBytes,
		})
	}
	return containers, networks
}

// ports are the published ones of all containers, with what the kernel and the relay tell
// of them.
func (m *meter) ports(ctx context.Context, attached []spec.Attachment) []traffic.Port {
	out := []traffic.Port{}
	var bindings []spec.PortBinding
	carried := m.carried(ctx)
	for _, a := range attached {
		for _, b := range a.Ports {
			p := traffic.Port{ContainerID: a.Sandbox.ID, Container: a.Sandbox.Name, Proto: string(b.Proto), Target: b.Container.String()}
			for _, e := range a.Endpoints {
				if slices.ContainsFunc(e.Addrs(), func(p netip.Prefix) bool { return p.Addr() == b.Container.Addr() }) {
					p.Networks = append(p.Networks, e.Network)
				}
			}
			if !b.Routed() {
				p.Host = b.Host.String()
				p.Proxy = carried(b)
			}
			out, bindings = append(out, p), append(bindings, b)
		}
	}
	for i, f := range m.flows.read(bindings) {
		out[i].Kernel = f
	}
	return out
}

// carried tells what the userland proxy carried by a port: nil where the relay does not
// answer.
func (m *meter) carried(ctx context.Context) func(spec.PortBinding) *traffic.Flows {
	counters, err := m.relay.Counters(ctx)
	if err != nil {
		return func(spec.PortBinding) *traffic.Flows { return nil }
	}
	type at struct {
		proto string
		host  netip.AddrPort
	}
	by := make(map[at]relay.PortCounters, len(counters.Ports))
	for _, p := range counters.Ports {
		by[at{p.Proto, p.Host}] = p
	}
	return func(b spec.PortBinding) *traffic.Flows {
		c := by[at{string(b.Proto), b.Host}]
		bytes := c.In + c.Out
		return &traffic.Flows{Begun: c.Begun, Open: c.Open(), Bytes: &bytes}
	}
}
