package network

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/spec"
)

const (
	// fastFor is how long the fast path is used without word from us: a daemon that is
	// killed or stopped no more looks at what other programs change.
	fastFor = 3 * time.Second
	// quietFast is how long nothing must change before ports take the fast path: the
	// kernel holds up everything else of links while a program is attached. It is
	// waited for so long at most.
	quietFast, impatientFast = 200 * time.Millisecond, 5 * time.Second
)

// shortcut is the fast path of one host: what two containers of a network send each
// other passes the bridge by, wherever the bridge would pass it on and nobody else has a
// say. The zero value is one that is not used.
//
// It follows the wanted state and is no part of it: ports join behind operations, in the
// background, and leave before anything of theirs is taken away.
type shortcut struct {
	path *fastpath.Path // nil where it is not asked for, or not to be had
	// lack is why it is not to be had.
	lack string
	wake chan struct{}

	mu sync.Mutex
	// joined are the ports that take part, by the endpoint's ID.
	joined map[string]fastpath.Port
	// bypassed names who has a say on the whole host, "" for nobody; slow why ports take
	// no part, by the endpoint's ID.
	bypassed string
	slow     map[string]string
	segments map[string]uint32 // by network ID
	// former is what ports received when they took part before, by the endpoint's ID; names
	// are the ports'.
	former map[string]link.Counters
	names  map[string]string
	last   uint32
	// bridges are the names of those that the ports of joined belong to, by the endpoint's ID.
	bridges map[string]string
	outside passage
	// strangers are others' programs at interfaces, when it was last looked for them.
	strangers map[int]string
}

// openFastPath loads the program where it is asked for. A kernel without the means is no
// error.
func (c *Controller) openFastPath() error {
	if !c.cfg.FastPath {
		return nil
	}
	s := &c.fast
	s.wake = make(chan struct{}, 1)
	s.joined, s.slow, s.segments = make(map[string]fastpath.Port), make(map[string]string), make(map[string]uint32)
	s.bridges = make(map[string]string)
	s.outside.open()
	s.strangers, s.former, s.names = make(map[int]string), make(map[string]link.Counters), make(map[string]string)
	switch {
	case c.cfg.Firewall == FirewallNone:
		s.lack = "the firewall is off, and nothing guards what containers send"
	case c.unguarded():
		s.lack = "the kernel has no nf_tables of family bridge, and nothing guards what containers send"
	}
	var err error
	if s.lack == "" {
		if s.path, err = fastpath.Open(c.plan.Daemon); err != nil {
			s.lack = err.Error()
		}
	}
	if s.path == nil {
		c.log.Warn("containers reach each other by the bridge: there is no fast path", "operation", "fast path", "err", s.lack)
	}
	if errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}

// closeFastPath lets go of it; where it is attached it is of no effect any more.
func (c *Controller) closeFastPath() error {
	if c.fast.path == nil {
		return nil
	}
	return errors.Join(c.fast.path.Allow(0), c.fast.path.AllowFlows(0), c.fast.path.Close())
}

// leave has the endpoints' ports take no part any more. What of it cannot be done is for
// the kernel: the port is about to go.
func (c *Controller) leave(endpoints ...spec.Endpoint) {
	if c.fast.path == nil {
		return
	}
	for _, e := range endpoints {
		c.part(e.ID)
	}
}

func (c *Controller) part(endpointID string) {
	s := &c.fast
	s.mu.Lock()
	defer s.mu.Unlock()
	port, ok := s.joined[endpointID]
	if !ok {
		return
	}
	frames, bytes := s.path.Received(port)
	n := s.former[endpointID]
	n.SentPackets, n.SentBytes = n.SentPackets+frames, n.SentBytes+bytes
	s.former[endpointID] = n
	s.dropWhere(func(p *passing) bool { return p.endpointID == endpointID })
	if err := s.path.Remove(port); err != nil {
		c.log.Error("a container cannot be taken off the fast path", "operation", "fast path", "link", port.Index, "err", err)
		return
	}
	delete(s.joined, endpointID)
	delete(s.bridges, endpointID)
	delete(s.outside.ports, port.Index)
}

// received is what the ports took in by the fast path, by their names: what the bridge would
// have sent out by them, and the kernel does not count there.
func (s *shortcut) received() map[string]link.Counters {
	if s.path == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]link.Counters, len(s.names))
	for id, name := range s.names {
		n := s.former[id]
		if port, there := s.joined[id]; there {
			frames, bytes := s.path.Received(port)
			n.SentPackets, n.SentBytes = n.SentPackets+frames, n.SentBytes+bytes
		}
		out[name] = n
	}
	return out
}

// wakeFastPath has it look again.
func (c *Controller) wakeFastPath() {
	select {
	case c.fast.wake <- struct{}{}:
	default: // it will, or there is none
	}
}

// runFastPath follows what is wanted and what others change, until ctx ends.
func (c *Controller) runFastPath(ctx context.Context) {
	var passing sync.WaitGroup
	passing.Go(func() { c.runPassage(ctx) })
	defer passing.Wait()
	defer func() { _, _ = c.fast.path.Allow(0), c.fast.path.AllowFlows(0) }()
	var filters <-chan struct{}
	if port, err := c.fw.Port(); err == nil {
		if w, err := nft.Watch(ctx, port, ""); err == nil {
			filters = w.Changed()
		}
	}
	// Links that a start has put up get their carrier under the lock that is asked for below.
	sleep(ctx, quietFast)
	glance, tick := time.NewTicker(everyGlance), time.NewTicker(everyLook)
	defer glance.Stop()
	defer tick.Stop()
	joining := time.NewTimer(0)
	defer joining.Stop()
	c.lookForStrangers()
	pending := c.lookFastPath()
	c.allowFastPath()
	began := time.Now()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-filters:
			c.allowFastPath()
			continue
		case <-glance.C:
			c.allowFastPath()
			continue
		case <-tick.C:
			c.lookForStrangers()
		case <-c.fast.wake:
			settle(ctx, c.fast.wake, quietHost, impatientHost)
		case <-joining.C:
			var busy bool
			if pending, busy = c.join(pending); busy {
				joining.Reset(quietFast)
			} else if len(pending) > 0 {
				joining.Reset(0) // but what others change comes first
			}
			continue
		}
		looked := time.Now()
		if len(pending) == 0 {
			began = looked
		}
		if pending = c.lookFastPath(); len(pending) > 0 {
			joining.Reset(min(quietFast, max(0, impatientFast-time.Since(began))))
		}
		sleep(ctx, min(5*time.Since(looked), maxPauseHost))
	}
}

// candidate is a port that may take part and does not yet.
type candidate struct {
	sandboxID, endpointID, name, bridge string
	port                                fastpath.Port
}

// join has the first of the ports take part, and returns the others; busy says that an
// operation is under way on its sandbox.
func (c *Controller) join(pending []candidate) (rest []candidate, busy bool) {
	if len(pending) == 0 {
		return nil, false
	}
	p := pending[0]
	done, ok := c.turns.try(p.sandboxID)
	if !ok {
		return append(pending[1:], p), true
	}
	defer done()
	if _, _, ok := c.endpointAtRest(p.sandboxID, p.endpointID); !ok {
		return pending[1:], false
	}
	s := &c.fast
	other, err := c.attachFastPath(p.port.Index)
	s.mu.Lock()
	defer s.mu.Unlock()
	if other != "" {
		s.strangers[p.port.Index] = other
		return pending[1:], false
	}
	if err == nil {
		err = s.path.Add(p.port)
	}
	if err != nil {
		// The port may be gone by now; else it is tried at the next look.
		c.log.Debug("a container cannot take the fast path yet", "operation", "fast path", "link", p.port.Index, "err", err)
		return pending[1:], false
	}
	s.joined[p.endpointID], s.names[p.endpointID], s.bridges[p.endpointID] = p.port, p.name, p.bridge
	s.outside.ports[p.port.Index] = p.endpointID
	return pending[1:], false
}

// attachFastPath has the program stand at the interface, unless another's does.
func (c *Controller) attachFastPath(index int) (other string, err error) {
	mine, other, err := c.fast.path.At(index)
	if err != nil || mine || other != "" {
		return other, err
	}
	return "", c.fast.path.Attach(index)
}

// segment is the network's number.
func (s *shortcut) segment(networkID string) uint32 {
	n, ok := s.segments[networkID]
	if !ok {
		s.last++
		n = s.last
		s.segments[networkID] = n
	}
	return n
}

func samePort(a, b fastpath.Port) bool {
	return a.Index == b.Index && a.Segment == b.Segment && slices.Equal(a.MAC, b.MAC) && slices.Equal(a.Addrs, b.Addrs)
}

// FastPathStatus is how it is with the fast path.
type FastPathStatus struct {
	// Asked says that it is asked for.
	Asked bool
	// Lack is why it is not used on the whole host, "" where it is.
	Lack string
	// Ports is how many containers' links take part, and Slow why others do not, by the
	// endpoint's ID.
	Ports int
	Slow  map[string]string
	// Connections is how many with outside take it; ConnectionsLack is why none does, ""
	// where some may, and SlowLinks why some do not.
	Connections     int
	ConnectionsLack string
	SlowLinks       []string
}

// FastPath says how it is with the fast path.
func (c *Controller) FastPath() FastPathStatus {
	s := &c.fast
	s.mu.Lock()
	defer s.mu.Unlock()
	out := FastPathStatus{
		Asked: c.cfg.FastPath, Lack: s.lack, Ports: len(s.joined), Slow: maps.Clone(s.slow),
		Connections: len(s.outside.flows), ConnectionsLack: s.outside.lack, SlowLinks: s.outside.slow(),
	}
	if out.Lack == "" {
		out.Lack = s.bypassed
	}
	if s.path != nil && out.ConnectionsLack == "" {
		if lack := s.path.FlowsLackIPv6(); lack != "" {
			out.SlowLinks = append(out.SlowLinks, lack)
		}
	}
	return out
}
