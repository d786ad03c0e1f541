package relay

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

// Bindings come out of groups as they went in, in the order that is told, and take few
// bytes.
func TestGroups(t *testing.T) {
	t.Parallel()
	four, six := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	backend := netip.MustParseAddr("172.17.0.2")
	binding := func(owner, proto string, host netip.Addr, port, inside uint16, proxy bool) Binding {
		return Binding{Owner: owner, Proto: proto, Host: netip.AddrPortFrom(host, port), Backend: netip.AddrPortFrom(backend, inside), Proxy: proxy}
	}
	for what, in := range map[string][]Binding{
		"none": nil,
		"families in turns": {
			binding("a", "tcp", four, 8080, 80, true), binding("a", "tcp", six, 8080, 80, true),
			binding("a", "tcp", four, 65535, 1, true), binding("a", "tcp", six, 65535, 1, true),
		},
		"nothing alike": {
			binding("a", "tcp", four, 1, 2, true), binding("a", "udp", four, 1, 2, true), binding("b", "tcp", four, 3, 2, true),
			binding("a", "tcp", four, 4, 2, false), binding("a", "tcp", backend, 1, 2, true),
		},
		"no backend": {{Owner: "a", Proto: "tcp", Host: netip.AddrPortFrom(four, 80)}},
		"a zone":     {{Owner: "a", Proto: "tcp", Host: netip.MustParseAddrPort("[fe80::1%eth0]:80")}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			groups, order := grouped(in)
			wire, err := json.Marshal(groups)
			if err != nil {
				t.Fatal(err)
			}
			var back []group
			if err := json.Unmarshal(wire, &back); err != nil {
				t.Fatal(err)
			}
			out, err := ungrouped(back)
			if err != nil || len(out) != len(in) || len(order) != len(in) {
				t.Fatalf("%d bindings and %d places of %d, %v", len(out), len(order), len(in), err)
			}
			for i, at := range order {
				if out[i] != in[at] {
					t.Errorf("%d: %s to %s, want %s to %s", i, out[i], out[i].Backend, in[at], in[at].Backend)
				}
			}
		})
	}
	var many []Binding
	for port := uint16(1); port <= 10000; port++ {
		many = append(many, binding("a", "tcp", four, port, port, true), binding("a", "tcp", six, port, port, true))
	}
	groups, _ := grouped(many)
	if wire, err := json.Marshal(groups); err != nil || len(groups) != 2 || len(wire) > 6*len(many) {
		t.Errorf("%d bindings are %d groups of %d bytes, %v", len(many), len(groups), len(wire), err)
	}
	if _, err := ungrouped([]group{{Ports: []byte{1, 2, 3}}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("ports cut short: %v", err)
	}
}

// Of ports that are held at once, in no order, each leads where it is to lead.
func TestHoldOfSeveral(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	var bindings []Binding
	for i, ip := range []string{"127.0.0.1", "::1", "127.0.0.1", "127.0.0.2", "::1"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write([]byte{byte('0' + i)})
				_ = conn.Close()
			}
		}()
		host, f := bind(t, "tcp", ip)
		t.Cleanup(func() { _ = f.Close() })
		bindings = append(bindings, Binding{
			Owner: "a", Proto: "tcp", Host: host, Backend: l.Addr().(*net.TCPAddr).AddrPort(), Proxy: true, File: f,
		})
	}
	if err := c.Hold(t.Context(), bindings); err != nil {
		t.Fatal(err)
	}
	for i, b := range bindings {
		if got, err := io.ReadAll(dial(t, "tcp", b.Host)); err != nil || string(got) != string(rune('0'+i)) {
			t.Errorf("%s leads to %q, %v, want %d", b, got, err, i)
		}
	}
}
