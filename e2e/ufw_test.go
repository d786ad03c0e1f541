package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
)

// ufw runs the site's ufw, which has a configuration of its own.
func (s *site) ufw(args ...string) string {
	s.t.Helper()
	root := s.lab.Dir("ufw")
	return s.host.Run("ufw", append([]string{"--rootdir=" + root, "--datadir=" + root}, args...)...)
}

// newUFW readies a ufw that drops, or rejects, what is forwarded, and leaves sysctls
// alone.
func (s *site) newUFW(forward string) {
	s.t.Helper()
	root := s.lab.Dir("ufw")
	for _, dir := range []string{"etc", "etc/default", "lib", "run", "usr/share"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"/etc/ufw": "etc/ufw", "/usr/lib/ufw": "lib/ufw", "/usr/share/ufw": "usr/share/ufw"} {
		s.host.Run("cp", "-a", from, filepath.Join(root, to))
	}
	settings := "IPV6=yes\nDEFAULT_INPUT_POLICY=DROP\nDEFAULT_OUTPUT_POLICY=ACCEPT\nDEFAULT_FORWARD_POLICY=" + forward +
		"\nDEFAULT_APPLICATION_POLICY=SKIP\nMANAGE_BUILTINS=no\nIPT_SYSCTL=\nIPT_MODULES=\n"
	if err := os.WriteFile(filepath.Join(root, "etc/default/ufw"), []byte(settings), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// TestUFW: with ufw denying what comes in and what is forwarded, containers reach
// outside and their published ports are reached, whichever started first and however
// often ufw is reloaded, stopped and started. What ufw is for stays so: nobody gets
// at the host's own ports, nor at those that the userland proxy alone serves, until
// ufw is told to allow it.
func TestUFW(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for i, forward := range []string{"DROP", "REJECT"} {
			for j, when := range []string{"first", "later"} {
				if !chosen(slices.Index(backends, backend), i, j) {
					continue
				}
				t.Run(forward+" "+when, func(t *testing.T) {
					t.Parallel()
					testUFW(t, backend, forward, when == "first")
				})
			}
		}
	})
}

func testUFW(t *testing.T, backend, forward string, first bool) {
	s := newHosts(t)
	s.newUFW(forward)
	var before string
	if first {
		s.ufw("--force", "enable")
		s.ufw("allow", "9090/tcp") // it makes rules that stay
		s.ufw("delete", "allow", "9090/tcp")
		s.ufw("reload")
		before = s.rules()
	} else {
		s.host.Expect("table ip") // ufw leaves its chains when it ends
	}
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Firewall: backend})
	s.importImage("demo")
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	s.outside.Run("ip", "route", "add", "10.30.0.0/24", "via", host4)
	s.outside.Run("ip", "route", "add", "fd00:30::/64", "via", host6)
	web, peer := s.idle("--network", "dual", "-p", "8080:80"), s.idle("--network", "dual")
	plain := s.idle("-p", "9090:80")
	for _, any := range []string{"0.0.0.0", "[::]"} {
		web.serve("tcp", any+":80")
		web.serve("tcp", any+":81")
		s.host.Listen("tcp", any+":2222")
		s.outside.Listen("tcp", any+":80")
	}
	plain.serve("tcp", "0.0.0.0:80")
	if !first {
		s.ufw("--force", "enable")
	}
	works := func(after string) {
		t.Helper()
		for _, addr := range []string{outside4, outside6} {
			lab.Reachable(t, web.Host, "tcp", at(addr, "80"))
			lab.Reachable(t, web.Host, "icmp", addr)
		}
		lab.Reachable(t, plain.Host, "tcp", at(outside4, "80"))
		web.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		web.sees(s.outside, "tcp", at(host6, "8080"), outside6)
		web.sees(peer.Host, "tcp", at(web.addr4, "80"), peer.addr4)
		web.sees(peer.Host, "tcp", at(web.addr6, "80"), peer.addr6)
		plain.sees(s.outside, "tcp", at(host4, "9090"), outside4)
		if backend == nftables {
			// With iptables the proxy serves this, as Docker's does: it is for ufw
			// to allow.
			lab.Reachable(t, plain.Host, "tcp", at(host4, "8080"))
		}
		for _, addr := range []string{host4, host6, "127.0.0.1", "::1"} {
			lab.Reachable(t, s.host, "tcp", at(addr, "8080"))
		}
		barred(t,
			[2]lab.Probe{from(s.outside, "tcp", at(web.addr4, "81")), from(s.host, "tcp", at(web.addr4, "81"))},
			[2]lab.Probe{from(s.outside, "tcp", at(web.addr6, "81")), from(s.host, "tcp", at(web.addr6, "81"))},
			[2]lab.Probe{from(s.outside, "tcp", at(host4, "2222")), from(s.host, "tcp", at(host4, "2222"))},
			[2]lab.Probe{from(web.Host, "tcp", at("10.30.0.1", "2222")), from(s.host, "tcp", at("10.30.0.1", "2222"))},
			[2]lab.Probe{from(web.Host, "tcp", at("fd00:30::1", "2222")), from(s.host, "tcp", at("fd00:30::1", "2222"))},
			// Of an IPv4 network: the proxy alone serves it by IPv6.
			[2]lab.Probe{from(s.outside, "tcp", at(host6, "9090")), from(s.host, "tcp", at(host6, "9090"))},
		)
		if t.Failed() {
			t.Fatalf("so it is after: %s\n%s", after, s.rules())
		}
	}
	works("start")
	s.ufw("reload")
	works("reload")
	s.ufw("disable")
	s.ufw("--force", "enable")
	works("disable and enable")
	s.ufw("allow", "9090/tcp")
	lab.Reachable(t, s.outside, "tcp", at(host6, "9090"))
	s.ufw("delete", "allow", "9090/tcp")
	s.Kill()
	s.ufw("reload")
	s.Start()
	works("a reload while no daemon ran")
	s.consistent()
	s.Teardown()
	if after := s.rules(); first && after != before || strings.Contains(after, "fairlead") || strings.Contains(after, "DOCKER") {
		t.Errorf("the rules before (-) and after:\n%s", cmp.Diff(before, after))
	}
}
