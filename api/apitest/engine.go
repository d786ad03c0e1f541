// Package apitest is an engine that keeps its state in memory and runs a few
// make-believe programs: for tests of the API's server and of its clients. No
// product code imports it.
package apitest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/engine/events"
)

// Engine implements api.Engine. Make one with New.
type Engine struct {
	mu          sync.Mutex
	containers  []*fakeContainer
	execs       map[string]*fakeExec
	images      []*image.InspectResponse
	networks    []*network.Inspect
	volumes     []volume.Volume
	differences []string
	healing     engine.Healing
	bus         *events.Bus

	// AttachDelay is how long Attach takes.
	AttachDelay time.Duration
	// Panic makes Info panic.
	Panic bool
	// Created are the requests Create was called with, in order.
	Created []engine.CreateRequest
	// Connected are the requests NetworkConnect did, in order.
	Connected []network.ConnectRequest
	// Pulled are the requests ImagePull was called with, in order.
	Pulled []engine.PullRequest
	// Pruned are the filters that ImagePrune was called with, in order.
	Pruned []map[string][]string
	// Pushed are the requests ImagePush was called with, in order.
	Pushed []engine.PushRequest
	// CutShort has CopyFrom fail after what is written.
	CutShort bool
	// Committed are the options Commit was called with, in order.
	Committed []engine.CommitOptions
	// Imported are the changes and message of the last import.
	Imported []string
}

// fakeContainer is one container, its program's life and those who wait for it.
type fakeContainer struct {
	container.InspectResponse
	created time.Time
	streams stream
	log     []logLine
	process *process
	waiters []waiter
	files   map[string]string
}

type waiter struct {
	condition container.WaitCondition
	out       chan container.WaitResponse
}

// New makes an engine with the default network and no image.
func New() *Engine {
	e := &Engine{execs: map[string]*fakeExec{}, bus: events.New()}
	for _, n := range []struct{ name, driver string }{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}} {
		inspect := &network.Inspect{Network: network.Network{
			Name: n.name, ID: newID(), Driver: n.driver, Scope: "local", EnableIPv4: true,
			Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Labels: map[string]string{}, Options: map[string]string{},
		}}
		if n.name == "bridge" {
			inspect.IPAM.Config = []network.IPAMConfig{{
				Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"),
			}}
		}
		e.networks = append(e.networks, inspect)
	}
	return e
}

func newID() string {
	id := make([]byte, 32)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

func missing(kind, ref string) error {
	return fmt.Errorf("No such %s: %s: %w", kind, ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
}

// find is called with the lock held.
func (e *Engine) find(ref string) (*fakeContainer, error) {
	ref = strings.TrimPrefix(ref, "/")
	for _, c := range e.containers {
		if c.Name == "/"+ref || c.ID == ref || (len(ref) >= 4 && strings.HasPrefix(c.ID, ref)) {
			return c, nil
		}
	}
	return nil, missing("container", ref)
}

// Create makes a container of a known image.
func (e *Engine) Create(_ context.Context, request engine.CreateRequest) (container.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Created = append(e.Created, request)
	img, err := e.findImage(request.Config.Image)
	if err != nil {
		return container.CreateResponse{}, err
	}
	id := newID()
	name := request.Name
	if name == "" {
		name = "fake_" + id[:6]
	}
	if taken, err := e.find(name); err == nil {
		return container.CreateResponse{}, fmt.Errorf("Conflict. The container name %q is already in use by container %q: %w", //nolint:staticcheck // Docker's words
			"/"+name, taken.ID, errdefs.ErrConflict)
	}
	if len(request.Config.Cmd) == 0 && img.Config != nil {
		request.Config.Cmd = img.Config.Cmd
	}
	c := &fakeContainer{created: time.Now()}
	c.InspectResponse = container.InspectResponse{
		ID: id, Name: "/" + name, Created: c.created.Format(time.RFC3339Nano), Image: img.ID,
		Config: request.Config, HostConfig: request.HostConfig,
		State: &container.State{Status: container.StateCreated},
		NetworkSettings: &container.NetworkSettings{
			Ports: network.PortMap{}, Networks: map[string]*network.EndpointSettings{},
		},
	}
	e.containers = append(e.containers, c)
	var warnings []string
	if mode := request.HostConfig.NetworkMode; mode.IsHost() && len(request.HostConfig.PortBindings) > 0 {
		warnings = []string{"Published ports are discarded when using host network mode"}
	}
	return container.CreateResponse{ID: id, Warnings: warnings}, nil
}

// List lists containers, the newest first.
func (e *Engine) List(_ context.Context, options engine.ListOptions) ([]container.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []container.Summary
	for _, c := range slices.Backward(e.containers) {
		if !c.State.Running && !options.All && options.Limit == 0 {
			continue
		}
		if names := options.Filters["name"]; names != nil && !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(c.Name, n) }) {
			continue
		}
		if options.Limit > 0 && len(out) == options.Limit {
			break
		}
		out = append(out, c.summary())
	}
	return out, nil
}

func (c *fakeContainer) summary() container.Summary {
	s := container.Summary{
		ID: c.ID, Names: []string{c.Name}, Image: c.Config.Image, ImageID: c.Image,
		Command: strings.Join(c.Config.Cmd, " "), Created: c.created.Unix(), Labels: c.Config.Labels,
		State: c.State.Status, Status: map[bool]string{true: "Up 1 second", false: fmt.Sprintf("Exited (%d) 1 second ago", c.State.ExitCode)}[c.State.Running],
		NetworkSettings: &container.NetworkSettingsSummary{Networks: maps.Clone(c.NetworkSettings.Networks)},
	}
	if c.State.Status == container.StateCreated {
		s.Status = "Created"
	}
	for port := range c.Config.ExposedPorts {
		bindings := c.NetworkSettings.Ports[port]
		if len(bindings) == 0 {
			s.Ports = append(s.Ports, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			host, _ := network.ParsePort(b.HostPort)
			s.Ports = append(s.Ports, container.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), PublicPort: host.Num(), Type: string(port.Proto())})
		}
	}
	return s
}

// Inspect returns all that is known.
func (e *Engine) Inspect(_ context.Context, ref string, _ bool) (container.InspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return container.InspectResponse{}, err
	}
	got := c.InspectResponse
	state := *c.State
	got.State = &state
	got.NetworkSettings = &container.NetworkSettings{
		Ports: maps.Clone(c.NetworkSettings.Ports), Networks: maps.Clone(c.NetworkSettings.Networks),
	}
	return got, nil
}

// Rename gives a free name.
func (e *Engine) Rename(_ context.Context, ref, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.Name = "/" + name
	return nil
}

// Remove removes a container that does not run, or, by force, one that does.
func (e *Engine) Remove(_ context.Context, ref string, options engine.RemoveOptions) error {
	e.mu.Lock()
	c, err := e.find(ref)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	if c.State.Running && !options.Force {
		e.mu.Unlock()
		return fmt.Errorf("cannot remove container %q: container is running: stop the container before removing or force remove: %w",
			c.Name, errdefs.ErrConflict)
	}
	process := c.process
	e.mu.Unlock()
	if process != nil {
		process.signal("KILL")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(c)
	return nil
}

// drop is called with the lock held.
func (e *Engine) drop(c *fakeContainer) {
	e.containers = slices.DeleteFunc(e.containers, func(other *fakeContainer) bool { return other == c })
	c.answer(container.WaitConditionRemoved)
}

// Info says little.
func (e *Engine) Info(context.Context) (system.Info, error) {
	if e.Panic {
		panic("as asked")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return system.Info{
		Name: "lab", ServerVersion: "test", OSType: "linux", Containers: len(e.containers), Images: len(e.images),
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, KernelVersion: "6.18",
	}, nil
}

// Components are containerd alone.
func (e *Engine) Components(context.Context) []system.ComponentVersion {
	return []system.ComponentVersion{{Name: "containerd", Version: "1.6.20"}}
}

// Differ sets what Check returns.
func (e *Engine) Differ(differences ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.differences = differences
}

// Check returns what Differ was told.
func (e *Engine) Check(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.differences, nil
}
