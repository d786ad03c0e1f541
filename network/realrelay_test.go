package network

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// realRelay serves a relay of its own in this process, with what the fake does for
// the rest.
type realRelay struct {
	*relay.Client
	stop func()
}

func startRelay(tb testing.TB, root string) *realRelay {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- relay.Serve(ctx, relay.ServeOptions{ExecRoot: root, Logger: slog.New(slog.DiscardHandler)})
	}()
	var c *relay.Client
	var err error
	for range 200 {
		if c, err = relay.Dial(tb.Context(), root); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return &realRelay{c, func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		_ = c.Close()
	}}
}

// resolverHost is a host whose relay is a real one, with two networks.
func resolverHost(tb testing.TB, change ...func(*Config)) (*host, *realRelay) {
	tb.Helper()
	h := emptyHost(tb, change...)
	r := startRelay(tb, h.cfg.ExecRoot)
	tb.Cleanup(func() { r.stop() })
	h.cfg.Relay = r
	var err error
	if h.relay.firewall, err = os.Open(os.DevNull); err != nil { // which the fake does not keep
		tb.Fatal(err)
	}
	h.cfg.ResolvConf = filepath.Join(h.dir, "resolv.conf")
	if err := os.WriteFile(h.cfg.ResolvConf, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	h.start(tb)
	tb.Cleanup(func() { h.teardown(tb) })
	for _, n := range []spec.NetworkRequest{{Name: "front", IPv6: true}, {Name: "back", Internal: true}} {
		if _, err := h.CreateNetwork(tb.Context(), n); err != nil {
			tb.Fatal(err)
		}
	}
	return h, r
}

// lookup asks the resolver of the sandbox, by udp or tcp.
func lookup(tb testing.TB, a spec.Attachment, proto, name string, qtype uint16) *wire.Msg {
	tb.Helper()
	m, err := tryLookup(a, proto, dns.Address.String(), name, qtype)
	if err != nil {
		tb.Fatalf("%s %s by %s: %v", name, wire.TypeToString[qtype], proto, err)
	}
	return m
}

func tryLookup(a spec.Attachment, proto, server, name string, qtype uint16) (*wire.Msg, error) {
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = netns.Do(ns, func() error {
		conn, err = net.DialTimeout(proto, server, 2*time.Second)
		return err
	})
	if err = errors.Join(err, ns.Close()); err != nil {
		return nil, err
	}
	defer conn.Close()
	q := new(wire.Msg).SetQuestion(wire.Fqdn(name), qtype)
	m, _, err := (&wire.Client{Net: proto, Timeout: 6 * time.Second}).ExchangeWithConn(q, &wire.Conn{Conn: conn})
	return m, err
}

// said is what an answer says, in order.
func said(m *wire.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(append(out, wire.RcodeToString[m.Rcode]), " ")
}

func attachNamed(tb testing.TB, h *host, id int, dnsOf spec.DNS, endpoints ...spec.EndpointRequest) spec.Attachment {
	tb.Helper()
	req := attachRequest(id, "")
	req.Endpoints, req.DNS = endpoints, dnsOf
	a, err := h.Attach(tb.Context(), req)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}
