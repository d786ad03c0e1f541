package fastpath_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/fastpath"
)

// says fails the test unless the program says so of the segment.
func (s *flowSite) says(what string, g segment, want int32) {
	s.t.Helper()
	if got, _ := s.run(g, 0); got != want {
		s.t.Errorf("%s: %s to %s: the program says %d, want %d", what, g.from, g.to, got, want)
	}
}

// flagged is the segment with these flags too.
func flagged(g segment, flags byte) segment {
	g.flags |= flags
	return g
}

// news are what is told until the last is, without it.
func (s *flowSite) news(last fastpath.News) (all []fastpath.News) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	for {
		n, err := s.path.News(ctx)
		if err != nil {
			s.t.Fatalf("%+v was not told of, but %+v: %v", last, all, err)
		}
		if n == last {
			return all
		}
		all = append(all, n)
	}
}

// soFar returns what was told, each time since the last. Behind that it hears of a flow of
// its own, which ends each time.
func (s *flowSite) soFar(f fastpath.Flow) func() []fastpath.News {
	mine := f
	mine.Outside = nextPort(f.Outside)
	return func() []fastpath.News {
		s.t.Helper()
		if err := s.path.AddFlow(mine); err != nil {
			s.t.Fatal(err)
		}
		s.says("the last", flagged(s.out(mine), fin), fastpath.Next)
		if err := s.path.RemoveFlow(mine); err != nil {
			s.t.Fatal(err)
		}
		return s.news(fastpath.News{Over: true, At: mine.Port.Index, From: mine.Container, To: mine.Outside})
	}
}

// TestNews: what containers' ports see of connections that are no flows is told of after 32
// frames and 1024 more, and of each direction of a flow that it may be over, once; nothing else is.
func TestNews(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	for _, f := range s.flows {
		other := s.out(f)
		other.from, other.label = nextPort(f.Container), 1
		told := fastpath.News{At: f.Port.Index, From: other.from, To: other.to}
		count := func(n int) {
			for range n {
				s.says("no flow", other, fastpath.Next)
			}
		}
		unknown := s.in(f)
		unknown.from = nextPort(unknown.from)
		for range 2 * fastpath.Telling {
			s.says("no flow from outside", unknown, fastpath.Next)
			s.says("one that begins", flagged(other, syn), fastpath.Next)
			s.says("a flow", s.out(f), fastpath.Redirected)
		}
		heard := s.soFar(f)
		count(fastpath.Telling - 1)
		if got := heard(); len(got) > 0 {
			t.Errorf("before %d frames: %+v", fastpath.Telling, got)
		}
		count(1)
		if got := heard(); !slices.Equal(got, []fastpath.News{told}) {
			t.Errorf("after %d frames: %+v, want %+v", fastpath.Telling, got, told)
		}
		count(fastpath.TellingAgain - 1)
		if got := heard(); len(got) > 0 {
			t.Errorf("before %d frames more: %+v", fastpath.TellingAgain, got)
		}
		count(1)
		if got := heard(); !slices.Equal(got, []fastpath.News{told}) {
			t.Errorf("after %d frames more: %+v, want %+v", fastpath.TellingAgain, got, told)
		}
		s.closing(f, heard)
	}
}

// TestFar: of each GiB that is acknowledged there are news, and the host sees that segment;
// what comes late is none.
func TestFar(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	const step = 1 << 30
	for _, f := range s.flows {
		heard := s.soFar(f)
		for at, g := range map[fastpath.News]segment{
			{Far: true, At: f.Link, From: f.Outside, To: f.Host}:            s.in(f),
			{Far: true, At: f.Port.Index, From: f.Container, To: f.Outside}: s.out(f),
		} {
			g.acked = 0xf0000000 // from where the numbers begin anew soon
			s.says("the first", g, fastpath.Redirected)
			for range 5 {
				g.acked += step - 1
				s.says("just before", g, fastpath.Redirected)
				if got := heard(); len(got) > 0 {
					t.Errorf("before a GiB: %+v", got)
				}
				g.acked++
				s.says("so much", g, fastpath.Next)
				s.says("again", g, fastpath.Redirected)
				late := g
				late.acked -= step - 1
				s.says("a late one", late, fastpath.Redirected)
				if got := heard(); !slices.Equal(got, []fastpath.News{at}) {
					t.Errorf("after a GiB: %+v, want %+v", got, at)
				}
			}
		}
	}
}

// TestForgedEnds: an end whose number is not near what the other side has acknowledged ends
// nothing, and goes to whom it is for; one that is near does.
func TestForgedEnds(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	const number = 0x01020304 // of every segment
	for _, f := range s.flows {
		for _, ways := range [][2]segment{{s.in(f), s.out(f)}, {s.out(f), s.in(f)}} {
			g, other := ways[0], ways[1]
			for _, end := range []byte{fin, rst} {
				for acked, want := range map[uint32]int32{
					number + 1: fastpath.Redirected, number - 1<<24: fastpath.Redirected, number + 1<<31: fastpath.Redirected,
					number: fastpath.Next, number - 1<<24 + 1: fastpath.Next,
				} {
					other.acked = acked
					s.says("the other side", other, fastpath.Redirected)
					s.says(fmt.Sprintf("an end, %d acknowledged", acked), flagged(g, end), want)
					s.says("then", g, want)
					if err := errors.Join(s.path.RemoveFlow(f), s.path.AddFlow(f)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// TestQuiet: of a flow it is known for how long nothing was said, in either direction.
func TestQuiet(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	quiet := func(f fastpath.Flow) time.Duration {
		if err := s.path.AllowFlows(time.Hour); err != nil {
			t.Fatal(err)
		}
		d, err := s.path.Quiet(f)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, f := range s.flows {
		time.Sleep(300 * time.Millisecond)
		for _, g := range []segment{s.in(f), s.out(f)} {
			if d := quiet(f); d < 200*time.Millisecond {
				t.Errorf("quiet for %v, after 300 ms", d)
			}
			s.says("something", g, fastpath.Redirected)
			if d := quiet(f); d > 200*time.Millisecond {
				t.Errorf("quiet for %v, after something", d)
			}
			time.Sleep(300 * time.Millisecond)
		}
		if err := s.path.RemoveFlow(f); err != nil {
			t.Fatal(err)
		}
		if _, err := s.path.Quiet(f); !errdefs.IsNotFound(err) {
			t.Errorf("of none: %v", err)
		}
	}
}

// TestMapped: an IPv6 segment from and to the addresses that stand for those of a flow over
// IPv4 is none of it.
func TestMapped(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	mapped := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	for _, f := range s.flows {
		if !f.Host.Addr().Is4() {
			continue
		}
		for _, g := range []segment{s.in(f), s.out(f)} {
			s.says("of the flow", g, fastpath.Redirected)
			g.from, g.to = mapped(g.from), mapped(g.to)
			s.says("mapped", g, fastpath.Next)
		}
	}
}

// closing is the part of TestNews that is of a flow; heard returns what was told so far.
func (s *flowSite) closing(f fastpath.Flow, heard func() []fastpath.News) {
	s.t.Helper()
	in, out := s.in(f), s.out(f)
	for _, end := range []byte{fin, syn, rst} {
		strange := flagged(out, end)
		strange.toMAC = net.HardwareAddr{2, 0, 0, 0, 9, 2}
		s.says("the end for another's hardware address", strange, fastpath.Next)
		s.says("before the end", out, fastpath.Redirected)
		for range 3 {
			s.says("the container's end", flagged(out, end), fastpath.Next)
			s.says("after it", out, fastpath.Next)
			s.says("from outside", in, fastpath.Redirected)
		}
		for range 3 {
			s.says("the end from outside", flagged(in, end), fastpath.Next)
			s.says("after both", in, fastpath.Next)
			s.says("after both", out, fastpath.Next)
		}
		want := []fastpath.News{{Over: true, At: f.Port.Index, From: f.Container, To: f.Outside}, {Over: true, At: f.Link, From: f.Outside, To: f.Host}}
		if got := heard(); !slices.Equal(got, want) {
			s.t.Errorf("at the end by %d: %+v, want %+v", end, got, want)
		}
		if err := errors.Join(s.path.RemoveFlow(f), s.path.AddFlow(f)); err != nil {
			s.t.Fatal(err)
		}
		s.says("anew", in, fastpath.Redirected)
		s.says("anew", out, fastpath.Redirected)
	}
}

// TestAddFlowErrors: what cannot be a flow is none, and changes nothing.
func TestAddFlowErrors(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	f := s.flows[0]
	for _, wrong := range []struct {
		what   string
		change func(*fastpath.Flow)
		is     func(error) bool
	}{
		{"a port that takes no part", func(f *fastpath.Flow) { f.Port = s.ports["c"] }, errdefs.IsFailedPrecondition},
		{"another port's address", func(f *fastpath.Flow) { f.Port.Index = s.ports["c"].Index }, errdefs.IsFailedPrecondition},
		{"another segment", func(f *fastpath.Flow) { f.Port.Segment++ }, errdefs.IsFailedPrecondition},
		{"no hardware address", func(f *fastpath.Flow) { f.Port.MAC = nil }, errdefs.IsInvalidArgument},
		{"a short one", func(f *fastpath.Flow) { f.Gateway = f.Gateway[:5] }, errdefs.IsInvalidArgument},
		{"a long one", func(f *fastpath.Flow) { f.LinkMAC = make(net.HardwareAddr, 8) }, errdefs.IsInvalidArgument},
		{"no next hop", func(f *fastpath.Flow) { f.NextHop = netip.Addr{} }, errdefs.IsInvalidArgument},
		{"nobody outside", func(f *fastpath.Flow) { f.Outside = netip.AddrPort{} }, errdefs.IsInvalidArgument},
		{"two families", func(f *fastpath.Flow) { f.Host = s.flows[1].Host }, errdefs.IsInvalidArgument},
	} {
		g := f
		wrong.change(&g)
		if err := s.path.AddFlow(g); !wrong.is(err) {
			t.Errorf("%s: %v", wrong.what, err)
		}
		s.says(wrong.what, s.in(f), fastpath.Next)
		s.says(wrong.what, s.out(f), fastpath.Next)
	}
	s.addFlows()
	s.says("a direction that goes on", s.in(f), fastpath.Redirected)
	s.says("one that ends", flagged(s.out(f), rst), fastpath.Next)
	if err := s.path.AddFlow(f); err == nil {
		t.Error("the same is added twice")
	}
	s.says("it goes on", s.in(f), fastpath.Redirected)
	s.says("it has ended", s.out(f), fastpath.Next)
	half := f
	half.Container = nextPort(f.Container)
	if err := s.path.AddFlow(half); err == nil {
		t.Error("what comes in is for two")
	}
	s.says("of two the first", s.in(f), fastpath.Redirected)
	s.says("of two the second", s.out(half), fastpath.Next)
	for _, what := range []string{"remove", "remove what is not there"} {
		if err := s.path.RemoveFlow(f); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		s.says(what, s.in(f), fastpath.Next)
	}
	s.closed(f)
}

// closed judges what a path that is closed says.
func (s *flowSite) closed(f fastpath.Flow) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	for err := error(nil); err == nil; {
		if _, err = s.path.News(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("the wait for news ends with its time: %v", err)
		}
	}
	waits := make(chan error)
	go func() {
		for {
			if _, err := s.path.News(context.Background()); err != nil {
				waits <- err
				return
			}
		}
	}()
	if err := s.path.Close(); err != nil {
		s.t.Fatal(err)
	}
	for what, err := range map[string]error{
		"add": s.path.AddFlow(f), "allow": s.path.AllowFlows(time.Hour),
		"attach": s.path.AttachOutside(f.Link), "news": <-waits,
	} {
		if !errdefs.IsFailedPrecondition(err) {
			s.t.Errorf("%s: the closed path says %v", what, err)
		}
	}
	if err := errors.Join(s.path.RemoveFlow(f), s.path.DetachOutside(f.Link), s.path.Close()); err != nil {
		s.t.Errorf("the closed path says %v", err)
	}
}
