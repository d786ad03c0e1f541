package daemon

import (
	"path/filepath"

	"github.com/fairlead/fairlead/kernel/netns"
)

// pinHost pins the daemon's own namespace, which is the host's as far as
// containers in host mode are concerned, and returns the path.
func pinHost(execRoot string) (string, error) {
	path := hostPin(execRoot)
	return path, netns.PinCurrent(path)
}

func unpinHost(execRoot string) error { return netns.RemoveDir(filepath.Dir(hostPin(execRoot))) }
