package engine

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	ctr "github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/network/spec"
)

// Inspect tells everything of a container; size adds how much it wrote.
func (e *Engine) Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return container.InspectResponse{}, err
	}
	r := c.record()
	files := e.mountedFiles(r)
	out := container.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), RestartCount: r.State.RestartCount, Name: "/" + r.Name,
		Args: []string{}, State: inspectState(r.State), Image: r.ImageID, Platform: "linux", Driver: ctr.Snapshotter,
		ResolvConfPath: files["/etc/resolv.conf"], HostnamePath: files["/etc/hostname"], HostsPath: files["/etc/hosts"],
		LogPath: e.logFile(r), ExecIDs: e.execs.of(r.ID), HostConfig: e.shownHostConfig(r), Config: shownConfig(r.Config),
		GraphDriver: &storage.DriverData{Name: ctr.Snapshotter}, Mounts: mountPoints(r), NetworkSettings: e.networkSettings(r),
	}
	if args := r.args(); len(args) > 0 {
		out.Path = args[0]
		out.Args = append(out.Args, args[1:]...)
	}
	if size {
		written, total, err := e.sizes(ctx, r)
		if err != nil {
			return out, err
		}
		out.SizeRw, out.SizeRootFs = &written, &total
	}
	return out, nil
}

func inspectState(s State) *container.State {
	health := s.Health
	if health != nil && (health.Status == "" || health.Status == container.NoHealthcheck) {
		health = nil
	}
	return &container.State{
		Status: s.Status(), Running: s.Running || s.Restarting, Paused: s.Paused, Restarting: s.Restarting, OOMKilled: s.OOMKilled,
		Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.FinishedAt.Format(time.RFC3339Nano), Health: health,
	}
}

func (e *Engine) networkSettings(r Record) *container.NetworkSettings {
	out := &container.NetworkSettings{Ports: network.PortMap{}, Networks: e.endpoints(r)}
	if !r.State.Running {
		return out
	}
	out.SandboxID, out.SandboxKey = r.ID, e.netns(r.State.Sandbox)
	a, ok := e.cfg.Network.Attachment(r.ID)
	if !ok || len(a.Endpoints) == 0 {
		return out // the network of the host, of another container, or none
	}
	for p := range r.Config.ExposedPorts {
		out.Ports[p] = nil
	}
	for _, b := range a.Ports {
		p, ok := network.PortFrom(b.Container.Port(), network.IPProtocol(b.Proto))
		if !ok || b.Routed() {
			continue // it is reached by the container's own address
		}
		out.Ports[p] = append(out.Ports[p], network.PortBinding{HostIP: b.Host.Addr(), HostPort: portText(b.Host.Port())})
	}
	return out
}

// endpoints are the container's by network name: of one that runs as they are,
// else as they were asked for.
func (e *Engine) endpoints(r Record) map[string]*network.EndpointSettings {
	out := make(map[string]*network.EndpointSettings)
	mode := r.HostConfig.NetworkMode
	if mode.IsContainer() {
		return out
	}
	for name, s := range r.Endpoints {
		e.wantedEndpoint(out, name, s, r)
	}
	if r.Endpoints == nil {
		e.wantedEndpoint(out, string(mode), nil, r)
	}
	a, ok := e.cfg.Network.Attachment(r.ID)
	if !ok || !r.State.Running {
		return out
	}
	for _, endpoint := range a.Endpoints {
		s := out[endpoint.Network]
		if s == nil {
			s = &network.EndpointSettings{}
			out[endpoint.Network] = s
		}
		fillEndpoint(s, endpoint)
		e.showGateways(s, endpoint)
	}
	return out
}

// wantedEndpoint adds an endpoint under its network's present name.
func (e *Engine) wantedEndpoint(out map[string]*network.EndpointSettings, ref string, s *network.EndpointSettings, r Record) {
	settings := s.Copy()
	if settings == nil {
		settings = &network.EndpointSettings{}
	}
	if n, err := e.recorded(ref); err == nil {
		ref, settings.NetworkID = n.Name, n.ID
	}
	if slices.Contains(pseudo, ref) {
		settings.NetworkID = e.pseudoID(ref)
	} else if ref != spec.DefaultNetwork {
		settings.DNSNames = endpointNames(r, settings.Aliases)
	}
	out[ref] = settings
}

func fillEndpoint(s *network.EndpointSettings, endpoint spec.Endpoint) {
	s.NetworkID, s.EndpointID = endpoint.NetworkID, endpoint.ID
	s.MacAddress = network.HardwareAddr(endpoint.MAC)
	if endpoint.Addr4.IsValid() {
		s.IPAddress, s.IPPrefixLen, s.Gateway = endpoint.Addr4.Addr(), endpoint.Addr4.Bits(), endpoint.Gateway4
	}
	if endpoint.Addr6.IsValid() {
		s.GlobalIPv6Address, s.GlobalIPv6PrefixLen, s.IPv6Gateway = endpoint.Addr6.Addr(), endpoint.Addr6.Bits(), endpoint.Gateway6
	}
}

// showGateways fills in the gateways of the endpoint's network, as Docker does, where
// another endpoint has the default route.
func (e *Engine) showGateways(s *network.EndpointSettings, endpoint spec.Endpoint) {
	n, err := e.cfg.Network.Network(endpoint.NetworkID)
	if err != nil || n.Internal {
		return
	}
	for _, sub := range n.Subnets {
		if !s.Gateway.IsValid() && endpoint.Addr4.IsValid() && sub.Prefix.Contains(endpoint.Addr4.Addr()) {
			s.Gateway = sub.Gateway
		}
		if !s.IPv6Gateway.IsValid() && endpoint.Addr6.IsValid() && sub.Prefix.Contains(endpoint.Addr6.Addr()) {
			s.IPv6Gateway = sub.Gateway
		}
	}
}

// mountPoints are the user's mounts.
func mountPoints(r Record) []container.MountPoint {
	if r.Mounts == nil {
		return []container.MountPoint{}
	}
	return r.Mounts
}

// architecture is the machine's as uname(2) tells it to Docker's clients.
func architecture() string {
	known := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}
	if name, ok := known[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}
