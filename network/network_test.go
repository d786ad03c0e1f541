package network

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// ping says whether the sandbox reaches the address.
func ping(a spec.Attachment, addr string) bool {
	return exec.Command("nsenter", "--net="+a.Sandbox.Path, "ping", "-c1", "-W1", addr).Run() == nil
}

func TestAttachedSandboxesReachEachOther(t *testing.T) {
	h := newHost(t)
	a, b := h.attach(t, 1, "bridge"), h.attach(t, 2, "bridge")
	if !ping(a, b.Endpoints[0].Addr4.Addr().String()) || !ping(b, "172.17.0.1") {
		t.Error("no way between sandboxes, or to the gateway")
	}
	n, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "other", IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	c, d := h.attach(t, 3, "other"), h.attach(t, 4, n.ID[:12])
	for _, p := range d.Endpoints[0].Addrs() {
		if !ping(c, p.Addr().String()) {
			t.Errorf("no way to %s between sandboxes of a network with both families", p)
		}
	}
	if ping(c, a.Endpoints[0].Addr4.Addr().String()) {
		t.Error("networks are not isolated")
	}
	h.clean(t)
}

func TestDetachGivesEverythingBack(t *testing.T) {
	h := newHost(t)
	a := h.attach(t, 1, "bridge", tcp(8080, 80))
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	if netns.IsPinned(a.Sandbox.Path) {
		t.Error("the namespace is still pinned")
	}
	// The kernel takes the link away when it comes to it; until then nothing passes.
	if out := command(t, "ip", "-br", "link", "show", "up"); strings.Contains(out, a.Endpoints[0].HostIf) {
		t.Errorf("the link is still up:\n%s", out)
	}
	h.departing.settle(t.Context())
	if out := command(t, "ip", "-br", "link"); strings.Contains(out, a.Endpoints[0].HostIf) {
		t.Errorf("the link is still there:\n%s", out)
	}
	b := h.attach(t, 2, "bridge", tcp(8080, 80))
	if b.Endpoints[0].Addr4 != a.Endpoints[0].Addr4 {
		t.Errorf("the address went to waste: %s", b.Endpoints[0].Addr4)
	}
	if err := h.Detach(t.Context(), "never there"); err != nil {
		t.Errorf("detach of nothing: %v", err)
	}
	h.clean(t)
}

// TestDetachFreesAHeldNamespace: somebody's nsenter keeps the namespace, and must
// not keep its address.
func TestDetachFreesAHeldNamespace(t *testing.T) {
	h := newHost(t)
	a := h.attach(t, 1, "bridge")
	f, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	b := h.attach(t, 2, "bridge")
	if b.Endpoints[0].Addr4 != a.Endpoints[0].Addr4 || !ping(b, "172.17.0.1") {
		t.Errorf("the address was not free: %s", b.Endpoints[0].Addr4)
	}
	h.clean(t)
}

func TestPortTakenByAProgramOfTheHost(t *testing.T) {
	h := newHost(t)
	command(t, "ip", "link", "set", "lo", "up")
	l, err := net.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = h.Attach(t.Context(), attachRequest(1, "bridge", tcp(8080, 80)))
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "address already in use by network.test") {
		t.Errorf("a fixed port: %v", err)
	}
	if len(h.Attachments()) != 0 {
		t.Error("the refused attachment was kept")
	}
	a, err := h.Attach(t.Context(), attachRequest(1, "bridge", spec.PortRequest{Proto: spec.TCP, HostPort: 8080, HostPortEnd: 8081, Port: 80}))
	if err != nil || a.Ports[0].Host.Port() != 8081 {
		t.Errorf("a range: %v, %v; want 8081", a.Ports, err)
	}
	h.clean(t)
}

// TestPublishedUDPTakesOverOldFlows: who sent to a port before it was published is
// translated like everybody, though the kernel remembers the flow as it was.
func TestPublishedUDPTakesOverOldFlows(t *testing.T) {
	h := newHost(t)
	// The first sandbox's bridge address is the host's that is sent to.
	h.attach(t, 1, "bridge")
	client, err := net.Dial("udp", "172.17.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	send := func() {
		for range 2 { // the first may report that the last one reached nobody
			if _, err := client.Write([]byte("x")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
	}
	send()
	a := h.attach(t, 2, "bridge", spec.PortRequest{Proto: spec.UDP, HostPort: 5000, Port: 53})
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	var server net.PacketConn
	if err := netns.Do(ns, func() error {
		server, err = net.ListenPacket("udp", ":53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	send()
	_ = server.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, from, err := server.ReadFrom(make([]byte, 10)); err != nil {
		t.Errorf("a client that sent before the port was published does not reach the container: %v", err)
	} else if from.String() != client.LocalAddr().String() {
		t.Errorf("the container sees %s, the client is %s", from, client.LocalAddr())
	}
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	h := newHost(t)
	// A device of the name that the next endpoint will ask for cannot be
	// foreseen, but a bridge that is gone can be.
	h.stopHealing() // which would make it again
	command(t, "ip", "link", "del", "fairlead0")
	if _, err := h.Attach(t.Context(), attachRequest(1, "bridge", tcp(8080, 80))); err == nil || !strings.Contains(err.Error(), "failed to set up container networking") {
		t.Fatalf("attach without a bridge: %v", err)
	}
	if held, _ := h.relay.List(t.Context()); len(held) > 0 {
		t.Errorf("ports are still held: %v", held)
	}
	h.restart(t)
	h.clean(t)
	h.attach(t, 1, "bridge", tcp(8080, 80))
	h.clean(t)
}

func TestNetworksAreMadeAndRemovedWhole(t *testing.T) {
	h := newHost(t)
	n, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "n", Internal: true, Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	h.restart(t)
	h.clean(t)
	got, err := h.Network("n")
	if err != nil || got.ID != n.ID || !got.Internal || got.Labels["a"] != "b" {
		t.Fatalf("after a restart: %+v, %v", got, err)
	}
	h.attach(t, 1, "n")
	if err := h.RemoveNetwork(t.Context(), "n"); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("removal in use: %v", err)
	}
	if err := h.Detach(t.Context(), fmt.Sprintf("%064x", 1)); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveNetwork(t.Context(), n.ID[:10]); err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	if err := h.RemoveNetwork(t.Context(), "n"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("second removal: %v", err)
	}
	h.restart(t)
	h.clean(t)
}

func TestHundredInParallel(t *testing.T) {
	h := newHost(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	addrs, ports := make(map[string]bool), make(map[uint16]bool)
	for i := range 100 {
		wg.Go(func() {
			a, err := h.Attach(t.Context(), attachRequest(i, "bridge", tcp(0, 80)))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			addrs[a.Endpoints[0].Addr4.String()], ports[a.Ports[0].Host.Port()] = true, true
			mu.Unlock()
			if i%2 == 0 {
				if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(ports) != 100 || len(h.Attachments()) != 50 {
		t.Errorf("%d ports, %d attachments; want 100 and 50", len(ports), len(h.Attachments()))
	}
	h.clean(t)
}

func TestDefaultNetworkAvoidsTheHost(t *testing.T) {
	command(t, "ip", "link", "add", "lan0", "type", "bridge")
	defer exec.Command("ip", "link", "del", "lan0").Run()
	command(t, "ip", "link", "set", "lan0", "up")
	command(t, "ip", "addr", "add", "172.17.3.1/24", "dev", "lan0")
	h := newHost(t)
	n, err := h.Network("bridge")
	if err != nil || n.Subnets[0].Prefix.String() != "172.18.0.0/16" {
		t.Errorf("default network %+v, %v; want 172.18.0.0/16", n, err)
	}
}

func TestForeignBridgeIsLeftAlone(t *testing.T) {
	command(t, "ip", "link", "add", "bridge0", "type", "bridge")
	command(t, "ip", "addr", "add", "192.168.10.1/24", "dev", "bridge0")
	command(t, "ip", "link", "set", "bridge0", "up")
	t.Cleanup(func() {
		out := command(t, "ip", "-br", "addr", "show", "bridge0")
		if !strings.Contains(out, "192.168.10.1/24") {
			t.Errorf("the host's own bridge was changed:\n%s", out)
		}
		command(t, "ip", "link", "del", "bridge0")
	})
	h := newHost(t, func(c *Config) { c.Default.Foreign = "bridge0" })
	a := h.attach(t, 1, "bridge")
	if e := a.Endpoints[0]; e.Addr4.String() != "192.168.10.2/24" || e.MAC.String() != "02:42:c0:a8:0a:02" || e.Gateway4.String() != "192.168.10.1" {
		t.Errorf("endpoint %+v", e)
	}
	if !ping(a, "192.168.10.1") {
		t.Error("no way to the gateway")
	}
	h.clean(t)
}

// TestTableFollowsTheBridge: the table is called after the default bridge; under
// another name the former one does not stay, not even where a sandbox is attached.
func TestTableFollowsTheBridge(t *testing.T) {
	h := newHost(t)
	a := h.attach(t, 1, "bridge", tcp(8080, 80))
	for _, bridge := range []string{"second0", DefaultBridge} {
		h.cfg.Default.Bridge = bridge
		h.restart(t)
		want := "table inet " + h.plan.Table + "\ntable bridge " + h.plan.Table + "\n"
		if got := command(t, "nft", "list", "tables"); got != want {
			t.Errorf("default bridge %s: tables\n%swant\n%s", bridge, got, want)
		}
		if !ping(a, "172.17.0.1") {
			t.Errorf("default bridge %s: no way to the gateway", bridge)
		}
		h.clean(t)
	}
}

// TestHairpin: a container reaches a port that it published itself, and its
// neighbour does, whether or not br_netfilter has bridged frames meet the rules.
func TestHairpin(t *testing.T) {
	for _, nf := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+nf, func(t *testing.T) {
			command(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+nf, "net.bridge.bridge-nf-call-ip6tables="+nf)
			h := newHost(t)
			n, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "n", IPv6: true})
			if err != nil {
				t.Fatal(err)
			}
			a, b := h.attach(t, 1, "n", tcp(8080, 80)), h.attach(t, 2, "n")
			server := exec.Command("nsenter", "--net="+a.Sandbox.Path, "busybox", "nc", "-ll", "-p", "80", "-e", "echo", "hello")
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
			for _, from := range []spec.Attachment{b, a} {
				for _, sub := range n.Subnets {
					var out []byte
					for range 20 { // until the server listens
						out, err = exec.Command("nsenter", "--net="+from.Sandbox.Path, "timeout", "2", "busybox", "nc", sub.Gateway.String(), "8080").CombinedOutput()
						if err == nil {
							break
						}
						time.Sleep(20 * time.Millisecond)
					}
					if strings.TrimSpace(string(out)) != "hello" {
						t.Errorf("container %s → %s port 8080: %q, %v", from.Sandbox.Name, sub.Gateway, out, err)
					}
				}
			}
		})
	}
}
