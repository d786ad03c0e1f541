package daemon

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/engine"
)

// reloadable are the keys that take effect while the daemon runs.
var reloadable = []string{
	"debug", "log-level", "labels", "live-restore", "shutdown-timeout",
	"registry-mirrors", "insecure-registries", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts",
	"features", "runtimes", "default-runtime",
}

// reload takes over a configuration that was read again, or was refused with err, which
// changes nothing. What it says of reloadable keys holds from now on, as if the daemon
// were started now; of others it is said that they wait for that.
func (d *daemon) reload(fresh Config, err error) {
	if err != nil {
		d.log.Error("the configuration is not reloaded", "operation", "reload", "err", err)
		return
	}
	waiting := d.cfg.adopt(fresh)
	if len(waiting) > 0 {
		d.log.Warn("these settings take effect when the daemon starts again", "settings", strings.Join(waiting, ", "))
	}
	if level, err := logLevel(d.cfg.LogLevel); err == nil {
		d.level.Set(level)
	}
	d.engine.Reload(d.cfg.engineSettings(), d.cfg.reloaded())
	d.log.Info("reloaded the configuration")
}

// adopt takes over what may be reloaded, and names what else differs.
func (c *Config) adopt(fresh Config) (waiting []string) {
	mine, theirs := make(map[string]reflect.Value), make(map[string]reflect.Value)
	settable(reflect.ValueOf(c).Elem(), mine)
	settable(reflect.ValueOf(&fresh).Elem(), theirs)
	for _, key := range slices.Sorted(maps.Keys(mine)) {
		switch {
		case slices.Contains(reloadable, key):
			mine[key].Set(theirs[key])
		case !reflect.DeepEqual(mine[key].Interface(), theirs[key].Interface()):
			waiting = append(waiting, key)
		}
	}
	return waiting
}

// engineSettings are those that the engine can be given while it runs.
func (c *Config) engineSettings() engine.Settings {
	return engine.Settings{
		ShutdownTimeout: c.shutdownTime(), Registries: c.engineRegistries(),
		Labels: c.Labels, Debug: c.Debug || c.LogLevel == "debug", LiveRestore: c.LiveRestore,
	}
}

// reloaded are the attributes of Docker's reload event.
func (c *Config) reloaded() map[string]string {
	list := func(v []string) string {
		if v == nil {
			return "[]"
		}
		raw, _ := json.Marshal(v) // of strings: always
		return string(raw)
	}
	return map[string]string{
		"debug":                            strconv.FormatBool(c.Debug),
		"labels":                           list(c.Labels),
		"live-restore":                     strconv.FormatBool(c.LiveRestore),
		"shutdown-timeout":                 strconv.Itoa(c.ShutdownTimeout),
		"insecure-registries":              list(c.Insecure),
		"registry-mirrors":                 list(c.Mirrors),
		"allow-nondistributable-artifacts": list(c.Nondistributable),
		"max-concurrent-downloads":         strconv.Itoa(c.MaxDownloads),
		"max-concurrent-uploads":           strconv.Itoa(c.MaxUploads),
		"max-download-attempts":            strconv.Itoa(c.DownloadAttempts),
		"features":                         fmt.Sprint(c.Features),
		"default-runtime":                  c.Runtime,
		"default-shm-size":                 strconv.FormatInt(int64(c.ShmSize), 10),
		"default-ipc-mode":                 c.IpcMode,
		"default-cgroupns-mode":            c.CgroupnsMode,
		"runtimes":                         "runc:{runc []}",
	}
}
