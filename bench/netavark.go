package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// netavarkBinary is where Debian's podman finds it.
const netavarkBinary = "/usr/lib/podman/netavark"

// netavark is podman's network set-up: one process for set-up and one for
// teardown, told everything in JSON on standard input. Choosing the address is
// podman's work and so outside the clock, as is making the namespace.
type netavark struct {
	dir  string
	next int
}

func (n *netavark) prepare(context.Context) error { return nil }

func (n *netavark) close() error { return nil }

func (n *netavark) fill(ctx context.Context, endpoints, ports int) error {
	for i := range endpoints {
		path, config, err := n.container(portsOf(i, ports))
		if err != nil {
			return err
		}
		if err := n.call(ctx, "setup", path, config); err != nil {
			return fmt.Errorf("endpoint %d: %w", i, err)
		}
	}
	return nil
}

func (n *netavark) once(ctx context.Context, _ string) (up, down time.Duration, err error) {
	path, config, err := n.container([]uint16{measuredPort})
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := n.call(ctx, "setup", path, config); err != nil {
		return 0, 0, err
	}
	up = time.Since(start)
	start = time.Now()
	if err := n.call(ctx, "teardown", path, config); err != nil {
		return 0, 0, err
	}
	down = time.Since(start)
	return up, down, dropNetns(path)
}

func (n *netavark) call(ctx context.Context, verb, path string, config []byte) error {
	cmd := exec.CommandContext(ctx, netavarkBinary, "--config", filepath.Join(n.dir, "netavark"), verb, path)
	cmd.Stdin = bytes.NewReader(config)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netavark %s: %w: %s", verb, err, out)
	}
	return nil
}

// container makes a namespace for the next container, and what netavark is told
// of it.
func (n *netavark) container(ports []uint16) (path string, config []byte, err error) {
	n.next++
	id := containerID(n.next)
	if path, err = newNetns(n.dir, id); err != nil {
		return "", nil, err
	}
	type object = map[string]any
	var mappings []object
	for _, p := range ports {
		mappings = append(mappings, object{
			"container_port": 80, "host_ip": "", "host_port": p, "protocol": "tcp", "range": 1,
		})
	}
	addr := fmt.Sprintf("172.17.%d.%d", (n.next+1)>>8, (n.next+1)&255)
	config, err = json.Marshal(object{
		"container_id": id, "container_name": fmt.Sprintf("bench%d", n.next),
		"port_mappings": mappings,
		"networks":      object{"bench": object{"static_ips": []string{addr}, "interface_name": "eth0"}},
		"network_info": object{"bench": object{
			"name": "bench", "id": containerID(0), "driver": "bridge", "network_interface": "podman0",
			"subnets":      []object{{"subnet": "172.17.0.0/16", "gateway": "172.17.0.1"}},
			"ipv6_enabled": false, "internal": false, "dns_enabled": false,
			"ipam_options": object{"driver": "host-local"},
		}},
	})
	return path, config, err
}
