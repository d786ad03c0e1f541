package look

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/if_link.h, and BR_STATE_FORWARDING of linux/if_bridge.h.
const (
	brportState    = 1
	brportIsolated = 33

	forwarding = 3
)

// ports reads what bridges do with their ports: whether they forward, and to whom. Not by
// sysfs, which shows the network namespace of whoever mounted it.
func (r reader) ports() error {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return fmt.Errorf("list the ports of bridges: %w", err)
	}
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg {
			continue
		}
		index := int(int32(binary.NativeEndian.Uint32(m[4:])))
		attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED == unix.IFLA_PROTINFO {
				r.port(index, a.Value)
			}
		}
	}
	return nil
}

func (r reader) port(index int, info []byte) {
	attrs, err := nl.ParseRouteAttr(info)
	if err != nil {
		return
	}
	for i := range r.n.Links {
		l := &r.n.Links[i]
		if l.Index != index || l.Master == 0 {
			continue
		}
		for _, a := range attrs {
			switch {
			case len(a.Value) == 0:
			case a.Attr.Type == brportState:
				l.Blocked = a.Value[0] != forwarding && l.Up
			case a.Attr.Type == brportIsolated:
				l.Isolated = a.Value[0] != 0
			}
		}
	}
}
