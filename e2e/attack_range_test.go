package e2e

import (
	"os"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// fullMatrix, in the environment, runs attacks and faults in every form that there
// is: by every back end and at every moment (make attack, make faults). Else they run
// on the default back end, after the start and after a flush; what is beside another
// firewall runs on one of the back ends (chosen).
const fullMatrix = "FAIRLEAD_FULL_MATRIX"

func full() bool { return os.Getenv(fullMatrix) != "" }

// The addresses of an attack range that a site does not have.
const (
	lan4, lan6       = outside4, outside6
	router4, router6 = "192.0.2.254", "2001:db8::ffff"
	far4, far6       = "198.51.100.2", "2001:db8:f::2"
	// abroad is on the wire of the host's second uplink.
	uplinkTwo4, uplinkTwo6 = "203.0.113.1", "2001:db8:2::1"
	abroad4, abroad6       = "203.0.113.2", "2001:db8:2::2"
)

// The subnets of an attack range's networks.
const (
	subnetA4, subnetA6 = "10.101.0.0/24", "fd00:a::/64"
	subnetB4, subnetB6 = "10.102.0.0/24", "fd00:b::/64"
	subnetI4, subnetI6 = "10.103.0.0/24", "fd00:c::/64"
)

// attackRange is a site with everybody who attacks, and whom they attack. Networks A
// and B are bridges with IPv4 and IPv6, I is internal. The containers have Docker's
// default capabilities: what the test sends from their namespaces past their sockets
// (lab.Host.SendFrame) stands for what they can send with CAP_NET_RAW.
//
// a1 publishes 8080 everywhere, 8081 on loopback and 8082 on the host's second
// address, each to its port 80, and serves 80 and, unpublished, 81. The others serve
// both ports too, and publish none.
type attackRange struct {
	*site
	backend string
	// moment is when the attack is tried, for messages.
	moment string
	// lan is on the host's segment, and knows a way to all networks by the host; far is
	// behind a router on that segment, which the host knows a way to; abroad is on the
	// host's second uplink.
	lan, router, far, abroad *lab.Host
	a1, a2, b1, i1           box
}

// attacked sets a range up on each back end that is to be tried and calls try at each
// moment: after the start, after a restart of the daemon, after a flush of the whole
// packet filter, and while other containers and networks come and go. prepare may be
// nil; it sees the range once, before the first try.
func attacked(t *testing.T, daemonArgs []string, prepare, try func(t *testing.T, r *attackRange)) {
	t.Helper()
	run := func(t *testing.T, backend string) {
		r := newAttackRange(t, backend, daemonArgs...)
		if prepare != nil {
			prepare(t, r)
		}
		r.everyMoment(func() { try(t, r) })
	}
	if full() {
		forBackends(t, run)
		return
	}
	t.Parallel()
	run(t, nftables)
}

// attackedWith is attacked for who needs what prepare made of the range.
func attackedWith[T any](t *testing.T, daemonArgs []string, prepare func(t *testing.T, r *attackRange) T, try func(t *testing.T, r *attackRange, made T)) {
	t.Helper()
	var all sync.Map // by range, of which there is one for each back end
	attacked(t, daemonArgs, func(t *testing.T, r *attackRange) { all.Store(r, prepare(t, r)) }, func(t *testing.T, r *attackRange) {
		made, _ := all.Load(r)
		try(t, r, made.(T))
	})
}

// Two of the moments.
const (
	atFirst = "after the start"
	amid    = "amid others' coming and going"
)

// everyMoment calls try at each moment, and ends the test after the first at which it
// failed.
func (r *attackRange) everyMoment(try func()) {
	r.t.Helper()
	at := func(moment string) {
		r.t.Helper()
		r.moment = moment
		if try(); r.t.Failed() {
			r.t.Fatalf("so it is %s, by %s\n%s", moment, r.backend, r.rules())
		}
	}
	at(atFirst)
	if full() {
		r.Restart()
		at("after a restart")
	}
	r.flush()
	at("after a flush")
	if full() {
		stop := r.churn()
		at(amid)
		stop()
	}
	r.consistent()
}

// flush takes away every rule of the packet filter that another program can, and
// waits until all is as it should be.
func (r *attackRange) flush() {
	r.t.Helper()
	r.host.Run("nft", "flush", "ruleset")
	eventually(r.t, "the rules are whole after a flush", func() bool {
		out, _, code := r.CLI("debug", "check")
		return code == 0 && out == ""
	})
}

// churn has containers and networks come and go until stop is called.
func (r *attackRange) churn() (stop func()) {
	r.t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	again := func(commands ...[]string) {
		wg.Go(func() {
			for {
				for _, c := range commands {
					if out, stderr, code := r.CLI(c...); code != 0 {
						r.t.Errorf("%v: exit status %d\n%s%s", c, code, out, stderr)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	again([]string{"run", "--rm", "--network", "A", "-p", "0.0.0.0::80", "demo", "true"})
	again([]string{"network", "create", "--ipv6", "passing"}, []string{"network", "rm", "passing"})
	return func() { close(done); wg.Wait() }
}

// newAttackRange makes the range.
func newAttackRange(t *testing.T, backend string, daemonArgs ...string) *attackRange {
	t.Helper()
	l := lab.New(t)
	r := &attackRange{
		site: &site{t: t, lab: l, host: l.Host("host"), outside: l.Host("lan")}, backend: backend,
		router: l.Host("router"), far: l.Host("far"), abroad: l.Host("abroad"),
	}
	r.lan = r.outside
	l.Switch("segment",
		r.host.Port("uplink", host4+"/24", host6+"/64", second4+"/24", second6+"/64"),
		r.lan.Port("eth0", lan4+"/24", lan6+"/64"),
		r.router.Port("eth0", router4+"/24", router6+"/64"))
	l.Link(r.router.Port("eth1", "198.51.100.1/24", "2001:db8:f::1/64"), r.far.Port("eth0", far4+"/24", far6+"/64"))
	l.Link(r.host.Port("uplink2", uplinkTwo4+"/24", uplinkTwo6+"/64"), r.abroad.Port("eth0", abroad4+"/24", abroad6+"/64"))
	r.router.Router()
	r.host.DefaultRoute("uplink", router4, router6)
	r.far.DefaultRoute("eth0", "198.51.100.1", "2001:db8:f::1")
	for _, by := range []struct {
		from   *lab.Host
		v4, v6 string
	}{{r.lan, host4, host6}, {r.abroad, uplinkTwo4, uplinkTwo6}} {
		by.from.DefaultRoute("eth0", by.v4, by.v6)
	}
	r.startOn(backend, daemonArgs...)
	for name, subnets := range map[string][2]string{"A": {subnetA4, subnetA6}, "B": {subnetB4, subnetB6}} {
		r.Must("network", "create", "--ipv6", "--subnet", subnets[0], "--subnet", subnets[1], name)
	}
	r.Must("network", "create", "--internal", "--ipv6", "--subnet", subnetI4, "--subnet", subnetI6, "I")
	r.a1 = r.idle("--name", "a1", "--network", "A", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "[::1]:8081:80",
		"-p", second4+":8082:80", "-p", "["+second6+"]:8082:80")
	r.a2 = r.idle("--name", "a2", "--network", "A")
	r.b1 = r.idle("--name", "b1", "--network", "B")
	r.i1 = r.idle("--name", "i1", "--network", "I")
	for _, b := range []box{r.a1, r.a2, r.b1, r.i1} {
		for _, port := range []string{"80", "81"} {
			for _, proto := range []string{"tcp", "udp"} {
				b.serve(proto, at("0.0.0.0", port))
				b.serve(proto, at("::", port))
			}
		}
	}
	return r
}

// TestAttackRange: everybody reaches whom an attack's control reaches.
func TestAttackRange(t *testing.T) {
	attacked(t, nil, nil, func(t *testing.T, r *attackRange) {
		for _, addr := range []string{at(host4, "8080"), at(host6, "8080"), at(second4, "8082"), at(second6, "8082")} {
			for _, h := range []*lab.Host{r.lan, r.far, r.abroad} {
				lab.Reachable(t, h, "tcp", addr)
			}
		}
		for _, addr := range []string{at("127.0.0.1", "8081"), at("::1", "8081")} {
			lab.Reachable(t, r.host, "tcp", addr)
		}
		for _, addr := range []string{at(r.a2.addr4, "81"), at(r.a2.addr6, "81")} {
			lab.Reachable(t, r.a1.Host, "tcp", addr)
			lab.Reachable(t, r.host, "tcp", addr)
		}
	})
}
