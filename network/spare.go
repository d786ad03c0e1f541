package network

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// sparePeer is what a spare's end inside is called: what the first interface of almost
// every container is called. A link cannot be renamed without cost (see kernel/link).
const sparePeer = "eth0"

// restock is how long nobody has to have attached before a spare is made: it takes
// the same locks of the kernel's as an attachment.
const restock = 10 * time.Millisecond

// spareLife is how long after the last attachment sandboxes are kept ready: a host on
// which nothing starts is left without veths that say nothing to its user.
const spareLife = time.Minute

// spare is a sandbox that nobody has asked for yet: a namespace that nothing pins, with
// lo up, and a veth pair whose end there has no IPv6 and whose end here is no port of
// any bridge, both down. Its endpoint's ID is chosen, since the link is called by it.
// It is on no record: when the process ends, the kernel takes it away.
type spare struct {
	sb       *sandbox
	endpoint string
}

// fits says whether the attachment can have it.
func (s *spare) fits(a spec.Attachment) bool {
	return len(a.Endpoints) == 1 && a.Endpoints[0].HostIf == s.sb.spare && a.Endpoints[0].Interface == sparePeer
}

func (s *spare) close() error { return errors.Join(s.sb.links.Close(), s.sb.file.Close()) }

// discard lets go of one that nobody is to have; its pair goes with the namespace.
func (c *Controller) discard(one *spare) error {
	gone := c.watch.Gone(one.sb.spare)
	return errors.Join(one.close(), c.seeOff(context.Background(), one.sb.spare, gone))
}

// useSpare pins the operation's spare at path.
func (o *operation) useSpare(path string) (*sandbox, error) {
	if err := netns.Pin(o.spare.sb.file, path); err != nil {
		return nil, err
	}
	sb := o.spare.sb
	o.ns[path], o.spare = sb, nil
	return sb, nil
}

// spares are kept ready; the zero value has none.
type spares struct {
	mu     sync.Mutex
	ready  []*spare
	links  map[string]bool // of those ready, being made or on their way out
	last   time.Time       // when one was asked for
	making bool
	closed bool
	retire *time.Timer
	ended  sync.WaitGroup
}

// take gives one that may be right for the request, or nil, and what the IDs of its
// endpoints are to be. Its link stays known until settle is called or it is put back.
func (s *spares) take(req spec.AttachRequest) (*spare, plan.NewID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	n := len(s.ready)
	if n == 0 || len(req.Endpoints) != 1 || req.Endpoints[0].Interface != "" && req.Endpoints[0].Interface != sparePeer || ofInterfaces(req.Sysctls) {
		return nil, newID
	}
	one := s.ready[n-1]
	s.ready = s.ready[:n-1]
	return one, func() string { return one.endpoint }
}

// ofInterfaces says whether any of a sandbox's own sysctls is about interfaces, such as
// net.ipv6.conf.default.accept_dad: it is to be set before there is one, for an interface
// has what was the default when it was made.
func ofInterfaces(sysctls map[string]string) bool {
	for key := range sysctls {
		if strings.Contains(key, "conf") || strings.Contains(key, "neigh") {
			return true
		}
	}
	return false
}

// settle is for one that was taken: its link is an endpoint's now, or gone.
func (s *spares) settle(one *spare) {
	if one != nil {
		s.note(one.sb.spare, false)
	}
}

// put takes one back that was not used. One that comes back after drain is gone with
// the process.
func (s *spares) put(one *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, one)
}

// has says whether the link is a spare's.
func (s *spares) has(link string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links[link]
}

// drain has no more made, and gives those that are ready.
func (s *spares) drain() []*spare {
	s.mu.Lock()
	s.closed = true
	if s.retire != nil {
		s.retire.Stop()
	}
	s.mu.Unlock()
	s.ended.Wait()
	ready := s.ready
	s.ready = nil
	return ready
}

// dropSpares drops them and sees to it that their links are gone.
func (c *Controller) dropSpares() error {
	var errs []error
	gone := make(map[string]<-chan struct{})
	for _, one := range c.spares.drain() {
		gone[one.sb.spare] = c.watch.Gone(one.sb.spare)
		errs = append(errs, one.close())
	}
	late := time.After(goneWithin)
	for name, ch := range gone {
		select {
		case <-ch:
			continue
		case <-late:
		}
		errs = append(errs, c.links.Delete(name))
	}
	return errors.Join(errs...)
}

// stockSpares has as many spares made as are wanted, one after the other, when nobody
// attaches. A daemon nobody has attached anything to yet keeps none.
func (c *Controller) stockSpares() {
	s := &c.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.making || len(s.ready) >= c.cfg.Spares {
		return
	}
	s.making = true
	s.ended.Go(func() {
		for s.wanted(c.cfg.Spares) {
			if err := c.makeSpare(); err != nil {
				c.log.Debug("no sandbox could be made ready; the next is made when it is asked for", "err", err)
				break
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.making = false
		if s.retire == nil && !s.closed {
			s.retire = time.AfterFunc(spareLife, c.retireSpares)
		}
	})
}

// retireSpares lets go of all that nobody came for, or looks again later.
func (c *Controller) retireSpares() {
	s := &c.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if quiet := time.Since(s.last); quiet < spareLife || s.making {
		s.retire = time.AfterFunc(max(spareLife-quiet, restock), c.retireSpares)
		return
	}
	ready := s.ready
	s.ready, s.retire = nil, nil
	s.ended.Go(func() {
		for _, one := range ready {
			if err := c.discard(one); err != nil {
				c.log.Debug("a sandbox kept ready could not be let go", "link", one.sb.spare, "err", err)
			}
			s.settle(one)
		}
	})
}

// wanted waits for a quiet moment and says whether one more is to be made.
func (s *spares) wanted(most int) bool {
	for {
		s.mu.Lock()
		quiet, more := time.Since(s.last), !s.closed && len(s.ready) < most
		s.mu.Unlock()
		if !more || quiet >= restock {
			return more
		}
		time.Sleep(restock - quiet)
	}
}

func (c *Controller) makeSpare() error {
	one := &spare{endpoint: newID()}
	name := plan.HostIf(one.endpoint)
	c.mu.Lock()
	taken := slices.ContainsFunc(c.state.Attachments(), func(a spec.Attachment) bool {
		return slices.ContainsFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.HostIf == name })
	})
	c.mu.Unlock()
	if taken {
		return nil // by chance; another is tried
	}
	ns, err := netns.Make()
	if err != nil {
		return err
	}
	h, err := link.Open(ns)
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	one.sb = &sandbox{file: ns, links: h, spare: name}
	c.spares.note(name, true)
	if err := c.fillSpare(one.sb); err != nil {
		err = errors.Join(err, c.discard(one))
		c.spares.note(name, false)
		return err
	}
	c.spares.put(one)
	return nil
}

// note has the link be known as a spare's, or no longer.
func (s *spares) note(link string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links = make(map[string]bool)
	}
	if known {
		s.links[link] = true
	} else {
		delete(s.links, link)
	}
}

func (c *Controller) fillSpare(sb *sandbox) error {
	if err := sb.links.LoopbackUp(); err != nil {
		return err
	}
	err := c.links.CreateVeth(link.Veth{
		Name: sb.spare, Alias: c.plan.Alias("spare", sb.spare), PeerName: sparePeer, PeerNS: sb.file,
	})
	if err != nil {
		return err
	}
	if c.plan.HostIPv6 {
		if _, err := sysctl.Set("net/ipv6/conf/"+sb.spare+"/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	return setIPv6(sb.file, sparePeer, false)
}
