package link

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Counters are what the kernel counts of one link since it was made: packets and bytes
// that it received and sent, with their Ethernet headers as a rule, and packets that it
// lost on the way (struct rtnl_link_stats64, linux/if_link.h).
type Counters struct {
	ReceivedPackets, SentPackets uint64
	ReceivedBytes, SentBytes     uint64
	ReceivedDropped, SentDropped uint64
}

// Counters reads those of every link of the namespace, by name: one dump.
func (h *Handle) Counters() (map[string]Counters, error) {
	req := &request{typ: unix.RTM_GETLINK}
	packets, err := h.c.dump(req.ifinfo(0, 0, 0))
	if err != nil {
		return nil, fmt.Errorf("list the counters of links: %w", classify(err))
	}
	out := make(map[string]Counters, len(packets))
	for _, p := range packets {
		if p.typ != unix.RTM_NEWLINK || len(p.body) < unix.SizeofIfInfomsg {
			continue
		}
		a := parseAttrs(p.body[unix.SizeofIfInfomsg:])
		if c, ok := a[unix.IFLA_STATS64].counters(); ok {
			out[a[unix.IFLA_IFNAME].text()] = c
		}
	}
	return out, nil
}

// counters reads the fields of struct rtnl_link_stats64, in their order.
func (v value) counters() (c Counters, ok bool) {
	for i, field := range []*uint64{
		&c.ReceivedPackets, &c.SentPackets, &c.ReceivedBytes, &c.SentBytes, new(uint64), new(uint64), &c.ReceivedDropped, &c.SentDropped,
	} {
		if len(v) < 8*(i+1) {
			return Counters{}, false
		}
		*field = binary.NativeEndian.Uint64(v[8*i:])
	}
	return c, true
}
