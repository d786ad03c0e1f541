package trace

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/trace/picture"
)

// surroundings looks for what a small packet does not meet: large ones that are lost.
func (t *tracer) surroundings() {
	hops := t.e.There.Hops
	for i := 0; i+1 < len(hops); i++ {
		a, b := t.linkOf(hops[i]), t.linkOf(hops[i+1])
		if a.MTU == 0 || b.MTU == 0 || !sameSegment(hops[i], hops[i+1]) {
			continue
		}
		small, large := a, b
		if a.MTU > b.MTU {
			small, large = b, a
		}
		if small.MTU == large.MTU || t.accounted(small, large) || t.followsPort(small) {
			continue
		}
		where := func(l picture.Link) string {
			for _, h := range []Hop{hops[i], hops[i+1]} {
				if h.Interface == l.Name && h.Kind == HopContainer {
					return fmt.Sprintf("%s of container %s", l.Name, h.Name)
				}
			}
			return l.Name + " of the host"
		}
		n, at := t.host(), hops[i]
		if hops[i+1].Interface == small.Name {
			at = hops[i+1]
		}
		if at.Kind == HopContainer {
			c, _ := t.container(at.Name)
			n = t.of(c)
		}
		if t.endsOwn(at) {
			t.doubt(fmt.Sprintf("the MTU of %s is %d, and of %s, on the same segment, %d: TCP, which tells its peer, keeps to it, but larger packets of others are lost there", where(small), small.MTU, where(large), large.MTU))
			continue
		}
		t.e.Stopped = &at
		t.e.Causes = append(t.e.Causes, Cause{
			Code: "mtu-black-hole", What: fmt.Sprintf("packets of more than %d bytes are lost without a word: the MTU of %s is %d, and of %s, on the same segment, %d", small.MTU, where(small), small.MTU, where(large), large.MTU),
			Where: n.where() + ", link " + small.Name, Who: admin, Mend: []string{n.command("ip link set %s mtu %d", small.Name, large.MTU)},
		})
		return
	}
}

// endsOwn says that it is a link of one of the two ends, of which that end itself knows.
func (t *tracer) endsOwn(h Hop) bool {
	switch h.Kind {
	case HopContainer:
		return true
	case HopBridge:
		return t.from.kind == HopHost || t.to.kind == HopHost
	}
	return false
}

// followsPort says that it is a bridge that has its MTU of a port of it, the one that is to be
// changed.
func (t *tracer) followsPort(l picture.Link) bool {
	return l.Kind == "bridge" && slices.ContainsFunc(t.p.Host.Links, func(port picture.Link) bool {
		return port.Master == l.Index && port.MTU == l.MTU
	})
}

// accounted says that the links are the uplink and what is behind it, where the kernel
// tells of packets that are too large.
func (t *tracer) accounted(a, b picture.Link) bool { return a.Name == b.Name }

// sameSegment says that nothing between the hops tells of packets that are too large.
func sameSegment(a, b Hop) bool {
	layer2 := func(k HopKind) bool { return k == HopContainer || k == HopPeer || k == HopBridge }
	return layer2(a.Kind) && layer2(b.Kind)
}

func (t *tracer) linkOf(h Hop) picture.Link {
	if h.Kind == HopContainer {
		c, _ := t.container(h.Name)
		if c == nil || c.Namespace == nil {
			return picture.Link{}
		}
		l, _ := c.Namespace.Link(h.Index)
		return l
	}
	l, _ := t.p.Host.Link(h.Index)
	return l
}
