// Package traffic makes rates of counters: what containers, networks and published ports
// did between two moments.
//
// It is pure: it is given samples, and reads no kernel and no clock.
package traffic

import "time"

// Sample is what was counted until one moment.
type Sample struct {
	Time       time.Time   `json:"time"`
	Containers []Container `json:"containers"`
	Networks   []Network   `json:"networks"`
	Ports      []Port      `json:"ports"`
	Processes  []Process   `json:"processes"`
}

// Container is one that has a network of its own.
type Container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// SharedBy are containers that have the same network (--network container:NAME).
	SharedBy []string `json:"shared_by,omitempty"`
	Networks []string `json:"networks"`
	// Counters are those of all its cables.
	Counters
}

// Counters are of packets and bytes with Ethernet headers, as the containers see them:
// received is what came to them.
type Counters struct {
	ReceivedBytes   uint64 `json:"rx_bytes"`
	SentBytes       uint64 `json:"tx_bytes"`
	ReceivedPackets uint64 `json:"rx_packets"`
	SentPackets     uint64 `json:"tx_packets"`
	// Dropped are packets that the kernel lost on the cable, either way.
	Dropped uint64 `json:"dropped"`
	// Refused are packets that the container was kept from sending, because they are not
	// its own to send.
	Refused uint64 `json:"refused"`
}

// Add is the sum.
func (c Counters) Add(d Counters) Counters {
	return Counters{
		c.ReceivedBytes + d.ReceivedBytes, c.SentBytes + d.SentBytes, c.ReceivedPackets + d.ReceivedPackets, c.SentPackets + d.SentPackets,
		c.Dropped + d.Dropped, c.Refused + d.Refused,
	}
}

// Network is one network.
type Network struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Bridge string `json:"bridge"`
	// Containers is how many are on it, and Counters are those of their cables to it.
	Containers int `json:"containers"`
	Counters
	// In is what the host sent into the bridge, and Out what came out of it for the host
	// and what lies behind.
	In  uint64 `json:"in_bytes"`
	Out uint64 `json:"out_bytes"`
}

// Port is one published port of a container.
type Port struct {
	ContainerID string   `json:"container_id"`
	Container   string   `json:"container"`
	Networks    []string `json:"networks,omitempty"`
	Proto       string   `json:"proto"`
	// Host is the address of the host, "" where the container is reached by its own.
	Host   string `json:"host,omitempty"`
	Target string `json:"target"`
	// Kernel are the connections that the kernel leads there, Proxy those that the
	// userland proxy carries; nil where nobody can tell.
	Kernel *Flows `json:"kernel"`
	Proxy  *Flows `json:"proxy"`
}

// Flows are connections, and what is like them of protocols without.
type Flows struct {
	// Begun is how many began since somebody counts.
	Begun uint64 `json:"begun"`
	// Open are those that not both sides have closed, or one has reset; of UDP all that
	// are remembered.
	Open uint64 `json:"open"`
	// Bytes are those of both directions; nil where they are not counted.
	Bytes *uint64 `json:"bytes"`
}

// Process is one of Fairlead's own.
type Process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Memory is what is resident, in bytes.
	Memory uint64 `json:"memory"`
	// CPU is the processor time since it was started, in seconds.
	CPU float64 `json:"cpu_seconds"`
}
