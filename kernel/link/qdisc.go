package link

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// tcmsg is the length of struct tcmsg (linux/rtnetlink.h), and where the interface's index
// is in it.
const tcmsg, tcmsgIndex = 20, 4

// Intakes are the interfaces at which tc(8) has something to say of what comes in: those
// with a qdisc of the kind ingress or clsact.
func (h *Handle) Intakes() (map[int]bool, error) {
	packets, err := h.c.dump(&request{typ: unix.RTM_GETQDISC, body: make([]byte, tcmsg)})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", classify(err))
	}
	out := make(map[int]bool)
	for _, p := range packets {
		if len(p.body) < tcmsg {
			continue
		}
		switch parseAttrs(p.body[tcmsg:])[unix.TCA_KIND].text() {
		case "ingress", "clsact":
			out[int(int32(binary.NativeEndian.Uint32(p.body[tcmsgIndex:])))] = true
		}
	}
	return out, nil
}
