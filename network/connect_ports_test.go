package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// serve runs a TCP server in the sandbox that echoes, until the test ends.
func serve(t *testing.T, a spec.Attachment, port string) {
	t.Helper()
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var l net.Listener
	if err := netns.Do(ns, func() error {
		l, err = net.Listen("tcp", ":"+port)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
}

// outside is another machine on the host's network, as a namespace.
func outside(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outside")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command(t, "ip", "link", "del", "uplink0")
		if err := netns.RemoveDir(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	})
	command(t, "sh", "-c", "ip link add uplink0 type veth peer name eth0 netns "+path+
		" && ip addr add 10.77.0.1/24 dev uplink0 && ip addr add fd77::1/64 dev uplink0 nodad && ip link set uplink0 up"+
		" && nsenter --net="+path+" sh -c 'ip addr add 10.77.0.2/24 dev eth0 && ip addr add fd77::2/64 dev eth0 nodad && ip link set eth0 up && ip link set lo up'")
	f, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// dialFrom allows for a second question about a neighbour, which comes after a second.
func dialFrom(ns *os.File, addr string) (net.Conn, error) {
	return dialWithin(ns, addr, 3*time.Second)
}

func dialWithin(ns *os.File, addr string, limit time.Duration) (c net.Conn, err error) {
	nsErr := netns.Do(ns, func() error {
		c, err = net.DialTimeout("tcp", addr, limit)
		return nil
	})
	return c, errors.Join(err, nsErr)
}

func echo(c net.Conn, word string) error {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != word {
		return fmt.Errorf("got %q: %w", b, err)
	}
	return nil
}

// TestPublishedPortsMove: host ports stay, lead to the endpoint that has the way out,
// and a connection from outside goes on.
func TestPublishedPortsMove(t *testing.T) {
	h := newHost(t)
	far := outside(t)
	h.network(t, spec.NetworkRequest{Name: "second", IPv6: true})
	a := h.attach(t, 1, "bridge", tcp(8080, 80), tcp(0, 443), spec.PortRequest{Proto: spec.UDP, HostPort: 5000, Port: 53})
	serve(t, a, "80")
	live, err := dialFrom(far, "10.77.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	works := func(what string, b spec.Attachment, v6 bool) {
		t.Helper()
		if err := echo(live, what); err != nil {
			t.Errorf("%s: the connection that was there: %v", what, err)
		}
		hosts := []string{"10.77.0.1:8080"}
		if v6 {
			hosts = append(hosts, "[fd77::1]:8080")
		}
		for _, addr := range hosts {
			c, err := dialFrom(far, addr)
			if err != nil {
				t.Errorf("%s: %s: %v", what, addr, err)
				continue
			}
			if err := echo(c, "hello"); err != nil {
				t.Errorf("%s: %s: %v", what, addr, err)
			}
			_ = c.Close()
		}
		for i, p := range b.Ports {
			if p.Proto != a.Ports[i].Proto || p.Host != a.Ports[i].Host || p.Container.Port() != a.Ports[i].Container.Port() {
				t.Errorf("%s: port %d is %s, was %s", what, i, p, a.Ports[i])
			}
		}
		h.clean(t) // which compares where the relay's ports lead
	}
	works("at first", a, false)
	b := h.connect(t, a, spec.EndpointRequest{Network: "second", GwPriority: 5})
	if b.Ports[0].Container.Addr() != b.Endpoints[1].Addr4.Addr() || b.Ports[1].Container.Addr() != b.Endpoints[1].Addr6.Addr() {
		t.Errorf("ports lead to %v, the endpoint is %+v", b.Ports, b.Endpoints[1])
	}
	works("connected", b, true)
	h.restart(t)
	works("after a restart", b, true)
	works("disconnected", h.disconnect(t, a, "second"), false)
	none := h.disconnect(t, a, "bridge")
	if len(none.Ports) != 0 || len(none.Requests) != 3 {
		t.Errorf("on no network: %v, %v", none.Ports, none.Requests)
	}
	h.clean(t)
	if held, _ := h.relay.List(t.Context()); len(held) > 0 {
		t.Errorf("ports are still held: %v", held)
	}
	again := h.connect(t, a, spec.EndpointRequest{Network: "second"})
	if c, err := dialFrom(far, "10.77.0.1:8080"); err != nil || echo(c, "x") != nil {
		t.Errorf("published again as %v: %v", again.Ports, err)
	}
	h.clean(t)
}
