package daemon

import (
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/store"
)

// openStore opens what must survive the daemon. A store that is damaged learns who it
// was from what stands.
func (d *daemon) openStore() (*store.Store, error) {
	bridge := d.cfg.BridgeName
	if bridge == "" {
		bridge = network.DefaultBridge
	}
	return store.OpenWith(d.cfg.DataRoot, store.Options{
		Identity: func() string { return network.FormerID(d.cfg.ExecRoot, bridge) },
		Log:      d.log,
	})
}
