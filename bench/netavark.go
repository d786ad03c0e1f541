package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// netavarkBinary is where Debian's podman finds it.
const netavarkBinary = "/usr/lib/podman/netavark"

// netavark is podman's network set-up: one process for set-up and one for
// teardown, told everything in JSON on standard input. Choosing the address is
// podman's work and so outside the clock, as is making the namespace.
type netavark struct{ dir string }

func (v *netavark) prepare(context.Context) error { return nil }

func (v *netavark) close() error { return nil }

func (v *netavark) attachment(n int, ports []uint16) (attachment, error) {
	path := netnsPath(v.dir, containerID(n))
	if err := newNetns(path); err != nil {
		return attachment{}, err
	}
	config, err := netavarkConfig(n, ports)
	return attachment{
		netns: path, dial: published,
		up:   func(ctx context.Context) error { return v.call(ctx, "setup", path, config) },
		down: func(ctx context.Context) error { return v.call(ctx, "teardown", path, config) },
		end:  func() error { return dropNetns(path) },
	}, err
}

func (v *netavark) call(ctx context.Context, verb, path string, config []byte) error {
	cmd := exec.CommandContext(ctx, netavarkBinary, "--config", filepath.Join(v.dir, "netavark"), verb, path)
	cmd.Stdin = bytes.NewReader(config)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netavark %s: %w: %s", verb, err, out)
	}
	return nil
}

// netavarkConfig is what netavark is told of the n-th container.
func netavarkConfig(n int, ports []uint16) ([]byte, error) {
	type object = map[string]any
	var mappings []object
	for _, p := range ports {
		mappings = append(mappings, object{
			"container_port": 80, "host_ip": "", "host_port": p, "protocol": "tcp", "range": 1,
		})
	}
	addr := fmt.Sprintf("172.17.%d.%d", (n+1)>>8, (n+1)&255)
	return json.Marshal(object{
		"container_id": containerID(n), "container_name": fmt.Sprintf("bench%d", n),
		"port_mappings": mappings,
		"networks":      object{"bench": object{"static_ips": []string{addr}, "interface_name": "eth0"}},
		"network_info": object{"bench": object{
			"name": "bench", "id": containerID(0), "driver": "bridge", "network_interface": "podman0",
			"subnets":      []object{{"subnet": "172.17.0.0/16", "gateway": "172.17.0.1"}},
			"ipv6_enabled": false, "internal": false, "dns_enabled": false,
			"ipam_options": object{"driver": "host-local"},
		}},
	})
}
