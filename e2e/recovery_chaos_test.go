package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// chaosTime is how long the daemon and the processes beside it are killed at random;
// $FAIRLEAD_CHAOS sets another, in seconds.
func chaosTime(t *testing.T) time.Duration {
	t.Helper()
	v := os.Getenv("FAIRLEAD_CHAOS")
	if v == "" {
		return 10 * time.Second
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("FAIRLEAD_CHAOS=%s: want a number of seconds", v)
	}
	return time.Duration(n) * time.Second
}

// TestChaos: while containers and networks are made and taken away from several
// sides, the daemon, and now and then what is beside it, is killed at any moment.
// Commands may fail; a bystander's port does not, and in the end nothing is left.
func TestChaos(t *testing.T) {
	t.Parallel()
	lasting := chaosTime(t)
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	bystander := s.idle("--name", "bystander", "-p", "7000:7000")
	bystander.serve("tcp", "0.0.0.0:7000")
	s.Must("network", "create", "--ipv6", "first") // which turns IPv6's forwarding on
	s.Must("network", "rm", "first")
	c := &crashing{site: s}
	quiet := c.present()
	polls := []*poll{startPoll(t, s.outside, "tcp", at(host4, "7000")), startPoll(t, s.host, "tcp", at(host4, "7000"))}

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	end := time.Now().Add(lasting)
	var work sync.WaitGroup
	for i := range 4 {
		port, name := fmt.Sprint(8000+i), fmt.Sprintf("worker%d", i)
		network := fmt.Sprintf("net%d", i)
		work.Go(func() {
			for time.Now().Before(end) {
				s.CLI("run", "--rm", "-p", port+":80", "-p", port+":80/udp", "demo", "true")
				s.CLI("network", "create", "--ipv6", network)
				s.CLI("run", "-d", "--name", name, "--network", network, "-p", port+":80", "demo", "sleep", "3600")
				s.CLI("kill", name)
				s.CLI("start", name)
				s.CLI("rm", "-f", name)
				s.CLI("network", "rm", network)
			}
		})
	}
	for time.Now().Before(end) {
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
		s.Kill()
		for _, find := range []func() []int{s.relays, s.streams, s.containerd} {
			if random.IntN(4) == 0 {
				for _, pid := range find() {
					_ = lab.Signal(pid, syscall.SIGKILL)
				}
			}
		}
		s.Start()
	}
	work.Wait()
	for _, p := range polls {
		p.whole(t)
	}
	for id := range strings.FieldsSeq(s.Must("ps", "-aq")) {
		if !strings.HasPrefix(bystander.id, id) {
			s.Must("rm", "-f", id)
		}
	}
	for name := range strings.FieldsSeq(s.Must("network", "ls", "--format", "{{.Name}}")) {
		if strings.HasPrefix(name, "net") {
			s.Must("network", "rm", name)
		}
	}
	s.consistent()
	if now := c.present(); now != quiet {
		t.Errorf("the host is not as it was before:\n%s", changes(quiet, now))
	}
}
