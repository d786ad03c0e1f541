package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// cniDirectory is where Debian's containernetworking-plugins are.
const cniDirectory = "/usr/lib/cni"

// cniPlugins is the usual chain of an engine over CNI: bridge with host-local
// addresses and masquerade, then portmap. The namespace is made outside the
// clock, as the engine makes it.
type cniPlugins struct {
	dir  string
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
	next int
}

func (c *cniPlugins) prepare(context.Context) (err error) {
	c.cni = libcni.NewCNIConfigWithCacheDir([]string{cniDirectory}, filepath.Join(c.dir, "cache"), nil)
	c.list, err = libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{
		"cniVersion": "1.0.0",
		"name": "bench",
		"plugins": [
			{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
				"ipam": {
					"type": "host-local", "dataDir": %q,
					"ranges": [[{"subnet": "172.17.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]
				}
			},
			{"type": "portmap", "capabilities": {"portMappings": true}}
		]
	}`, filepath.Join(c.dir, "leases")))
	return err
}

func (c *cniPlugins) close() error { return nil }

func (c *cniPlugins) fill(ctx context.Context, endpoints, ports int) error {
	for n := range endpoints {
		rt, err := c.container(portsOf(n, ports))
		if err != nil {
			return err
		}
		if _, err := c.cni.AddNetworkList(ctx, c.list, rt); err != nil {
			return fmt.Errorf("endpoint %d: %w", n, err)
		}
	}
	return nil
}

func (c *cniPlugins) once(ctx context.Context, _ string) (up, down time.Duration, err error) {
	rt, err := c.container([]uint16{measuredPort})
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if _, err := c.cni.AddNetworkList(ctx, c.list, rt); err != nil {
		return 0, 0, err
	}
	up = time.Since(start)
	start = time.Now()
	if err := c.cni.DelNetworkList(ctx, c.list, rt); err != nil {
		return 0, 0, err
	}
	down = time.Since(start)
	return up, down, dropNetns(rt.NetNS)
}

// container makes a namespace for the next container, and what the plugins are
// told of it.
func (c *cniPlugins) container(ports []uint16) (*libcni.RuntimeConf, error) {
	c.next++
	id := containerID(c.next)
	path, err := newNetns(c.dir, id)
	if err != nil {
		return nil, err
	}
	var mappings []map[string]any
	for _, p := range ports {
		mappings = append(mappings, map[string]any{"hostPort": p, "containerPort": 80, "protocol": "tcp"})
	}
	return &libcni.RuntimeConf{
		ContainerID: id, NetNS: path, IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": mappings},
	}, nil
}
