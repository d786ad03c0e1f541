package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// rawTries are what only CAP_NET_RAW allows, by programs of the image: a packet socket
// (packet(7)) on the link, and a raw socket (raw(7)) of either family. Each says so
// where the kernel refuses it, and ends well where it does not.
func rawTries(dev, addr4, addr6 string) map[string]string {
	return map[string]string{
		"a packet socket":      fmt.Sprintf("arping -c 1 -w 5 -I %s %s", dev, addr4),
		"a raw socket of IPv4": "traceroute -n -I -m 1 -w 5 -q 1 " + addr4,
		"a raw socket of IPv6": "traceroute6 -n -m 1 -w 5 -q 1 " + addr6,
	}
}

// raws checks in a container, by exec with the flags, whether it can do what only
// CAP_NET_RAW allows.
func (r *attackRange) raws(allowed bool, name, dev, addr4, addr6 string, flags ...string) {
	r.t.Helper()
	var wg sync.WaitGroup
	for what, command := range rawTries(dev, addr4, addr6) {
		wg.Go(func() {
			out, stderr, code := r.CLI(append(append([]string{"exec"}, flags...), name, "sh", "-c", command+" 2>&1")...)
			if refused := code != 0 && strings.Contains(out, "Operation not permitted"); refused == allowed || allowed && code != 0 {
				r.t.Errorf("%s in %s (exec %v): exit status %d, allowed %v\n%s%s", what, name, flags, code, allowed, out, stderr)
			}
		})
	}
	wg.Wait()
}

// plainPing is the machine's ping without its file capabilities, with which it does not
// even run where CAP_NET_RAW is out of reach (execve(2)).
func plainPing(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("ping")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "ping")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return copied
}

// pingsByICMPSocket checks that containers reach a2 by ping, of both families, and that it is not
// so everywhere.
func (r *attackRange) pingsByICMPSocket(names ...string) {
	r.t.Helper()
	ping := plainPing(r.t)
	// It makes ICMP sockets, which the namespace's ping_group_range allows (icmp(7)).
	try := func(from *lab.Host, addr string) lab.Result {
		return from.Try("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", ping, "-n", "-c1", "-W5", addr)
	}
	for _, addr := range []string{r.a2.addr4.String(), r.a2.addr6.String()} {
		for _, name := range names {
			if got := try(r.box(name).Host, addr); got.Code != 0 {
				r.t.Errorf("ping %s in %s: exit status %d\n%s%s", addr, name, got.Code, got.Stdout, got.Stderr)
			}
		}
	}
	for _, addr := range []string{host4, host6} {
		if got := try(r.lan, addr); got.Code == 0 {
			r.t.Errorf("cannot tell: ping %s needs no privilege in lan either", addr)
		}
	}
}

// TestAttackRawSockets is row 2 of the attacks: a container without CAP_NET_RAW makes
// no raw socket; one that has it, as by default, does.
func TestAttackRawSockets(t *testing.T) {
	attacked(t, nil, func(_ *testing.T, r *attackRange) {
		r.idle("--name", "raw", "--network", "A")
		r.idle("--name", "tame", "--network", "A", "--cap-drop", "NET_RAW")
		r.idle("--name", "bare", "--network", "A", "--cap-drop", "ALL")
	}, func(_ *testing.T, r *attackRange) {
		gateway4, gateway6 := "10.101.0.1", r.a2.addr6.String()
		r.raws(true, "raw", "eth0", gateway4, gateway6)
		r.raws(false, "tame", "eth0", gateway4, gateway6)
		r.raws(false, "bare", "eth0", gateway4, gateway6)
		r.raws(true, "tame", "eth0", gateway4, gateway6, "--privileged") // who may use the API says so
		r.pingsByICMPSocket("tame", "bare")
	})
}

// TestAttackNoNetRaw is row 2 as well: with --no-net-raw of the daemon no container
// makes a raw socket, whatever it was given, and ping works all the same.
func TestAttackNoNetRaw(t *testing.T) {
	attacked(t, []string{"--no-net-raw"}, func(t *testing.T, r *attackRange) {
		for name, flags := range map[string][]string{
			"usual": nil, "everything": {"--cap-add", "ALL"}, "privileged": {"--privileged"},
		} {
			r.idle(append(flags, "--name", name, "--network", "A")...)
		}
		r.idle("--name", "hosts", "--network", "host", "--privileged")
		_, stderr, code := r.CLI("run", "--rm", "--cap-add", "NET_RAW", "demo", "true")
		if code == 0 || !strings.Contains(stderr, "--cap-add NET_RAW (HostConfig.CapAdd) is refused: the daemon's --no-net-raw") {
			t.Errorf("--cap-add NET_RAW: exit status %d, %s", code, stderr)
		}
		contains(t, "info", r.Must("info", "--format", "{{.SecurityOptions}}"), "name=no-net-raw")
	}, func(_ *testing.T, r *attackRange) {
		gateway4, gateway6 := "10.101.0.1", r.a2.addr6.String()
		for _, name := range []string{"usual", "everything", "privileged"} {
			r.raws(false, name, "eth0", gateway4, gateway6)
			r.raws(false, name, "eth0", gateway4, gateway6, "--privileged")
		}
		r.pingsByICMPSocket("usual", "everything", "privileged")
		r.raws(false, "hosts", "uplink", lan4, lan6, "--privileged")
		fresh := r.Must("run", "--rm", "--privileged", "--network", "A", "demo", "sh", "-c", rawTries("eth0", gateway4, gateway6)["a packet socket"]+" 2>&1 || true")
		contains(r.t, "a packet socket in a fresh container", fresh, "Operation not permitted")
	})
}
