package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// Space is a network namespace that an end of a measurement is in.
type Space struct {
	// Name is for messages.
	Name string
	// Path is where the namespace is: pinned, or a process's.
	Path string
}

// Do runs f in the namespace.
func (s Space) Do(f func() error) error {
	ns, err := netns.Open(s.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return errors.Join(netns.Do(ns, f), ns.Close())
}

// processors returns those that servers and clients run on: two of those that there are, or
// one for both.
func processors() (server, client unix.CPUSet, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return server, client, fmt.Errorf("the processors: %w", err)
	}
	var first []int
	for cpu := 0; cpu < len(all)*64 && len(first) < 2; cpu++ {
		if all.IsSet(cpu) {
			first = append(first, cpu)
		}
	}
	client.Set(first[0])
	server.Set(first[len(first)-1])
	return server, client, nil
}

// startOn starts a command in the namespace, on a processor alone.
func (s Space) startOn(cpu unix.CPUSet, cmd *exec.Cmd) error {
	return s.Do(func() error {
		var before unix.CPUSet
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			return err
		}
		// A child has the processors and the namespace of the thread that it is forked from.
		if err := unix.SchedSetaffinity(0, &cpu); err != nil {
			return err
		}
		return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
	})
}

// Serve starts a server on the port of every IPv4 address of the namespace, and returns when
// it listens, its process. It ends with ctx.
func (s Space) Serve(ctx context.Context, port uint16) (pid int, err error) {
	cpu, _, err := processors()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", Name, serving, strconv.Itoa(int(port)))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := s.startOn(cpu, cmd); err != nil {
		return 0, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != fmt.Sprintf(ready, port) {
		return 0, fmt.Errorf("the server on %s said %q: %w", s.Name, line, err)
	}
	go func() { _ = cmd.Wait() }()
	return cmd.Process.Pid, nil
}

// Measure has a client in the namespace do a kind of load for a while.
func (s Space) Measure(ctx context.Context, kind Kind, to netip.AddrPort, length time.Duration) (Sample, error) {
	return s.client(ctx, length, string(kind), to.String(), length.String())
}

// client starts one with arguments, and returns what it says.
func (s Space) client(ctx context.Context, length time.Duration, args ...string) (Sample, error) {
	_, cpu, err := processors()
	if err != nil {
		return Sample{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, length+2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{Name}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := s.startOn(cpu, cmd); err != nil {
		return Sample{}, err
	}
	if err := cmd.Wait(); err != nil {
		return Sample{}, fmt.Errorf("the client on %s: %w: %s", s.Name, err, stderr.Bytes())
	}
	var a answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return Sample{}, fmt.Errorf("the client on %s said %q: %w", s.Name, out.Bytes(), err)
	}
	if a.Error != "" {
		return Sample{}, fmt.Errorf("from %s: %s", s.Name, a.Error)
	}
	return a.Sample, nil
}
