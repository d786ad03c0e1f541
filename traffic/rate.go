package traffic

import (
	"encoding/json"
	"math"
	"time"
)

// Rate is so many a second.
type Rate float64

// Unknown is the rate of what nobody counted, or not for long enough. In JSON it is null.
var Unknown = Rate(math.NaN())

// Known says whether it is one.
func (r Rate) Known() bool { return !math.IsNaN(float64(r)) }

// MarshalJSON implements json.Marshaler.
func (r Rate) MarshalJSON() ([]byte, error) {
	if !r.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(float64(r)*10) / 10)
}

// add is the sum, unknown where either is.
func (r Rate) add(s Rate) Rate { return r + s }

// Report is what happened between two samples, a second.
type Report struct {
	Time time.Time `json:"time"`
	// Seconds lie between them.
	Seconds    float64         `json:"seconds"`
	Containers []ContainerRate `json:"containers"`
	Networks   []NetworkRate   `json:"networks"`
	Ports      []PortRate      `json:"ports"`
	Processes  []ProcessRate   `json:"processes"`
}

// Rates are of Counters. Drops are what was dropped and what was refused.
type Rates struct {
	ReceivedBytes   Rate `json:"rx_bytes"`
	SentBytes       Rate `json:"tx_bytes"`
	ReceivedPackets Rate `json:"rx_packets"`
	SentPackets     Rate `json:"tx_packets"`
	Drops           Rate `json:"drops"`
}

// ContainerRate is of a Container.
type ContainerRate struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	SharedBy []string `json:"shared_by,omitempty"`
	Networks []string `json:"networks"`
	Rates
}

// NetworkRate is of a Network.
type NetworkRate struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Bridge     string `json:"bridge"`
	Containers int    `json:"containers"`
	Rates
	In  Rate `json:"in_bytes"`
	Out Rate `json:"out_bytes"`
}

// PortRate is of a Port. Connections are those that began, Open those that there are,
// unknown where neither the kernel nor the proxy tells.
type PortRate struct {
	ContainerID string   `json:"container_id"`
	Container   string   `json:"container"`
	Networks    []string `json:"networks,omitempty"`
	Proto       string   `json:"proto"`
	Host        string   `json:"host,omitempty"`
	Target      string   `json:"target"`
	Connections Rate     `json:"connections"`
	Open        Rate     `json:"open"`
	// Proxied is how many of Open the userland proxy carries.
	Proxied Rate `json:"proxied"`
	Bytes   Rate `json:"bytes"`
}

// ProcessRate is of a Process.
type ProcessRate struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Memory uint64 `json:"memory"`
	// CPU is the share of one processor, 1 for all of it.
	CPU Rate `json:"cpu"`
}

// Between makes rates of what two samples count. Of what is in the second alone, and of
// counters that began anew between them, the rates are unknown.
func Between(before, after Sample) Report {
	span := after.Time.Sub(before.Time).Seconds()
	r := Report{
		Time: after.Time, Seconds: math.Round(span*1000) / 1000,
		Containers: []ContainerRate{}, Networks: []NetworkRate{}, Ports: []PortRate{}, Processes: []ProcessRate{},
	}
	s := spell(span)
	containers := index(before.Containers, func(c Container) string { return c.ID })
	for _, c := range after.Containers {
		was, there := containers[c.ID]
		r.Containers = append(r.Containers, ContainerRate{c.ID, c.Name, c.SharedBy, c.Networks, s.rates(was.Counters, c.Counters, there)})
	}
	networks := index(before.Networks, func(n Network) string { return n.ID })
	for _, n := range after.Networks {
		was, there := networks[n.ID]
		r.Networks = append(r.Networks, NetworkRate{
			n.ID, n.Name, n.Bridge, n.Containers, s.rates(was.Counters, n.Counters, there), s.rate(was.In, n.In, there), s.rate(was.Out, n.Out, there),
		})
	}
	ports := index(before.Ports, Port.key)
	for _, p := range after.Ports {
		was, there := ports[p.key()]
		r.Ports = append(r.Ports, s.port(was, p, there))
	}
	processes := index(before.Processes, func(p Process) int { return p.PID })
	for _, p := range after.Processes {
		was, there := processes[p.PID]
		one := ProcessRate{p.Name, p.PID, p.Memory, Unknown}
		if there && span > 0 {
			one.CPU = Rate(max(p.CPU-was.CPU, 0) / span)
		}
		r.Processes = append(r.Processes, one)
	}
	return r
}

func (p Port) key() [4]string { return [4]string{p.ContainerID, p.Proto, p.Host, p.Target} }

func index[K comparable, V any](list []V, key func(V) K) map[K]V {
	out := make(map[K]V, len(list))
	for _, v := range list {
		out[key(v)] = v
	}
	return out
}

// spell is a time in seconds.
type spell float64

func (s spell) rate(before, after uint64, known bool) Rate {
	if !known || after < before || s <= 0 {
		return Unknown
	}
	return Rate(float64(after-before) / float64(s))
}

func (s spell) rates(before, after Counters, known bool) Rates {
	return Rates{
		s.rate(before.ReceivedBytes, after.ReceivedBytes, known), s.rate(before.SentBytes, after.SentBytes, known),
		s.rate(before.ReceivedPackets, after.ReceivedPackets, known), s.rate(before.SentPackets, after.SentPackets, known),
		s.rate(before.Dropped, after.Dropped, known).add(s.rate(before.Refused, after.Refused, known)),
	}
}

// port adds up what the kernel and the proxy tell; of what one of them does not tell,
// the other's figures are all there is.
func (s spell) port(before, after Port, known bool) PortRate {
	out := PortRate{
		ContainerID: after.ContainerID, Container: after.Container, Networks: after.Networks, Proto: after.Proto, Host: after.Host, Target: after.Target,
		Connections: Unknown, Open: Unknown, Proxied: Unknown, Bytes: Unknown,
	}
	if after.Proxy != nil {
		out.Proxied = Rate(after.Proxy.Open)
	}
	uncounted := false
	for _, f := range [][2]*Flows{{before.Kernel, after.Kernel}, {before.Proxy, after.Proxy}} {
		was, is := f[0], f[1]
		if is == nil {
			continue
		}
		out.Open = plus(out.Open, Rate(is.Open))
		if was == nil {
			continue
		}
		out.Connections = plus(out.Connections, s.rate(was.Begun, is.Begun, known))
		switch {
		case is.Bytes != nil && was.Bytes != nil:
			out.Bytes = plus(out.Bytes, s.rate(*was.Bytes, *is.Bytes, known))
		case is.Open > 0 || is.Begun > was.Begun:
			uncounted = true
		}
	}
	if uncounted { // a part of it would be taken for the whole
		out.Bytes = Unknown
	}
	return out
}

// plus is the sum of what is known.
func plus(a, b Rate) Rate {
	switch {
	case !a.Known():
		return b
	case !b.Known():
		return a
	}
	return a + b
}
