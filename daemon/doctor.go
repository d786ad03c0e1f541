package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/doctor/look"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/firewall"
)

// Doctor looks at the host, and at how it differs from what is wanted.
func (v views) Doctor(ctx context.Context) (doctor.Report, error) {
	forward, err := v.network.Forward()
	if err != nil {
		return doctor.Report{}, err
	}
	h := look.Host(ctx, forward)
	links, err := v.network.HostLinks()
	if err != nil {
		return doctor.Report{}, err
	}
	endpoints := make(map[string]int)
	for _, a := range v.network.Attachments() {
		for _, e := range a.Endpoints {
			endpoints[e.NetworkID]++
		}
	}
	h.Networks = nil // what the daemon knows of them is more
	for _, n := range v.network.Networks() {
		bridge, _ := links.Find(n.Bridge)
		one := doctor.Network{Name: n.Name, Bridge: n.Bridge, Default: n.Default, MTU: cmp.Or(n.MTU, bridge.MTU), Endpoints: endpoints[n.ID]}
		for _, s := range n.Subnets {
			one.Subnets = append(one.Subnets, s.Prefix)
		}
		h.Networks = append(h.Networks, one)
	}
	healing, err := v.engine.Healing(ctx)
	if err != nil {
		return doctor.Report{}, err
	}
	differences, err := v.engine.Check(ctx)
	if err != nil {
		return doctor.Report{}, err
	}
	h.Daemon = &doctor.Daemon{
		Backend: string(v.network.Backend()), OwnChains: v.network.OwnChains(),
		Differences: differences, Unserved: v.network.Untranslated(), Unpublished: v.network.Unpublished(), UserlandProxy: v.network.UserlandProxy(), Paused: healing.Paused, Since: healing.Since,
	}
	if p := v.network.FastPath(); p.Asked {
		h.Daemon.FastPath = &doctor.FastPath{
			Lack: p.Lack, Links: p.Ports, Slow: slices.Compact(slices.Sorted(maps.Values(p.Slow))),
			Connections: p.Connections, ConnectionsLack: p.ConnectionsLack, SlowLinks: p.SlowLinks,
		}
	}
	return doctor.Examine(h), nil
}

// examine prints what ails this host, without a daemon, as JSON.
func examine(cmd *cobra.Command) error {
	if err := checkPrivileges(); err != nil {
		return err
	}
	h := look.Host(cmd.Context(), nft.Forward{Tag: firewall.TableName("", network.DefaultBridge), Group: network.Group})
	return json.NewEncoder(cmd.OutOrStdout()).Encode(doctor.Examine(h))
}
