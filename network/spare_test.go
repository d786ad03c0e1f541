package network

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/network/spec"
)

// ready has sandboxes be kept ready, waits for so many, and gives their links.
func (h *host) ready(tb testing.TB, n int) []string {
	tb.Helper()
	h.stockSpares()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		h.spares.mu.Lock()
		var links []string
		for _, one := range h.spares.ready {
			links = append(links, one.sb.spare)
		}
		making := h.spares.making
		h.spares.mu.Unlock()
		if len(links) == n && !making {
			return links
		}
		if time.Now().After(end) {
			tb.Fatalf("%d sandboxes are ready, want %d", len(links), n)
		}
	}
}

// TestSpares: a sandbox kept ready becomes the one that is asked for where it fits, and
// is no different from one made then; nobody takes it for a stray.
func TestSpares(t *testing.T) {
	h := newHost(t, func(c *Config) { c.Spares = 2 })
	h.network(t, spec.NetworkRequest{Name: "dual", IPv6: true, Options: map[string]string{"com.docker.network.driver.mtu": "1400"}})
	var attached []spec.Attachment
	for i, network := range []string{"bridge", "dual", "dual"} {
		links := h.ready(t, 2)
		a := h.attach(t, i+1, network, tcp(0, 80))
		if got := a.Endpoints[0].HostIf; !strings.Contains(strings.Join(links, " "), got) {
			t.Errorf("%s was made anew although %s were ready", got, links)
		}
		attached = append(attached, a)
	}
	h.ready(t, 2)
	h.clean(t)
	one, dual, other := attached[0], attached[1], attached[2]
	if !ping(one, one.Endpoints[0].Gateway4.String()) || !ping(dual, other.Endpoints[0].Addr4.Addr().String()) || !ping(dual, other.Endpoints[0].Addr6.Addr().String()) {
		t.Error("no answer by a sandbox that was ready")
	}
	if ping(one, dual.Endpoints[0].Addr4.Addr().String()) {
		t.Error("networks are not isolated")
	}
	// What was made anew and what was ready are the same to the next start, too.
	h.restart(t)
	h.clean(t)
	for _, a := range attached {
		h.same(t, a)
	}
}

// TestSparesThatDoNotFit: who asks for what no spare is gets one made, and the spare stays.
func TestSparesThatDoNotFit(t *testing.T) {
	h := newHost(t, func(c *Config) { c.Spares = 1 })
	h.network(t, spec.NetworkRequest{Name: "front"})
	was := h.ready(t, 1)[0]
	named := attachRequest(1, "front")
	named.Endpoints[0].Interface = "lan0"
	two := attachRequest(2, "front")
	two.Endpoints = append(two.Endpoints, spec.EndpointRequest{Network: "bridge"})
	tuned := attachRequest(4, "front")
	tuned.Sysctls = map[string]string{"net.ipv6.conf.default.hop_limit": "77"}
	for _, req := range []spec.AttachRequest{named, two, tuned} {
		if _, err := h.Attach(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := h.Attachment(tuned.ID)
	if got := command(t, "nsenter", "--net="+a.Sandbox.Path, "cat", "/proc/sys/net/ipv6/conf/eth0/hop_limit"); got != "77\n" {
		t.Errorf("eth0 has hop_limit %q, and the default was to be 77 before it was there", got)
	}
	refused := attachRequest(3, "front")
	refused.Endpoints[0].Network = "nowhere"
	if _, err := h.Attach(t.Context(), refused); err == nil {
		t.Fatal("attached to a network that is not there")
	}
	if now := h.ready(t, 1)[0]; now != was {
		t.Errorf("%s is ready, it was %s", now, was)
	}
	h.clean(t)
}

// TestSparesChangedByOthers: what somebody has done to a spare's link meanwhile is no
// matter to who gets the sandbox.
func TestSparesChangedByOthers(t *testing.T) {
	h := newHost(t, func(c *Config) { c.Spares = 1 })
	h.network(t, spec.NetworkRequest{Name: "dual", IPv6: true})
	elsewhere := h.attach(t, 1, "bridge").Sandbox.Path
	command(t, "ip", "link", "add", "other", "type", "bridge")
	for i, args := range []string{
		"del SPARE", "set SPARE name mine0", "set SPARE netns " + elsewhere,
		"set SPARE up address 02:00:00:00:00:77 mtu 1300 master other",
	} {
		args = strings.ReplaceAll(args, "SPARE", h.ready(t, 1)[0])
		command(t, "ip", append([]string{"link"}, strings.Fields(args)...)...)
		a, err := h.Attach(t.Context(), attachRequest(i+2, "dual"))
		if err != nil {
			t.Errorf("after ip link %s: %v", args, err)
			continue
		}
		if e := a.Endpoints[0]; !ping(a, e.Gateway4.String()) || !ping(a, e.Gateway6.String()) {
			t.Errorf("after ip link %s: no way to the gateway", args)
		}
	}
	h.clean(t)
}

// TestSparesRetire: they are let go when nobody has attached for a while, and made again
// for who does.
func TestSparesRetire(t *testing.T) {
	h := newHost(t, func(c *Config) { c.Spares = 2 })
	if err := h.Detach(t.Context(), h.attach(t, 1, "bridge").Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	links := h.ready(t, 2)
	h.retireSpares()
	if now := h.ready(t, 2); !slices.Equal(now, links) {
		t.Errorf("%s went while somebody might come", links)
	}
	h.spares.mu.Lock()
	h.spares.last = time.Now().Add(-spareLife)
	h.spares.mu.Unlock()
	h.retireSpares()
	for end := time.Now().Add(10 * time.Second); strings.Contains(command(t, "ip", "-br", "link"), "veth"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("some are left:\n%s", command(t, "ip", "link"))
		}
	}
	h.clean(t)
	h.attach(t, 1, "bridge")
	h.ready(t, 2)
	h.clean(t)
}

// TestSparesEnd: they are gone with the process, and with a teardown at once.
func TestSparesEnd(t *testing.T) {
	h := emptyHost(t, func(c *Config) { c.Spares = 2 })
	h.start(t)
	links := h.ready(t, 2)
	if err := errors.Join(h.Teardown(context.Background()), h.Close(), h.store.Close(), h.relay.firewall.Close()); err != nil {
		t.Fatal(err)
	}
	left := command(t, "ip", "-br", "link")
	for _, l := range links {
		if strings.Contains(left, l) {
			t.Errorf("%s is left:\n%s", l, left)
		}
	}
}
