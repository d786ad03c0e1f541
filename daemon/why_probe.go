package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/trace"
	seen "github.com/fairlead/fairlead/trace/picture"
	"github.com/fairlead/fairlead/trace/probe"
)

// probePatience is how long the probe's answer is waited for.
const probePatience = 2 * time.Second

// proved sends a packet along the way that was thought out, and adds what was seen. One
// from outside cannot be sent from here.
func proved(ctx context.Context, p *seen.Picture, e trace.Explanation) trace.Explanation {
	to := e.Flow.Destination
	if len(e.There.Hops) == 0 || e.There.Hops[0].Kind == trace.HopOutside || !to.IsValid() || to.Addr().IsUnspecified() || e.Flow.Proto == "sctp" {
		return e
	}
	first := e.There.Hops[0]
	r := probe.Request{
		From: probe.Namespace{Name: first.Name, Path: first.Namespace}, Proto: e.Flow.Proto, Source: netip.Addr{}, Destination: to, Timeout: probePatience,
	}
	added := map[string]bool{first.Namespace: true}
	add := func(name, path string) {
		if !added[path] {
			added[path] = true
			r.Watch = append(r.Watch, probe.Namespace{Name: name, Path: path})
		}
	}
	add("host", "")
	for _, h := range append(e.There.Hops, e.Back.Hops...) {
		if h.Kind == trace.HopContainer {
			add(h.Name, h.Namespace)
		}
		for _, a := range []netip.Addr{h.Flow.Source.Addr(), h.Flow.Destination.Addr()} {
			if a.IsValid() {
				r.Addresses = append(r.Addresses, a)
			}
		}
	}
	o, err := probe.Run(ctx, r)
	if err != nil {
		e.Doubts = append(e.Doubts, fmt.Sprintf("no probe could be sent: %v", err))
		return e
	}
	return e.Proved(o)
}
