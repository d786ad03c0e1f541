package network

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/spec"
)

// fastHost is a host with the fast path and two containers of a dual-stack network that
// take it.
func fastHost(t *testing.T) (h *host, a, b spec.Attachment) {
	t.Helper()
	filterFrames(t, "0") // a namespace begins with 1 where br_netfilter is loaded
	t.Cleanup(func() { filterFrames(t, "1") })
	h = newHost(t, func(c *Config) { c.FastPath = true })
	h.network(t, spec.NetworkRequest{Name: "dual", IPv6: true})
	a, b = h.attach(t, 1, "dual"), h.attach(t, 2, "dual")
	h.joined(t, 2)
	return h, a, b
}

// filterFrames sets whether br_netfilter hands frames to iptables; a kernel without it
// never does.
func filterFrames(t *testing.T, on string) {
	t.Helper()
	if _, err := sysctl.Set("net.bridge.bridge-nf-call-iptables", on); err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	if _, err := sysctl.Set("net.bridge.bridge-nf-call-ip6tables", on); err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
}

// until polls for what the fast path is to come to.
func (h *host) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s; %+v", what, h.FastPath())
		}
	}
}

func (h *host) joined(t *testing.T, n int) {
	t.Helper()
	h.until(t, fmt.Sprintf("%d ports take part", n), func() bool {
		f := h.FastPath()
		return f.Lack == "" && f.Ports == n
	})
}

// reason waits until the fast path stands back for a reason, of the host or of a port.
func (h *host) reason(t *testing.T, want string) {
	t.Helper()
	h.until(t, "the reason "+want, func() bool {
		f := h.FastPath()
		reasons := append(slices.Collect(maps.Values(f.Slow)), f.Lack, f.ConnectionsLack)
		return slices.ContainsFunc(append(reasons, f.SlowLinks...), func(why string) bool { return strings.Contains(why, want) })
	})
}

// handed is how many frames to the container passed the bridge by.
func (h *host) handed(a spec.Attachment) uint64 {
	return h.fast.received()[a.Endpoints[0].HostIf].SentPackets
}

// talk has a send b datagrams that come back, of both families, and returns how many of the
// answers passed the bridge by; each has to come back.
func (h *host) talk(t *testing.T, a, b spec.Attachment) uint64 {
	t.Helper()
	before := h.handed(a)
	for _, to := range []netip.Prefix{b.Endpoints[0].Addr4, b.Endpoints[0].Addr6} {
		served := make(chan error, 1)
		server := inside(t, b, func() (net.PacketConn, error) {
			return net.ListenPacket("udp", net.JoinHostPort(to.Addr().String(), "0"))
		})
		go func() {
			buf := make([]byte, 100)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					served <- nil
					return
				}
				_, _ = server.WriteTo(buf[:n], from)
			}
		}()
		client := inside(t, a, func() (net.Conn, error) { return net.Dial("udp", server.LocalAddr().String()) })
		for i := range 5 {
			_ = client.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := client.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(make([]byte, 10)); err != nil {
				t.Fatalf("datagram %d to %s: %v", i, to.Addr(), err)
			}
		}
		_ = client.Close()
		_ = server.Close()
		<-served
	}
	kernel, err := h.looking.Counters()
	if err != nil {
		t.Fatal(err)
	}
	link, handed := a.Endpoints[0].HostIf, h.handed(a)
	if all, err := h.LinkCounts(); err != nil || all.Links[link].SentPackets < kernel[link].SentPackets+handed {
		t.Errorf("%d packets are counted, %v; the link has %d, and %d passed its end by", all.Links[link].SentPackets, err, kernel[link].SentPackets, handed)
	}
	return handed - before
}

func inside[T any](t *testing.T, a spec.Attachment, open func() (T, error)) (out T) {
	t.Helper()
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := netns.Do(ns, func() (err error) { out, err = open(); return err }); err != nil {
		t.Fatal(err)
	}
	return out
}

// shell runs a line of sh(1) on the host.
func shell(t *testing.T, format string, args ...any) {
	t.Helper()
	command(t, "sh", "-ec", fmt.Sprintf(format, args...))
}

// TestFastPath: two containers of a network reach each other past the bridge, and by the
// bridge for as long as anybody else has a say.
func TestFastPath(t *testing.T) {
	h, a, b := fastHost(t)
	if n := h.talk(t, a, b); n < 6 {
		t.Errorf("%d frames passed the bridge by", n)
	}
	if lines, err := h.Check(t.Context()); err != nil || len(lines) > 0 {
		t.Errorf("debug check: %v, %v", lines, err)
	}
	port, bridge := a.Endpoints[0].HostIf, a.Endpoints[0].Bridge
	for _, c := range []struct{ what, do, undo, reason string }{
		{"a foreign table of family bridge", "nft add table bridge mine", "", ""},
		{"a chain that filters frames", "nft 'add chain bridge mine forward { type filter hook forward priority 0; }'", "nft delete table bridge mine", "nft chain bridge mine forward filters"},
		{"a chain at an interface", "nft 'add table netdev mine; add chain netdev mine in { type filter hook ingress device " + port + " priority 0; }'", "nft delete table netdev mine", "nft chain netdev mine in filters"},
		{"a capture at the bridge", "ip link set " + bridge + " promisc on", "ip link set " + bridge + " promisc off", "captures at its bridge"},
		{"a bridge that calls iptables", "ip link set " + bridge + " type bridge nf_call_iptables 1", "ip link set " + bridge + " type bridge nf_call_iptables 0", "its bridge filters"},
		{"br_netfilter", "sysctl -w net.bridge.bridge-nf-call-iptables=1", "sysctl -w net.bridge.bridge-nf-call-iptables=0", "br_netfilter"},
		{"br_netfilter for IPv6", "sysctl -w net.bridge.bridge-nf-call-ip6tables=1", "sysctl -w net.bridge.bridge-nf-call-ip6tables=0", "br_netfilter"},
		{"a classifier", "tc qdisc add dev " + port + " clsact", "tc qdisc del dev " + port + " clsact", "tc classifies"},
		{"a queue", "tc qdisc add dev " + port + " root pfifo", "tc qdisc del dev " + port + " root", "has a queue"},
	} {
		shell(t, "%s", c.do)
		if c.reason != "" {
			h.reason(t, c.reason)
			if n := h.talk(t, a, b); n > 0 {
				t.Errorf("%s: %d frames passed the bridge by", c.what, n)
			}
		}
		if c.undo != "" {
			shell(t, "%s", c.undo)
			h.joined(t, 2)
		}
	}
	if n := h.talk(t, a, b); n < 6 {
		t.Errorf("at the end %d frames passed the bridge by", n)
	}
}

// TestFastPathOfPorts: who may not take part, and who leaves.
func TestFastPathOfPorts(t *testing.T) {
	h, a, b := fastHost(t)
	h.network(t, spec.NetworkRequest{Name: "apart", Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}})
	h.network(t, spec.NetworkRequest{Name: "loose", Options: map[string]string{"com.fairlead.network.anti_spoofing": "false"}})
	for i, network := range []string{"apart", "loose"} {
		h.attach(t, 10+i, network)
		h.reason(t, map[string]string{"apart": "kept apart", "loose": "under others' addresses"}[network])
	}
	h.joined(t, 2)

	// Healing is paused, so that it stays.
	h.PauseHealing()
	shell(t, "bridge link set dev %s isolated on", a.Endpoints[0].HostIf)
	h.reason(t, "isolated on")
	shell(t, "bridge link set dev %s isolated off", a.Endpoints[0].HostIf)
	h.joined(t, 2)
	h.ResumeHealing()

	// What others take away is put back.
	h.fast.mu.Lock()
	port := h.fast.joined[a.Endpoints[0].ID]
	err := h.fast.path.Remove(port)
	h.fast.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := h.Check(t.Context()); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "lacks the entry of "+a.Endpoints[0].Addr4.Addr().String()) {
		t.Errorf("debug check: %q, %v", lines, err)
	}
	h.healer.noticed.add(everything, time.Now())
	h.until(t, "it is mended", func() bool { lines, err := h.Check(t.Context()); return err == nil && len(lines) == 0 })
	h.joined(t, 2)
	if n := h.talk(t, a, b); n < 6 {
		t.Errorf("%d frames passed the bridge by after the mend", n)
	}

	// A container that moves has its entries gone when it has left.
	if err := h.Detach(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	if n := h.FastPath().Ports; n != 1 {
		t.Errorf("%d ports take part after a detach", n)
	}
	c := h.attach(t, 3, "dual")
	if c.Endpoints[0].Addr4 != b.Endpoints[0].Addr4 {
		t.Fatalf("the address is %s, want that of the one before", c.Endpoints[0].Addr4)
	}
	h.talk(t, a, c)
	h.joined(t, 2)
	if n := h.talk(t, a, c); n < 6 {
		t.Errorf("%d frames passed the bridge by to the new owner of the address", n)
	}

	// Without a daemon all goes by the bridge, and the next one takes its place.
	h.restart(t)
	h.joined(t, 2)
	if n := h.talk(t, a, c); n < 6 {
		t.Errorf("%d frames passed the bridge by after a restart", n)
	}
	if err := h.fast.path.Allow(0); err != nil {
		t.Fatal(err)
	}
	h.stopHealing()
	if n := h.talk(t, a, c); n > 0 {
		t.Errorf("%d frames passed the bridge by with nobody to allow it", n)
	}
}

// TestFastPathAndProbes: a probe that follows the rules' verdicts sees what the bridge does.
func TestFastPathAndProbes(t *testing.T) {
	h, a, b := fastHost(t)
	tracer, err := nft.Trace(t.Context(), nft.TracedFlow{Protocol: 17, ID: 9})
	if err != nil {
		t.Fatal(err)
	}
	h.reason(t, "fairlead_trace_")
	if n := h.talk(t, a, b); n > 0 {
		t.Errorf("%d frames passed the bridge by while a probe looks", n)
	}
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
	h.joined(t, 2)
}
