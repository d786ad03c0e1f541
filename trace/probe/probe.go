// Package probe sends one packet and watches it at every hop of this host: by copies
// that interfaces give (kernel/capture), by the verdicts of nf_tables (kernel/nft) and by
// the kernel's own reasons for what it throws away (kernel/drops).
//
// All of that is there while a probe runs and not before or after: it is tied to sockets
// and files that the kernel closes with the process, however that ends.
//
// What must not live here: why a packet should come anywhere, and what is to be done
// where it does not (package trace).
package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/trace"
)

// DefaultTimeout is how long an answer is waited for: longer than the kernel asks for a
// neighbour that is not there, which takes it three seconds.
const DefaultTimeout = 4 * time.Second

// settle is how long there is to hear of what happened before the answer, and of the
// rest once something was thrown away.
const settle = 200 * time.Millisecond

// Namespace is a network namespace in which the probe is watched.
type Namespace struct {
	// Name is the container's, or "host".
	Name string
	// Path is where it is pinned; "" is the caller's own.
	Path string
	// Host says that it is the host's though it has a path: others that have one are
	// containers'.
	Host bool
}

// Request is what is sent, and where it is watched.
type Request struct {
	// From is where it is sent, and Watch where else it is watched, in any order.
	From  Namespace
	Watch []Namespace
	// Proto is tcp (a connection, which is closed at once), udp (one datagram; to port 53 a
	// question for the root's name servers) or icmp (one echo request).
	Proto string
	// Source is the address that it is sent from; the zero Addr leaves it to the kernel.
	Source netip.Addr
	// Destination has port 0 with icmp.
	Destination netip.AddrPort
	// Addresses are others that the packet may have on its way by translation, for the
	// kernel's reasons for drops: those of From and the destination are known.
	Addresses []netip.Addr
	// Timeout is how long an answer is waited for; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Run sends the probe and returns what was seen of it. Only one that cannot be sent at all,
// or not be watched anywhere, is an error; one that its own host does not send on, for want
// of a route say, is an Observation.
func Run(ctx context.Context, r Request) (*trace.Observation, error) {
	r.Destination = netip.AddrPortFrom(r.Destination.Addr().Unmap(), r.Destination.Port())
	if err := r.check(); err != nil {
		return nil, err
	}
	s, err := r.prepare()
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	defer s.close()
	w := newWatch(r, s.identity)
	defer w.close()
	if err := w.open(ctx); err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, DefaultTimeout))
	defer cancel()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	w.start(watching)
	begun := time.Now()
	var a trace.Answer
	err = r.inside(func() error {
		a = s.send(ctx, w.dropped)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	time.AfterFunc(settle, stop)
	return w.finish(begun, a, s.source), nil
}

func (r Request) check() error {
	a := r.Destination.Addr()
	switch {
	case !a.IsValid():
		return fmt.Errorf("a probe needs an address to go to: %w", errdefs.ErrInvalidArgument)
	case protocolNumber(r.Proto, a.Is6()) == 0:
		return fmt.Errorf("protocol %q of a probe: want tcp, udp or icmp: %w", r.Proto, errdefs.ErrInvalidArgument)
	case r.Proto != "icmp" && r.Destination.Port() == 0:
		return fmt.Errorf("a probe by %s needs a port: %w", r.Proto, errdefs.ErrInvalidArgument)
	case r.Source.IsValid() && r.Source.Unmap().Is4() != a.Is4():
		return fmt.Errorf("a probe from %s to %s, which is of another family: %w", r.Source, a, errdefs.ErrInvalidArgument)
	}
	return nil
}

// inside runs f where the probe is sent.
func (r Request) inside(f func() error) error { return r.From.inside(f) }

func (n Namespace) inside(f func() error) error {
	if n.Path == "" {
		return f()
	}
	ns, err := netns.Open(n.Path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.Do(ns, f)
}
