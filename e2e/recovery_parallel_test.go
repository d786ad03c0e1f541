package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is how many containers there are at once.
func crowd() int {
	if full() {
		return 100
	}
	return 32
}

// TestHundredAtOnce: a hundred `run --rm` (32 in short) with published ports at the same
// time succeed, have addresses and ports of their own, and leave nothing.
func TestHundredAtOnce(t *testing.T) {
	t.Parallel()
	s, crowd := newSite(t), crowd()
	c := &crashing{site: s}
	quiet := c.present()
	runs := make([]*member, crowd)
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() { runs[i] = s.join(i) })
	}
	wg.Wait()
	// All are there, and none has ended.
	addresses := map[string]int{}
	for i, m := range runs {
		if m.err != nil {
			t.Errorf("container %d: %v: %s", i, m.err, m.stderr.String())
			continue
		}
		if a, err := netip.ParseAddr(m.address); err != nil || !netip.MustParsePrefix("172.17.0.0/16").Contains(a) {
			t.Errorf("container %d has the address %q", i, m.address)
		}
		if other, twice := addresses[m.address]; twice {
			t.Errorf("containers %d and %d have the address %s", other, i, m.address)
		}
		addresses[m.address] = i
	}
	if !t.Failed() {
		ports := strings.Fields(s.Must("ps", "--format", "{{.Ports}}"))
		slices.Sort(ports)
		if n := len(slices.Compact(ports)); n < crowd {
			t.Errorf("%d ports are published by %d containers", n, crowd)
		}
		s.consistent()
	}
	for i, m := range runs {
		if err := m.leave(); err != nil {
			t.Errorf("container %d: %v: %s", i, err, m.stderr.String())
		}
	}
	// Half of them again, with ends and starts at the same time: what is given back is taken.
	for i := range crowd / 2 {
		wg.Go(func() {
			if _, stderr, code := s.CLI("run", "--rm", "-p", fmt.Sprintf("%d:80", 10000+i), "-p", "81", "demo", "true"); code != 0 {
				t.Errorf("short container %d: exit status %d: %s", i, code, stderr)
			}
		})
	}
	wg.Wait()
	eventually(t, "all containers are removed", func() bool { return s.Must("ps", "-aq") == "" })
	s.consistent()
	if now := c.present(); now != quiet {
		t.Errorf("the host is not as it was before:\n%s", changes(quiet, now))
	}
}

// member is one of the crowd: it says its address and lives until its standard
// input ends.
type member struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	stdout  io.Reader
	stderr  strings.Builder
	address string
	err     error
}

// join runs a container; every other publishes a port of its own choice, the rest
// one that is chosen for it.
func (s *site) join(i int) *member {
	m := &member{}
	publish := "80"
	if i%2 == 0 {
		publish = fmt.Sprintf("%d:80", 10000+i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	m.cmd = s.Command(ctx, "run", "--rm", "-i", "-p", publish, "demo", "sh", "-c", "hostname -i && exec cat")
	m.cmd.Stderr = &m.stderr
	in, err := m.cmd.StdinPipe()
	if err == nil {
		m.stdin = in
		m.stdout, err = m.cmd.StdoutPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		cancel()
		m.err = err
		return m
	}
	s.t.Cleanup(func() {
		cancel()
		_ = m.cmd.Wait()
	})
	line, err := bufio.NewReader(m.stdout).ReadString('\n')
	m.address, m.err = strings.TrimSpace(line), err
	return m
}

func (m *member) leave() error {
	if m.err != nil {
		return nil //nolint:nilerr // said already
	}
	if err := m.stdin.Close(); err != nil {
		return err
	}
	return m.cmd.Wait()
}
