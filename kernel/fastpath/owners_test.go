package fastpath_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/fastpath"
)

// TestRoom: ports whose addresses fall on one place of the table do not hide each other, one
// too many is refused and leaves nothing behind, and what one leaves another takes; with
// them, whom frames are for on kernels that leave it to the program.
func TestRoom(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.path = s.open(fastpath.OpenBefore)
	s.allow(time.Hour)
	a, b := s.ports["a"], s.ports["b"]
	crowd := fastpath.Crowd(b, fastpath.Probes)
	s.add(crowd[1:]...)
	s.add(a, b) // the last for whom there is room
	if err := s.path.Add(crowd[0]); !errdefs.IsResourceExhausted(err) || s.path.Lacks(crowd[0]) == "" {
		t.Errorf("one too many: %v; it lacks %q", err, s.path.Lacks(crowd[0]))
	}
	if n := s.path.Taken(); n > 0 {
		t.Errorf("%d slots are kept for it", n)
	}
	reaches := func(when string) {
		t.Helper()
		s.send("a", frame{from: a4, to: b4, protocol: 17, port: 80}) // which the bridge is to see
		f := frame{what: "UDP", from: a4, to: b4, protocol: 17, port: 80, handed: true}
		if !s.exchange("a", "b", []frame{f})[f.what] {
			t.Errorf("%s: not handed over", when)
		}
	}
	reaches("in the last place")
	for _, p := range crowd[1:] {
		if err := s.path.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	reaches("behind places that were left")
	if err := s.path.Remove(b); err != nil {
		t.Fatal(err)
	}
	s.add(crowd[:1]...)
	s.add(b)
	reaches("in a place that another left")
	both := crowd[1]
	both.Addrs = append(both.Addrs, crowd[2].Addrs...)
	s.add(both)
	if lacks := s.path.Lacks(both); lacks != "" {
		t.Errorf("a port with two addresses of one place lacks %s", lacks)
	}
	s.at["b"].Listen("udp", b4+":80")
	s.at["a"].Run("ip", "neigh", "replace", b4, "lladdr", b.MAC.String(), "dev", "eth0")
	s.at["b"].Run("ip", "neigh", "replace", a4, "lladdr", a.MAC.String(), "dev", "eth0")
	if r := lab.Seen(t, s.at["a"], "udp", b4+":80"); r.Host != "b" {
		t.Errorf("%s answered", r.Host)
	}
}

// TestOwners: an owner's program takes the place of the one before it, stands beside
// others', knows what it lacks, and goes.
func TestOwners(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.ports["a"], s.ports["b"]
	next := s.open(fastpath.Open)
	at := func(p *fastpath.Path, index int) (mine bool, others string) {
		s.do(s.host, func() (err error) {
			mine, others, err = p.At(index)
			return err
		})
		return mine, others
	}
	if mine, _ := at(s.path, a.Index); mine {
		t.Error("the former owner's program is still there")
	}
	if mine, others := at(next, a.Index); !mine || others != "" {
		t.Errorf("the next owner's program is there: %t, beside %q", mine, others)
	}
	if lacks := next.Lacks(a); lacks != "the entry of "+a4 {
		t.Errorf("a port that takes no part lacks %q", lacks)
	}
	if err := next.Add(a); err != nil || next.Lacks(a) != "" {
		t.Errorf("%v; it lacks %q", err, next.Lacks(a))
	}
	if err := next.Add(b); err != nil {
		t.Error(err)
	}
	moved := a
	moved.Index = b.Index
	if err := next.Remove(moved); err != nil || next.Lacks(a) != "" {
		t.Errorf("what another had took a's entries along: %v", err)
	}
	s.do(s.host, func() error { return fastpath.Detach(tag, a.Index) })
	if mine, _ := at(next, a.Index); mine {
		t.Error("it stays though it was taken off")
	}
	if err := next.Attach(1 << 20); err == nil {
		t.Error("attached to an interface that is not there")
	}
}

// TestFilters: a program at a hook of netfilter is seen.
func TestFilters(t *testing.T) {
	before, err := fastpath.Filters()
	if err != nil || before != "" {
		t.Fatalf("%q, %v", before, err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebodys", Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}, // NF_ACCEPT
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	h := lab.New(t).Host("filtered")
	var l link.Link
	if err := h.Do(func() (err error) {
		l, err = link.AttachNetfilter(link.NetfilterOptions{Program: program, ProtocolFamily: unix.NFPROTO_IPV4, Hook: unix.NF_INET_FORWARD, Priority: -10})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	there, err := fastpath.Filters()
	if err := errors.Join(err, l.Close()); err != nil || !strings.Contains(there, "somebodys") {
		t.Errorf("%q, %v", there, err)
	}
}
