package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
)

// firewall is a firewalld on the site's host, with a bus and a configuration of its
// own.
type firewall struct {
	s       *site
	dir     string
	process *os.Process
	// bus is what it is asked and told by: firewall-cmd, a program in Python, would
	// say the same at a hundred times the cost.
	bus *dbus.Conn
}

// The name of firewalld on the bus, and of its interfaces.
const (
	firewalldName     = "org.fedoraproject.FirewallD1"
	firewalldZones    = firewalldName + ".zone."
	firewalldPolicies = firewalldName + ".policy."
)

// busConfig lets everybody do everything: the bus is the test's own.
const busConfig = `<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`

// newFirewall starts a bus, and readies a firewalld of that back end.
func (s *site) newFirewall(backend string) *firewall {
	s.t.Helper()
	f := &firewall{s: s, dir: s.lab.Dir("firewalld")}
	for file, text := range map[string]string{
		"bus.conf":       fmt.Sprintf(busConfig, filepath.Join(f.dir, "bus")),
		"firewalld.conf": "DefaultZone=public\nCleanupOnExit=yes\nFirewallBackend=" + backend + "\nFlushAllOnReload=yes\n",
	} {
		if err := os.WriteFile(filepath.Join(f.dir, file), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.host.Start("dbus-daemon", "--config-file="+filepath.Join(f.dir, "bus.conf"), "--nofork", "--nopidfile")
	eventually(s.t, "there is a bus", func() (there bool) {
		var err error
		f.bus, err = dbus.Connect("unix:path=" + filepath.Join(f.dir, "bus"))
		return err == nil
	})
	if f.bus == nil {
		s.t.FailNow()
	}
	s.t.Cleanup(func() { _ = f.bus.Close() })
	return f
}

// env is what a program needs to find the bus.
func (f *firewall) env() string {
	return "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + filepath.Join(f.dir, "bus")
}

func (f *firewall) start() {
	f.s.t.Helper()
	f.process = f.s.host.Start("env", f.env(), "firewalld", "--nofork", "--nopid", "--system-config", f.dir,
		"--log-target", "file", "--log-file", filepath.Join(f.dir, "log"))
	eventually(f.s.t, "firewalld runs", f.running)
}

func (f *firewall) stop() {
	f.s.t.Helper()
	_ = f.process.Signal(syscall.SIGTERM)
	eventually(f.s.t, "firewalld has ended", func() bool {
		var there bool
		err := f.bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, firewalldName).Store(&there)
		return err == nil && !there
	})
}

func (f *firewall) running() bool {
	state, err := f.bus.Object(firewalldName, "/org/fedoraproject/FirewallD1").GetProperty(firewalldName + ".state")
	return err == nil && state.Value() == "RUNNING"
}

// call calls a method of firewalld's, and stores its answer in each of into.
func (f *firewall) call(method string, args []any, into ...any) {
	f.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.bus.Object(firewalldName, "/org/fedoraproject/FirewallD1").CallWithContext(ctx, method, 0, args...).Store(into...); err != nil {
		f.s.t.Fatalf("firewalld: %s: %v", method, err)
	}
}

// reload is firewall-cmd --reload, or --complete-reload.
func (f *firewall) reload(complete bool) {
	f.s.t.Helper()
	method := firewalldName + ".reload"
	if complete {
		method = firewalldName + ".completeReload"
	}
	f.call(method, nil)
}

// bridges are the interfaces in the zone that we make.
func (f *firewall) bridges() (names []string) {
	f.s.t.Helper()
	f.call(firewalldZones+"getInterfaces", []any{"fairlead"}, &names)
	return names
}

// zones are all zones, with all that is in each.
func (f *firewall) zones() string {
	f.s.t.Helper()
	var names []string
	f.call(firewalldZones+"getZones", nil, &names)
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		var settings map[string]dbus.Variant
		f.call(firewalldZones+"getZoneSettings2", []any{name}, &settings)
		fmt.Fprintln(&out, name, settings)
	}
	return out.String()
}

// rules are all rules on the host, without counters, in the order of their text: a
// firewall that is loaded anew may order its chains otherwise.
func (s *site) rules() string {
	s.t.Helper()
	var lines []string
	for _, line := range []string{"nft --stateless list ruleset", "iptables-legacy-save", "ip6tables-legacy-save"} {
		if strings.HasPrefix(line, "ip") {
			// To look would bring legacy tables into use.
			if names := s.host.Run("cat", "/proc/net/"+strings.Replace(strings.Fields(line)[0], "tables-legacy-save", "_tables_names", 1)); names == "" {
				continue
			}
		}
		command := words(line)
		for l := range strings.Lines(s.host.Run(command[0], command[1:]...)) {
			if !strings.HasPrefix(l, "#") {
				lines = append(lines, counters.ReplaceAllString(l, ""))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestFirewalld: with firewalld running, containers reach outside, and their
// published ports are reached, whichever started first and however often firewalld
// reloads or is started again; what is not published stays closed, and so does the
// host. Teardown leaves firewalld as it was. Each back end of ours meets one of
// firewalld's and one order; in make attack all meet all.
func TestFirewalld(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for i, theirs := range backends {
			for j, first := range []bool{true, false} {
				if !chosen(slices.Index(backends, backend), i, j) {
					continue
				}
				t.Run(fmt.Sprintf("%s, first %v", theirs, first), func(t *testing.T) {
					t.Parallel()
					testFirewalld(t, backend, theirs, first)
				})
			}
		}
	})
}

func testFirewalld(t *testing.T, backend, theirs string, first bool) {
	s := newHosts(t)
	// What firewalld leaves when it ends: empty tables of iptables, say.
	s.host.Expect("table inet firewalld", "table ip", "table bridge nat", "table bridge filter")
	f := s.newFirewall(theirs)
	var before, zones string
	look := func() { before, zones = s.rules(), f.zones() }
	if first {
		f.start()
		look()
	}
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Firewall: backend, Env: []string{f.env()}})
	s.Start()
	s.importImage("demo")
	if !first {
		f.start()
	}
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	s.outside.Run("ip", "route", "add", "10.30.0.0/24", "via", host4)
	s.outside.Run("ip", "route", "add", "fd00:30::/64", "via", host6)
	web := s.idle("--network", "dual", "-p", "8080:80")
	for _, any := range []string{"0.0.0.0", "[::]"} {
		web.serve("tcp", any+":80")
		web.serve("tcp", any+":81")
		s.host.Listen("tcp", any+":2222")
	}
	dual := s.pair("dual")
	works := func(after string) {
		t.Helper()
		dual.everyWay("10.30.0.1", "fd00:30::1")
		for _, loopback := range []string{"127.0.0.1", "::1"} {
			lab.Reachable(t, s.host, "tcp", at(loopback, "8080"))
		}
		barred(t,
			[2]lab.Probe{from(s.outside, "tcp", at(web.addr4, "81")), from(s.host, "tcp", at(web.addr4, "81"))},
			[2]lab.Probe{from(s.outside, "tcp", at(web.addr6, "81")), from(s.host, "tcp", at(web.addr6, "81"))},
			[2]lab.Probe{from(s.outside, "tcp", at(host4, "2222")), from(s.host, "tcp", at(host4, "2222"))},
			[2]lab.Probe{from(s.outside, "tcp", at(host6, "2222")), from(s.host, "tcp", at(host6, "2222"))},
		)
		if t.Failed() {
			t.Fatalf("so it is after: %s\n%s\n%s", after, s.rules(), f.zones())
		}
	}
	works("start")
	s.everyWay("bridge", "172.17.0.1", "")
	f.reload(false)
	works("--reload")
	again := 1
	if full() {
		again = 3
	}
	for range again {
		f.reload(true)
		f.reload(false)
	}
	works("more of them")
	s.Must("network", "create", "--subnet", "10.31.0.0/24", "later")
	s.everyWay("later", "10.31.0.1", "")
	s.Must("network", "rm", "later")
	if bridges := f.bridges(); len(bridges) != 2 {
		t.Errorf("zone fairlead has %q, wanted two bridges", bridges)
	}
	f.stop()
	f.start()
	works("another start of firewalld")
	s.Kill()
	f.reload(false)
	s.Start()
	works("a reload while no daemon ran")
	s.consistent()
	s.Teardown()
	var policies []string
	f.call(firewalldPolicies+"getPolicies", nil, &policies)
	if got := f.zones(); strings.Contains(got, "fairlead") || slices.ContainsFunc(policies, func(p string) bool { return strings.Contains(p, "fairlead") }) {
		t.Errorf("after teardown there are %s and the policies %q", got, policies)
	}
	for _, left := range []string{"zones/fairlead.xml", "policies/fairlead-forward.xml"} {
		if _, err := os.Stat(filepath.Join(f.dir, left)); err == nil {
			t.Errorf("after teardown %s is left", left)
		}
	}
	if after := s.rules(); before != "" && after != before || strings.Contains(after, "fairlead") {
		t.Errorf("the rules before (-) and after:\n%s", cmp.Diff(before, after))
	}
	if after := f.zones(); zones != "" && after != zones {
		t.Errorf("firewalld's zones before and after:\n%s\n%s", zones, after)
	}
	f.stop()
}
