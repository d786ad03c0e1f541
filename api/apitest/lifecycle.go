package apitest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine"
)

// Start runs the container's program, connected to whoever has attached.
func (e *Engine) Start(_ context.Context, ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if c.State.Running {
		return errdefs.ErrNotModified
	}
	c.log = nil
	c.streams.terminal = c.Config.Tty
	c.streams.written = func(name string, b []byte) { e.record(c, name, b) }
	p, err := startProcess(c.Config.Cmd, c.Config.Env, &c.streams)
	if err != nil {
		c.streams.close()
		if c.HostConfig.AutoRemove {
			e.drop(c)
		}
		return err
	}
	c.process = p
	c.State = &container.State{Status: container.StateRunning, Running: true, Pid: os.Getpid()}
	c.publish()
	go e.reap(c, p)
	return nil
}

// publish gives the container an address and its ports' bindings.
func (c *fakeContainer) publish() {
	c.NetworkSettings.Networks[string(c.HostConfig.NetworkMode)] = &network.EndpointSettings{
		IPAddress: netip.MustParseAddr("172.17.0.2"), IPPrefixLen: 16, Gateway: netip.MustParseAddr("172.17.0.1"),
		MacAddress: network.HardwareAddr{2, 0x42, 0xac, 0x11, 0, 2}, EndpointID: "e0",
	}
	for port, bindings := range c.HostConfig.PortBindings {
		for _, b := range bindings {
			if b.HostPort == "" {
				b.HostPort = "32768"
			}
			if b.HostIP.IsValid() {
				c.NetworkSettings.Ports[port] = append(c.NetworkSettings.Ports[port], b)
				continue
			}
			for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
				c.NetworkSettings.Ports[port] = append(c.NetworkSettings.Ports[port], network.PortBinding{HostIP: any, HostPort: b.HostPort})
			}
		}
	}
}

// record keeps what the program wrote, line by line.
func (e *Engine) record(c *fakeContainer, name string, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for line := range strings.Lines(string(b)) {
		c.log = append(c.log, logLine{name, time.Now(), []byte(line)})
	}
}

// reap waits for the program's end and tells those who wait for it.
func (e *Engine) reap(c *fakeContainer, p *process) {
	code := <-p.exited
	c.streams.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	c.State = &container.State{Status: container.StateExited, ExitCode: code}
	c.NetworkSettings.Ports = network.PortMap{}
	c.answer(container.WaitConditionNotRunning)
	c.answer(container.WaitConditionNextExit)
	if c.HostConfig.AutoRemove {
		e.drop(c)
	}
}

// answer is called with the lock held.
func (c *fakeContainer) answer(condition container.WaitCondition) {
	var rest []waiter
	for _, w := range c.waiters {
		if w.condition == condition {
			w.out <- container.WaitResponse{StatusCode: int64(c.State.ExitCode)}
			continue
		}
		rest = append(rest, w)
	}
	c.waiters = rest
}

// Wait answers once, on a channel that takes the answer without a reader.
func (e *Engine) Wait(_ context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	w := waiter{condition, make(chan container.WaitResponse, 1)}
	if condition == container.WaitConditionNotRunning && !c.State.Running {
		w.out <- container.WaitResponse{StatusCode: int64(c.State.ExitCode)}
		return w.out, nil
	}
	c.waiters = append(c.waiters, w)
	return w.out, nil
}

// send signals a running program and, where wait is set, waits for its end.
func (e *Engine) send(ref, signal string, wait bool) error {
	e.mu.Lock()
	c, err := e.find(ref)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	running, p := c.State.Running, c.process
	e.mu.Unlock()
	if !running {
		if wait {
			return errdefs.ErrNotModified
		}
		return fmt.Errorf("container %s is not running: %w", ref, errdefs.ErrConflict)
	}
	p.signal(signal)
	for wait {
		e.mu.Lock()
		wait = c.State.Running
		e.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Stop ends the program with a signal.
func (e *Engine) Stop(_ context.Context, ref string, options engine.StopOptions) error {
	if options.Signal == "" {
		options.Signal = "TERM"
	}
	return e.send(ref, options.Signal, true)
}

// Restart stops and starts.
func (e *Engine) Restart(ctx context.Context, ref string, options engine.StopOptions) error {
	if err := e.Stop(ctx, ref, options); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	return e.Start(ctx, ref)
}

// Kill sends a signal.
func (e *Engine) Kill(_ context.Context, ref, signal string) error {
	return e.send(ref, signal, false)
}

// Terminal says whether the container was made with one.
func (e *Engine) Terminal(ref string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return false, err
	}
	return c.Config.Tty, nil
}

// CanAttach refuses what is paused.
func (e *Engine) CanAttach(ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err == nil && c.State.Paused {
		err = fmt.Errorf("container %s is paused, unpause the container before attach: %w", ref, errdefs.ErrConflict)
	}
	return err
}

// Attach keeps the connection for the container's streams.
func (e *Engine) Attach(_ context.Context, ref string, options engine.AttachOptions, conn *os.File) error {
	time.Sleep(e.AttachDelay)
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.streams.terminal = c.Config.Tty
	return c.streams.attach(conn, options)
}

// Logs emits what was written.
func (e *Engine) Logs(_ context.Context, ref string, options engine.LogsOptions, emit func(string, time.Time, []byte) error) error {
	e.mu.Lock()
	c, err := e.find(ref)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	lines := c.log
	e.mu.Unlock()
	if options.Tail >= 0 && options.Tail < len(lines) {
		lines = lines[len(lines)-options.Tail:]
	}
	for _, line := range lines {
		if (line.stream == "stdout" && !options.Stdout) || (line.stream == "stderr" && !options.Stderr) {
			continue
		}
		text := line.text
		if options.Timestamps {
			text = append([]byte(line.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00 ")), text...)
		}
		if err := emit(line.stream, line.at, text); err != nil {
			return err
		}
	}
	return nil
}

// Resize prints the size in the program's output.
func (e *Engine) Resize(_ context.Context, ref string, height, width uint) error {
	e.mu.Lock()
	c, err := e.find(ref)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	c.streams.write("stdout", fmt.Appendf(nil, "size %dx%d\r\n", height, width))
	return nil
}

// Close ends all programs.
func (e *Engine) Close() {
	e.mu.Lock()
	all := slices.Clone(e.containers)
	e.mu.Unlock()
	for _, c := range all {
		c.streams.close()
		_ = e.send(c.ID, "KILL", true) // one that does not run, or is gone, is as wanted
	}
}
