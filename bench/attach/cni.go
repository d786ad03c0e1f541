package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"
)

// cniDirectory is where Debian's containernetworking-plugins are.
const cniDirectory = "/usr/lib/cni"

// cniPlugins is the usual chain of an engine over CNI: bridge with host-local addresses
// and masquerade, portmap, firewall. The namespace is made outside the clock, as the
// engine makes it.
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
				"capabilities": {"ips": true},
				"ipam": {
					"type": "host-local", "dataDir": %q,
					"ranges": [[{"subnet": "172.17.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]
				}
			},
			{"type": "portmap", "capabilities": {"portMappings": true}},
			{"type": "firewall", "backend": "iptables"}
		]
	}`, filepath.Join(c.dir, "leases")))
	return err
}

func (c *cniPlugins) close() error { return nil }

func (c *cniPlugins) attachment(w wish) (*attachment, error) {
	id := containerID(w.n)
	a := &attachment{netns: netnsPath(c.dir, id), dial: published}
	if err := newNetns(a.netns); err != nil {
		return nil, err
	}
	mappings := []map[string]any{}
	for _, p := range w.ports {
		mappings = append(mappings, map[string]any{"hostPort": p.host, "containerPort": p.container, "protocol": "tcp"})
	}
	rt := &libcni.RuntimeConf{
		ContainerID: id, NetNS: a.netns, IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": mappings},
	}
	if w.addr.IsValid() {
		rt.CapabilityArgs["ips"] = []string{netip.PrefixFrom(w.addr, 16).String()}
	}
	a.up = func(ctx context.Context) error {
		result, err := c.cni.AddNetworkList(ctx, c.list, rt)
		if err != nil {
			return err
		}
		got, err := types.GetResult(result)
		if err != nil {
			return err
		}
		if len(got.IPs) == 0 {
			return errors.New("the plugins gave no address")
		}
		a.addr, _ = netip.AddrFromSlice(got.IPs[0].Address.IP)
		a.addr = a.addr.Unmap()
		return nil
	}
	a.down = func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, rt) }
	a.end = func() error { return dropNetns(a.netns) }
	return a, nil
}
