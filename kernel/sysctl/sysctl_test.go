package sysctl_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

func TestPath(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":               "/proc/sys/net/ipv4/ip_forward",
		"net/ipv4/ip_forward":               "/proc/sys/net/ipv4/ip_forward",
		"net/ipv4/conf/eth0.1/forwarding":   "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
		"net.ipv4.conf.eth0/1.forwarding":   "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
		"net/../kernel/hostname":            "",
		"net.ipv4.conf.//.forwarding":       "",
		"net.ipv4.conf./../hostname":        "",
		"../etc/passwd":                     "",
		"/etc/passwd":                       "",
		"net..ipv4":                         "",
		"net.ipv4.":                         "",
		"":                                  "",
		"net.ipv4.ip_forward\nkernel.panic": "",
	} {
		got, err := sysctl.Path(key)
		if got != want || (want == "") != errdefs.IsInvalidArgument(err) {
			t.Errorf("Path(%q) = %q, %v; want %q", key, got, err, want)
		}
	}
}

// namespace is a throw-away namespace with a link br.1 in it.
func namespace(t *testing.T) *os.File {
	t.Helper()
	base, err := os.MkdirTemp("", "fl-sysctl-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := errors.Join(netns.RemoveDir(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	if err := netns.New(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.CreateBridge(link.Bridge{Name: "br.1"}), h.Close()); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestSet(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	outside, err := sysctl.Get("net.ipv4.ip_default_ttl")
	if err != nil {
		t.Fatal(err)
	}
	if err := sysctl.SetIn(ns, map[string]string{
		"net.ipv4.ip_default_ttl":           "33",
		"net/ipv6/conf/br.1/accept_ra":      "0",
		"net.ipv4.conf.br/1.route_localnet": "1",
		"net.ipv4.route.flush":              "1",
	}); err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(ns, func() error {
		for key, want := range map[string]string{
			"net.ipv4.ip_default_ttl":           "33",
			"net.ipv6.conf.br/1.accept_ra":      "0",
			"net/ipv4/conf/br.1/route_localnet": "1",
		} {
			if got, err := sysctl.Get(key); got != want || err != nil {
				t.Errorf("%s = %q, %v; want %q", key, got, err, want)
			}
		}
		for range 2 {
			if old, err := sysctl.Set("net.ipv4.ip_default_ttl", "33"); old != "33" || err != nil {
				t.Errorf("Set returned %q, %v", old, err)
			}
		}
		if old, err := sysctl.Set("net.ipv4.ip_default_ttl", "44"); old != "33" || err != nil {
			t.Errorf("Set returned %q, %v", old, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got, _ := sysctl.Get("net.ipv4.ip_default_ttl"); got != outside {
		t.Errorf("outside the value became %s, was %s", got, outside)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for what, c := range map[string]struct {
		key, value string
		want       func(error) bool
	}{
		"absent":      {"net.ipv4.nothing", "1", errdefs.IsNotFound},
		"bad value":   {"net.ipv4.ip_default_ttl", "many", errdefs.IsInvalidArgument},
		"two lines":   {"net.ipv4.ip_default_ttl", "1\n2", errdefs.IsInvalidArgument},
		"a directory": {"net.ipv4", "1", errdefs.IsInvalidArgument},
	} {
		if err := sysctl.SetIn(ns, map[string]string{c.key: c.value}); !c.want(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := sysctl.SetIn(ns, nil); err != nil {
		t.Error(err)
	}
}
