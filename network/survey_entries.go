package network

import (
	"context"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/network/spec"
)

// entries looks at what bridges were told by hand of where containers are: a static entry
// that names another port takes a container's frames there.
func (s *survey) entries() error {
	all, err := s.c.looking.Entries()
	if err != nil {
		return err
	}
	macs := make(map[string]string) // by port
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			macs[e.HostIf] = e.MAC.String()
		}
	}
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			if _, there := s.byName[e.HostIf]; !there {
				continue // that is said already
			}
			for _, entry := range astray(all, e, s.byName[e.Bridge].Index, s.byName[e.HostIf].Index) {
				port := s.byIndex[entry.Port]
				if macs[port] == e.MAC.String() {
					continue // two were given the same
				}
				s.say(finding{
					kind: kindBridge, on: e.MAC.String(), cure: []string{fmt.Sprintf("bridge fdb del %s dev %s master", e.MAC, port)},
					mend: func(context.Context) error { return s.c.mendEntry(a.Sandbox.ID, e.ID) },
				}, "container %s: bridge %s was told that %s is behind %s", a.Sandbox.Name, e.Bridge, e.MAC, port)
			}
		}
	}
	return nil
}

// astray are the entries that lead the endpoint's frames elsewhere.
func astray(all []link.Entry, e spec.Endpoint, bridge, port int) []link.Entry {
	return slices.DeleteFunc(slices.Clone(all), func(entry link.Entry) bool {
		return bridge == 0 || entry.Bridge != bridge || entry.Port == port || entry.MAC.String() != e.MAC.String()
	})
}

// mendEntry has the bridge forget what it was told of the endpoint; on a bridge of the
// host's own, which does not learn where containers are, it is told what is right.
func (c *Controller) mendEntry(sandboxID, endpointID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, e, ok := c.endpointAtRest(sandboxID, endpointID)
	if !ok {
		return errRight
	}
	bridge, err := c.links.Link(e.Bridge)
	if err != nil {
		return err
	}
	port, err := c.links.Link(e.HostIf)
	if err != nil {
		return err
	}
	all, err := c.links.Entries()
	if err != nil {
		return err
	}
	wrong := astray(all, e, bridge.Index, port.Index)
	for _, entry := range wrong {
		if err := c.links.DropEntry(entry); err != nil {
			return err
		}
	}
	if len(wrong) == 0 {
		return errRight
	}
	if want := c.plan.VethStep(a, e); want.Fixed {
		return c.links.FixMAC(e.HostIf, []byte(want.PeerMAC))
	}
	return nil
}
