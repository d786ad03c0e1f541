package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/network"
)

// front is the name that the daemon answers to, which decides what it is without
// flags: Fairlead's own, or as near as can be what a dockerd is.
type front bool

const (
	asFairlead front = false
	asDockerd  front = true
)

// dockerSocket is where Docker's clients look.
const dockerSocket = "unix:///var/run/docker.sock"

// dockerBridge is the default network's, where nobody else has it.
const dockerBridge = "docker0"

// chooseBridge names the default network's bridge of a dockerd that was told of none:
// docker0, unless there is one that Docker left, or that another dockerd has; that
// one is left alone. What a daemon with this EXEC_ROOT has chosen stays chosen.
func (c *Config) chooseBridge(flags *pflag.FlagSet) {
	if c.front != asDockerd || c.BridgeName != dockerBridge || flags.Changed("bridge-name") {
		return
	}
	var saved struct {
		BridgeName string `json:"bridge-name"`
	}
	if raw, err := os.ReadFile(savedSettings(c.ExecRoot)); err == nil && json.Unmarshal(raw, &saved) == nil && saved.BridgeName != "" {
		c.BridgeName = saved.BridgeName
		return
	}
	names := []string{dockerBridge, network.DefaultBridge}
	for i := 1; i < 100; i++ {
		names = append(names, fmt.Sprintf("fairlead%d", i))
	}
	for _, name := range names {
		if _, err := net.InterfaceByName(name); err != nil {
			c.BridgeName = name
			return
		}
	}
}

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
		c.Group, c.PIDFile, c.BridgeName, c.LiveRestore = "docker", "/var/run/docker.pid", dockerBridge, false
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
