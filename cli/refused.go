package cli

import (
	"fmt"

	"github.com/spf13/pflag"
)

// refusedFlag is a flag of docker's that cannot be obeyed: it is known, to be refused
// with what to do in its place rather than as a misspelling.
type refusedFlag struct{ name, why string }

func (f refusedFlag) String() string { return "" }

func (f refusedFlag) Type() string { return "string" }

func (f refusedFlag) Set(string) error { return fmt.Errorf("it is not supported: %s", f.why) }

// refuse makes flags known. switches are those that take no value.
func refuse(fl *pflag.FlagSet, flags map[string]string, switches ...string) {
	for name, why := range flags {
		fl.Var(refusedFlag{name, why}, name, "not supported: "+why)
		fl.Lookup(name).Hidden = true
	}
	for _, name := range switches {
		fl.Lookup(name).NoOptDefVal = "true"
	}
}

const (
	windowsOnly = "it is for Windows"
	clusterOnly = "this is one host, no cluster"
)

// refuseCreate makes known what run and create cannot do.
func refuseCreate(fl *pflag.FlagSet) {
	refuse(fl, map[string]string{
		"cpu-count": windowsOnly + "; --cpus limits processors", "cpu-percent": windowsOnly + "; --cpus limits processors",
		"io-maxbandwidth": windowsOnly + "; --device-read-bps and --device-write-bps limit devices",
		"io-maxiops":      windowsOnly + "; --device-read-iops and --device-write-iops limit devices",
		"kernel-memory":   "the kernel has no such limit any more; --memory has it in",
		"use-api-socket":  "mount the daemon's socket by -v where a container is to control the host",
	}, "use-api-socket")
}

// refuseGlobal makes docker's flags known that go before any command.
func refuseGlobal(fl *pflag.FlagSet) {
	const silent = "this program keeps no log; `fairlead daemon --debug` has the daemon say more"
	for _, f := range []struct{ name, letter, why string }{
		{"context", "c", otherWords["context"]}, {"debug", "D", silent}, {"log-level", "l", silent},
	} {
		fl.VarP(refusedFlag{f.name, f.why}, f.name, f.letter, "not supported: "+f.why)
		fl.Lookup(f.name).Hidden = true
	}
	fl.Lookup("debug").NoOptDefVal = "true"
}

// otherWords are docker's commands that are not here, and the way out.
var otherWords = map[string]string{
	"swarm": clusterOnly, "node": clusterOnly, "service": clusterOnly, "stack": clusterOnly, "secret": clusterOnly, "config": clusterOnly,
	"compose":    "docker-compose and `docker compose` work with DOCKER_HOST=" + defaultHost,
	"context":    "name the daemon by -H or " + hostVariable,
	"plugin":     "there are no plugins",
	"buildx":     "`fairlead build` says how images come about",
	"builder":    "`fairlead build` says how images come about",
	"manifest":   "use another tool, as skopeo or crane",
	"trust":      "signatures are not looked at; name an image by its digest",
	"checkpoint": "containers cannot be frozen to disk; `fairlead pause` halts them",
}
