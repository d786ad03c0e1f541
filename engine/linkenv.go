package engine

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
)

// linkEnvironment is what a linked container's process finds of the others in its
// environment: name, ports, and their own environment, as Docker writes them.
func linkEnvironment(rec Record, targets []target) []string {
	var out []string
	for _, t := range targets {
		host := t.endpoint.Addr4.Addr().String()
		if !t.endpoint.Addr4.IsValid() {
			host = t.endpoint.Addr6.Addr().String()
		}
		out = append(out, linkVariables("/"+rec.Name+"/"+t.alias, t.alias, host, exposed(t.Record), t.Config.Env)...)
	}
	return out
}

// linkVariables are those of one link. Ports must be in order.
func linkVariables(name, alias, host string, ports []spec.ContainerPort, env []string) []string {
	prefix := strings.ReplaceAll(strings.ToUpper(alias), "-", "_")
	url := func(p spec.ContainerPort) string {
		return fmt.Sprintf("%s://%s", p.Proto, net.JoinHostPort(host, portText(p.Port)))
	}
	var out []string
	if len(ports) > 0 {
		out = append(out, prefix+"_PORT="+url(ports[0]))
	}
	for first := 0; first < len(ports); {
		last := lastInRow(ports, first)
		if last > first {
			key := portVariable(prefix, ports[first])
			out = append(out, key+"_START="+url(ports[first]), key+"_END="+url(ports[last]))
		}
		first = last + 1
	}
	for _, p := range ports {
		key := portVariable(prefix, p)
		out = append(out, key+"="+url(p), key+"_ADDR="+host, key+"_PORT="+portText(p.Port), key+"_PROTO="+string(p.Proto))
	}
	out = append(out, prefix+"_NAME="+name)
	for _, kv := range env {
		key, _, found := strings.Cut(kv, "=")
		if found && key != "PATH" && key != "HOME" {
			out = append(out, prefix+"_ENV_"+kv)
		}
	}
	return out
}

func portVariable(prefix string, p spec.ContainerPort) string {
	return prefix + "_PORT_" + strconv.Itoa(int(p.Port)) + "_" + strings.ToUpper(string(p.Proto))
}

// lastInRow is the index of the last of the ports of one protocol that follow each
// other without a gap from first on.
func lastInRow(ports []spec.ContainerPort, first int) int {
	last := first
	for last+1 < len(ports) && ports[last+1].Proto == ports[first].Proto && ports[last+1].Port == ports[last].Port+1 {
		last++
	}
	return last
}
