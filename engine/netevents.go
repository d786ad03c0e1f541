package engine

import (
	"slices"

	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// emitNetwork tells what happened to a network, which has to be there still, and, if
// container is not "", to which container on it. A network that is not there any more
// has nothing told of it.
func (e *Engine) emitNetwork(container, ref string, action apievents.Action) {
	if slices.Contains(pseudo, ref) {
		e.emitNetworkOf(container, spec.Network{ID: e.pseudoID(ref), Name: ref, Driver: pseudoDriver(ref)}, action)
	} else if n, err := e.cfg.Network.Network(ref); err == nil {
		e.emitNetworkOf(container, n, action)
	}
}

func (e *Engine) emitNetworkOf(container string, n spec.Network, action apievents.Action) {
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	if container != "" {
		attributes["container"] = container
	}
	e.emit(apievents.NetworkEventType, action, n.ID, attributes)
}

// emitEndpoints tells that a container was put on networks, or taken off them. One
// without any is on the one that is called none.
func (e *Engine) emitEndpoints(container string, action apievents.Action, endpoints []spec.Endpoint) {
	for _, endpoint := range endpoints {
		e.emitNetwork(container, endpoint.NetworkID, action)
	}
	if len(endpoints) == 0 {
		e.emitNetwork(container, network.NetworkNone, action)
	}
}

// pseudoDriver is the driver that Docker has for one of the modes that look like
// networks.
func pseudoDriver(name string) string {
	if name == network.NetworkNone {
		return "null"
	}
	return name
}
