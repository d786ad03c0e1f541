package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/printable"
	"github.com/fairlead/fairlead/kernel/capture"
	"github.com/fairlead/fairlead/kernel/drops"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/trace"
)

// most bounds what is kept of each kind of event.
const most = 500

// ringBytes is the memory for packets of one namespace: those of one probe.
const ringBytes = 256 << 10

// watch has all that looks at the probe.
type watch struct {
	identity
	request    Request
	namespaces []*namespace
	drops      *drops.Watch
	tasks      sync.WaitGroup
	// dropped is closed when the packet was thrown away.
	dropped chan struct{}
	once    sync.Once

	mu        sync.Mutex
	sights    []timed[trace.Sight]
	thrown    []thrown
	verdicts  []timed[trace.TableVerdict]
	unwatched []string
}

// timed is an event and when it was, by the wall clock.
type timed[T any] struct {
	at    time.Time
	event T
}

// thrown is a drop whose function is still to be named.
type thrown struct {
	timed[trace.KernelDrop]
	location uint64
}

// namespace is one that is watched.
type namespace struct {
	Namespace
	inode  uint64
	source *capture.Source
	tracer *nft.Tracer
	links  map[int]link.Link
	// marks are what is known of a packet by its first verdict in each hook.
	marks map[uint32]mark
}

// mark is what the first verdict on a packet in a chain tells, and those after it do not.
type mark struct {
	packet
	in, out string
}

func newWatch(r Request, id identity) *watch {
	w := &watch{identity: id, request: r, dropped: make(chan struct{})}
	for _, n := range append([]Namespace{r.From}, r.Watch...) {
		if !slices.ContainsFunc(w.namespaces, func(have *namespace) bool { return have.Path == n.Path }) {
			w.namespaces = append(w.namespaces, &namespace{Namespace: n, marks: map[uint32]mark{}})
		}
	}
	return w
}

// open begins to look everywhere. Where a packet cannot be seen at all that is an error;
// that nobody tells what became of it is noted.
func (w *watch) open(ctx context.Context) error {
	filter, err := w.filter()
	if err != nil {
		return err
	}
	for _, n := range w.namespaces {
		err := n.inside(func() error { return n.open(capture.Options{Filter: filter, RingBytes: ringBytes}) })
		if err != nil {
			return fmt.Errorf("watch %s: %w", n.Name, err)
		}
		err = n.inside(func() (err error) {
			n.tracer, err = nft.Trace(ctx, nft.TracedFlow{Protocol: w.proto, IPv6: w.ipv6, ID: w.id})
			return err
		})
		if err != nil {
			w.note("%s: verdicts of nf_tables: %v", n.Name, err)
		}
	}
	if w.drops, err = drops.Open(w.addresses()); err != nil {
		w.note("%v", err)
	}
	return nil
}

// open is called inside the namespace.
func (n *namespace) open(o capture.Options) (err error) {
	path := n.Path
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	n.inode, _ = netns.Inode(path)
	if n.source, err = capture.Open("", "", o); err != nil {
		return err
	}
	return n.list()
}

// list reads the namespace's links.
func (n *namespace) list() error {
	h, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.Links()
	if err != nil {
		return err
	}
	n.links = make(map[int]link.Link, len(links))
	for _, l := range links {
		n.links[l.Index] = l
	}
	return nil
}

// addresses are those that the kernel's reasons are asked for.
func (w *watch) addresses() []netip.Addr {
	out := []netip.Addr{w.request.Destination.Addr()}
	add := func(a netip.Addr) {
		if a = a.Unmap(); a.IsValid() && a.Is6() == w.ipv6 && !slices.Contains(out, a) && len(out) < mostAddresses {
			out = append(out, a)
		}
	}
	add(w.request.Source)
	for _, l := range w.namespaces[0].links {
		for _, p := range l.Addrs {
			add(p.Addr())
		}
	}
	for _, a := range w.request.Addresses {
		add(a)
	}
	return out
}

// mostAddresses keeps the program that looks for them short.
const mostAddresses = 64

func (w *watch) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unwatched = append(w.unwatched, fmt.Sprintf(format, args...))
}

// start reads what is seen until ctx ends, and then what the kernel had seen by that time:
// on a busy host those that read may come to it no sooner.
func (w *watch) start(ctx context.Context) {
	for _, n := range w.namespaces {
		w.tasks.Go(func() { w.readPackets(ctx, n) })
		if n.tracer != nil {
			w.tasks.Go(func() { _ = n.tracer.Next(ctx, func(v nft.Verdict) { w.verdict(n, v) }) })
		}
	}
	if w.drops == nil {
		return
	}
	w.tasks.Go(func() {
		for {
			d, err := w.drops.Next(ctx)
			if err != nil {
				break
			}
			w.drop(d)
		}
		for _, d := range w.drops.Rest() {
			w.drop(d)
		}
	})
}

func (w *watch) readPackets(ctx context.Context, n *namespace) {
	for {
		p, err := n.source.Next(ctx)
		if err != nil {
			break
		}
		w.sight(n, p)
	}
	for p, ok := n.source.Pending(); ok; p, ok = n.source.Pending() {
		w.sight(n, p)
	}
}

// followed says that the packet is the probe or an answer to it, and not what ends the
// connection.
func (p packet) followed() bool {
	switch p.what {
	case "SYN", "echo request":
		return !p.back
	case "RST":
		return p.back
	case "ACK", "FIN", "":
		return false
	}
	return true
}

func (w *watch) sight(n *namespace, p capture.Packet) {
	ip, ok := linkHeader(p.Hardware, p.Data)
	if !ok {
		return
	}
	seen, ok := w.parse(ip)
	if !ok || !seen.followed() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := n.link(p.Index)
	s := trace.Sight{
		Name: n.Name, Namespace: n.Path, Kind: n.kind(l), Interface: printable.Name(l.Name), Index: p.Index,
		Outgoing: p.Outgoing, Back: seen.back, What: seen.what, Flow: seen.flow, TTL: seen.ttl, ICMP: seen.err,
	}
	// Of what is sent again, the first.
	if len(w.sights) < most && !slices.ContainsFunc(w.sights, func(have timed[trace.Sight]) bool { return same(have.event, s) }) {
		w.sights = append(w.sights, timed[trace.Sight]{p.Time, s})
	}
}

// same says that the one is the other, sent again.
func same(a, b trace.Sight) bool {
	a.ICMP, b.ICMP = nil, nil // which What names
	return a == b
}

// link is one of the namespace's; its name is a number where it is not known.
func (n *namespace) link(index int) link.Link {
	l, ok := n.links[index]
	if !ok && index != 0 {
		// It has come since.
		if n.inside(n.list) == nil {
			l, ok = n.links[index]
		}
		if !ok {
			l = link.Link{Index: index, Name: fmt.Sprintf("if%d", index)}
		}
	}
	return l
}

// kind is what an interface is in the way of a packet.
func (n *namespace) kind(l link.Link) trace.HopKind {
	switch {
	case n.Path != "" && !n.Host:
		return trace.HopContainer
	case l.Kind == "bridge":
		return trace.HopBridge
	case l.Kind == "veth" && l.MasterIndex != 0:
		return trace.HopPeer
	case l.Name == "lo":
		return trace.HopHost
	}
	return trace.HopUplink
}

func (w *watch) verdict(n *namespace, v nft.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, known := n.marks[v.Packet]
	if len(v.Network) > 0 {
		// The transport's header alone may follow: options are not told of.
		if read, ok := w.parse(append(slices.Clip(v.Network), v.Transport...)); ok {
			p, known = mark{read, n.link(v.In).Name, n.link(v.Out).Name}, true
			n.marks[v.Packet] = p
		}
	}
	if known && !p.followed() || len(w.verdicts) >= most {
		return
	}
	w.verdicts = append(w.verdicts, timed[trace.TableVerdict]{v.Time, trace.TableVerdict{
		Name: n.Name, Namespace: n.Path, Family: string(v.Family), Table: printable.Name(v.Table), Chain: printable.Name(v.Chain),
		Handle: v.Handle, Verdict: v.Verdict, To: printable.Name(v.To), Back: p.back, What: p.what, In: printable.Name(p.in), Out: printable.Name(p.out),
	}})
	if v.Verdict == "drop" {
		last := &w.verdicts[len(w.verdicts)-1].event
		last.Rule = n.tracer.Rule(v.Family, v.Table, v.Chain, v.Handle)
		w.once.Do(func() { close(w.dropped) })
	}
}

func (w *watch) drop(d drops.Drop) {
	p, ok := w.parse(d.Data)
	if !ok || !p.followed() || arrived(p, d) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := trace.KernelDrop{Interface: printable.Name(d.Interface), Reason: d.Reason, Back: p.back, What: p.what, Flow: p.flow}
	for _, n := range w.namespaces {
		if n.inode == d.Namespace {
			out.Name, out.Namespace = n.Name, n.Path
		}
	}
	if len(w.thrown) < most && !slices.ContainsFunc(w.thrown, func(have thrown) bool { return have.event == out }) {
		w.thrown = append(w.thrown, thrown{timed[trace.KernelDrop]{d.Time, out}, d.Location})
	}
	w.once.Do(func() { close(w.dropped) })
}

// arrived says that the kernel is done with an answer and calls that a drop: a reset
// that ended a connection, and an echo reply, of which raw sockets have copies.
func arrived(p packet, d drops.Drop) bool {
	return p.what == "RST" && d.Reason == "TCP_RESET" || p.what == "echo reply" && d.Reason == "NO_SOCKET"
}

// finish waits for those that read, and puts what they saw in order.
func (w *watch) finish(begun time.Time, a trace.Answer, source netip.AddrPort) *trace.Observation {
	w.tasks.Wait()
	r := &trace.Observation{Answer: a, Unwatched: w.unwatched}
	by := func(x, y timed[trace.Sight]) int { return x.at.Compare(y.at) }
	slices.SortStableFunc(w.sights, by)
	slices.SortStableFunc(w.thrown, func(x, y thrown) int { return x.at.Compare(y.at) })
	if len(w.sights) > 0 && !w.sights[0].event.Back {
		begun = w.sights[0].at
	}
	for _, s := range w.sights {
		s.event.After = s.at.Sub(begun)
		r.Seen = append(r.Seen, s.event)
	}
	for _, d := range w.thrown {
		d.event.After, d.event.Function = d.at.Sub(begun), drops.Function(d.location)
		r.Drops = append(r.Drops, d.event)
	}
	for _, v := range w.verdicts {
		v.event.After = v.at.Sub(begun)
		r.Verdicts = append(r.Verdicts, v.event)
	}
	r.Sent = trace.Flow{Proto: w.request.Proto, Source: source, Destination: w.request.Destination}
	read(&r.Answer, r, w.request.From.Path)
	w.untold(r)
	return r
}

// read adds to the answer what the last packet that came back to the sender tells of it.
func read(a *trace.Answer, r *trace.Observation, from string) {
	for _, s := range slices.Backward(r.Seen) {
		if !s.Back || s.Outgoing || s.Namespace != from || a.Kind == trace.AnswerNone {
			continue
		}
		a.After, a.From = s.After, s.Flow.Source.Addr()
		if a.ICMP = s.ICMP; a.ICMP != nil && r.Sent.Proto == "tcp" {
			a.Kind = trace.AnswerError // somebody refuses on behalf of the address
		}
		return
	}
}

func (w *watch) close() {
	var errs []error
	for _, n := range w.namespaces {
		errs = append(errs, n.source.Close())
		if n.tracer != nil {
			errs = append(errs, n.tracer.Close())
		}
	}
	if w.drops != nil {
		errs = append(errs, w.drops.Close())
	}
	_ = errors.Join(errs...) // the kernel has closed them
}
