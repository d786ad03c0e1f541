package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead/fairlead/engine"
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
	if _, err := os.Stat(filepath.Join(d.cfg.DataRoot, engine.IdentityFile)); errors.Is(err, fs.ErrNotExist) {
		bridge = "" // no daemon ran with this data root: the bridge is another's
	}
	return store.OpenWith(d.cfg.DataRoot, store.Options{
		Identity: func() string { return network.FormerID(d.cfg.ExecRoot, bridge) },
		Log:      d.log,
	})
}
