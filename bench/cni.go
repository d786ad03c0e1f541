package main

import (
	"context"
	"fmt"
	"path/filepath"

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

func (c *cniPlugins) attachment(n int, ports []uint16) (attachment, error) {
	id := containerID(n)
	path := netnsPath(c.dir, id)
	if err := newNetns(path); err != nil {
		return attachment{}, err
	}
	var mappings []map[string]any
	for _, p := range ports {
		mappings = append(mappings, map[string]any{"hostPort": p, "containerPort": 80, "protocol": "tcp"})
	}
	rt := &libcni.RuntimeConf{
		ContainerID: id, NetNS: path, IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": mappings},
	}
	return attachment{
		netns: path, dial: published,
		up: func(ctx context.Context) error {
			_, err := c.cni.AddNetworkList(ctx, c.list, rt)
			return err
		},
		down: func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, rt) },
		end:  func() error { return dropNetns(path) },
	}, nil
}
