package capture_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/capture"
)

func TestMain(m *testing.M) { lab.Main(m) }

// pair is two hosts with a wire between them.
func pair(t *testing.T) (a, b *lab.Host) {
	t.Helper()
	l := lab.New(t)
	a, b = l.Host("a"), l.Host("b")
	l.Link(a.Port("eth0", "10.9.0.1/24", "fd09::1/64"), b.Port("eth0", "10.9.0.2/24", "fd09::2/64"))
	return a, b
}

func open(t *testing.T, h *lab.Host, name string, o capture.Options) *capture.Source {
	t.Helper()
	s, err := capture.Open(h.Path(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// until reads packets until one is wanted, which it returns, for ten seconds.
func until(t *testing.T, s *capture.Source, what string, wanted func(capture.Packet, gopacket.Packet) bool) capture.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		p, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		if wanted(p, gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default)) {
			return p
		}
	}
}

func TestBothDirections(t *testing.T) {
	a, b := pair(t)
	server := b.Listen("udp", "10.9.0.2:9000")
	defer server.Close()
	server6 := b.Listen("udp", "[fd09::2]:9000")
	defer server6.Close()
	for _, address := range []string{"10.9.0.2:9000", "[fd09::2]:9000"} {
		s := open(t, a, "eth0", capture.Options{})
		before := time.Now()
		if _, err := a.Ask("udp", address, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		to := netip.MustParseAddrPort(address)
		for _, out := range []bool{true, false} {
			p := until(t, s, address, func(p capture.Packet, g gopacket.Packet) bool {
				udp, ok := g.TransportLayer().(*layers.UDP)
				if !ok || p.Outgoing != out {
					return false
				}
				if out {
					return uint16(udp.DstPort) == to.Port()
				}
				return uint16(udp.SrcPort) == to.Port()
			})
			if p.Time.Before(before.Add(-time.Second)) || p.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("packet at %v, asked at %v", p.Time, before)
			}
			if p.Length != len(p.Data) || p.Hardware != unix.ARPHRD_ETHER || p.Index == 0 {
				t.Errorf("length %d of %d, hardware %d, interface %d", len(p.Data), p.Length, p.Hardware, p.Index)
			}
			if !out && p.Type != unix.PACKET_HOST {
				t.Errorf("type %d, want %d", p.Type, unix.PACKET_HOST)
			}
		}
	}
}

// TestPending: what has come is given without waiting, and nothing after the source is closed.
func TestPending(t *testing.T) {
	a, b := pair(t)
	defer b.Listen("udp", "10.9.0.2:9000").Close()
	s := open(t, a, "eth0", capture.Options{Filter: only(t)})
	if p, ok := s.Pending(); ok {
		t.Errorf("before there was any: %+v", p)
	}
	if _, err := a.Ask("udp", "10.9.0.2:9000", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	took := 0
	for deadline := time.Now().Add(10 * time.Second); took < 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, ok := s.Pending(); ok {
			took++
		}
	}
	if took < 2 {
		t.Errorf("of a question and its answer %d were given", took)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if p, ok := s.Pending(); ok {
		t.Errorf("after it was closed: %+v", p)
	}
}

// only wants UDP over IPv4 and keeps 50 bytes of it.
func only(t *testing.T) []bpf.RawInstruction {
	t.Helper()
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x800, SkipFalse: 3},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipFalse: 1},
		bpf.RetConstant{Val: 50},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestFilter(t *testing.T) {
	a, b := pair(t)
	server := b.Listen("udp", "10.9.0.2:9000")
	defer server.Close()
	s := open(t, a, "eth0", capture.Options{Filter: only(t)})
	if a.Try("ping", "-c", "1", "-W", "5", "fd09::2").Code != 0 {
		t.Fatal("no answer to a ping")
	}
	if _, err := a.Ask("udp", "10.9.0.2:9000", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := until(t, s, "any packet", func(capture.Packet, gopacket.Packet) bool { return true })
		if binary.BigEndian.Uint16(p.Data[12:]) != 0x800 || p.Data[23] != unix.IPPROTO_UDP {
			t.Errorf("the filter let through % x", p.Data)
		}
		if len(p.Data) > 50 || p.Length < len(p.Data) {
			t.Errorf("kept %d bytes of %d, want 50 at most", len(p.Data), p.Length)
		}
	}
	if st, err := s.Stats(); err != nil || st.Received != 2 || st.Dropped != 0 {
		t.Errorf("stats %+v, %v, want 2 received", st, err)
	}
}

// TestSlowReader sends more than the ring holds while nobody reads.
func TestSlowReader(t *testing.T) {
	a, b := pair(t)
	lab.Reachable(t, a, "icmp", "10.9.0.2")
	s := open(t, b, "eth0", capture.Options{RingBytes: 1})
	const sent, size, room = 4000, 1400, 8 * 128 << 10
	send(t, a, "10.9.0.2:9", sent, size)
	st, err := s.Stats()
	if err != nil || st.Received < sent || st.Dropped < sent-room/size {
		t.Fatalf("stats %+v, %v, want %d received and most of them dropped", st, err, sent)
	}
	for range st.Received - st.Dropped {
		until(t, s, "what the ring holds", func(capture.Packet, gopacket.Packet) bool { return true })
	}
	if kept := st.Received - st.Dropped; kept > 2*room/size {
		t.Errorf("%d packets of %d bytes in %d bytes", kept, size, room)
	}
	// It goes on where it was full.
	send(t, a, "10.9.0.2:10", 1, size)
	until(t, s, "a packet after the ring was full", func(_ capture.Packet, g gopacket.Packet) bool {
		udp, ok := g.TransportLayer().(*layers.UDP)
		return ok && udp.DstPort == 10
	})
}

// send sends datagrams to where nobody need listen.
func send(t *testing.T, from *lab.Host, to string, count, size int) {
	t.Helper()
	conn, err := from.Dial("udp", to, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range count {
		_, _ = conn.Write(make([]byte, size)) // refused, now and then, for the one before
	}
}

// TestVLANTag gets back the tag that the kernel takes out of what comes in.
func TestVLANTag(t *testing.T) {
	a, b := pair(t)
	s := open(t, b, "eth0", capture.Options{})
	payload := append([]byte{0x20, 0x07, 0x88, 0xb5}, make([]byte, 100)...) // priority 1, VLAN 7
	a.SendFrame("eth0", net.HardwareAddr{2, 0, 0, 0, 0, 1}, unix.ETH_P_8021Q, payload)
	p := until(t, s, "a tagged packet", func(_ capture.Packet, g gopacket.Packet) bool {
		tag, ok := g.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		return ok && tag.VLANIdentifier == 7 && tag.Priority == 1 && tag.Type == 0x88b5
	})
	if want := 14 + len(payload); p.Length != want || len(p.Data) != want {
		t.Errorf("%d bytes of %d, want %d", len(p.Data), p.Length, want)
	}
}

// TestBridge sees what passes between the ports of a bridge, and only when asked to.
func TestBridge(t *testing.T) {
	l := lab.New(t)
	a, b, middle := l.Host("a"), l.Host("b"), l.Host("middle")
	l.Link(a.Port("eth0", "10.9.0.1/24"), middle.Port("p1"))
	l.Link(b.Port("eth0", "10.9.0.2/24"), middle.Port("p2"))
	middle.Run("ip", "link", "add", "br0", "type", "bridge")
	for _, name := range []string{"p1", "p2"} {
		middle.Run("ip", "link", "set", name, "master", "br0")
	}
	middle.Run("ip", "link", "set", "br0", "up")
	s := open(t, middle, "br0", capture.Options{Promiscuous: true})
	server := b.Listen("udp", "10.9.0.2:9000")
	defer server.Close()
	lab.Reachable(t, a, "udp", "10.9.0.2:9000")
	p := until(t, s, "what a sends to b", func(_ capture.Packet, g gopacket.Packet) bool {
		udp, ok := g.TransportLayer().(*layers.UDP)
		return ok && udp.DstPort == 9000
	})
	if p.Outgoing || p.Type != unix.PACKET_OTHERHOST {
		t.Errorf("outgoing %v, type %d, want %d", p.Outgoing, p.Type, unix.PACKET_OTHERHOST)
	}
}

// TestAllInterfaces gives what passes the loopback interface once.
func TestAllInterfaces(t *testing.T) {
	a, _ := pair(t)
	s := open(t, a, "", capture.Options{})
	server := a.Listen("udp", "127.0.0.1:9000")
	defer server.Close()
	if _, err := a.Ask("udp", "127.0.0.1:9000", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	asked := 0
	until(t, s, "the answer", func(p capture.Packet, g gopacket.Packet) bool {
		udp, ok := g.TransportLayer().(*layers.UDP)
		if !ok || p.Hardware != unix.ARPHRD_LOOPBACK {
			return false
		}
		if udp.DstPort == 9000 {
			asked++
		}
		return udp.SrcPort == 9000
	})
	if asked != 1 {
		t.Errorf("the question was seen %d times", asked)
	}
}

func TestInterfaceGone(t *testing.T) {
	a, _ := pair(t)
	s := open(t, a, "eth0", capture.Options{})
	a.Run("ip", "link", "set", "eth0", "down")
	a.Run("ip", "link", "set", "eth0", "up")
	a.Run("ip", "link", "set", "eth0", "down")
	a.Run("ip", "link", "set", "eth0", "name", "eth1")
	a.Run("ip", "link", "set", "eth1", "up")
	a.SendFrame("eth1", net.HardwareAddr{2, 0, 0, 0, 0, 1}, 0x88b5, []byte("down and up"))
	until(t, s, "a packet after the interface was down and got another name", func(p capture.Packet, _ gopacket.Packet) bool {
		return binary.BigEndian.Uint16(p.Data[12:]) == 0x88b5
	})
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Next(t.Context()); err != nil {
				ended <- err
				return
			}
		}
	}()
	a.Run("ip", "link", "del", "eth1")
	if err := <-ended; !errdefs.IsNotFound(err) {
		t.Errorf("error %v, want not found", err)
	}
}

func TestEnds(t *testing.T) {
	a, _ := pair(t)
	s := open(t, a, "lo", capture.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	next := func(ctx context.Context) { _, err := s.Next(ctx); ended <- err }
	go next(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	go next(t.Context())
	a.Run("ip", "link", "set", "lo", "up")
	if a.Try("ping", "-c", "1", "-W", "5", "127.0.0.1").Code != 0 {
		t.Fatal("no answer to a ping")
	}
	if err := <-ended; err != nil {
		t.Errorf("after a canceled wait: %v", err)
	}
	for len(ended) == 0 {
		if _, err := s.Next(shortly(t)); errors.Is(err, context.DeadlineExceeded) {
			break // nothing is left
		}
	}
	go next(t.Context())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want %v", err, os.ErrClosed)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want %v", err, os.ErrClosed)
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestRefused(t *testing.T) {
	a, _ := pair(t)
	forever := []bpf.RawInstruction{{Op: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, c := range []struct {
		path, name string
		filter     []bpf.RawInstruction
		kind       func(error) bool
	}{
		{a.Path(), "eth9", nil, errdefs.IsNotFound},
		{a.Path() + "-absent", "eth0", nil, errdefs.IsNotFound},
		{a.Path(), "a-name-that-is-too-long", nil, errdefs.IsInvalidArgument},
		{a.Path(), "eth0", forever, errdefs.IsInvalidArgument},
		{a.Path(), "eth0", make([]bpf.RawInstruction, 5000), errdefs.IsInvalidArgument},
	} {
		if s, err := capture.Open(c.path, c.name, capture.Options{Filter: c.filter}); !c.kind(err) {
			t.Errorf("%s of %s: %v, %v", c.name, c.path, s, err)
		}
	}
}
