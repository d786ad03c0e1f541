package daemon

import "reflect"

// front is the name that the daemon answers to, which decides what it is without
// flags: Fairlead's own, or as near as can be what a dockerd is.
type front bool

const (
	asFairlead front = false
	asDockerd  front = true
)

// dockerSocket is where Docker's clients look.
const dockerSocket = "unix:///var/run/docker.sock"

func (f front) configFile() string {
	if f == asDockerd {
		return "/etc/docker/daemon.json"
	}
	return defaultConfigFile
}

// defaultHost is as the help shows it; see Config.settleHosts.
func (f front) defaultHost() string {
	if f == asDockerd {
		return dockerSocket
	}
	return "unix://EXEC_ROOT/fairlead.sock"
}

// defaults are the settings without flags. A dockerd keeps its data where Fairlead
// does, as what Docker left in /var/lib/docker is of no use here.
func (f front) defaults() Config {
	c := defaults()
	if f == asDockerd {
		c.front = f
		c.Group, c.PIDFile, c.BridgeName, c.LiveRestore = "docker", "/var/run/docker.pid", "docker0", false
		c.tlsSettings = dockerTLSDefaults()
	}
	return c
}

// unset says that the file's value leaves the default alone: to dockerd an empty
// string, list or object, and the number 0, are no value.
func (f front) unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Bool, reflect.Pointer:
		return false
	case reflect.Slice, reflect.Map:
		return f == asDockerd && v.Len() == 0
	default:
		return f == asDockerd && v.IsZero()
	}
}
