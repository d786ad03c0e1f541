package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Entry is one that somebody gave a bridge by hand: that a hardware address is behind a
// port (`bridge fdb add … master static`), or the bridge's own (`… permanent`).
type Entry struct {
	Bridge, Port int // indexes
	MAC          net.HardwareAddr
	VLAN         uint16 // 0 for none

	state uint16
}

// sizeofNdMsg is the size of struct ndmsg.
const sizeofNdMsg = 12

// Entries are those of all bridges of the namespace; what bridges learned by themselves is
// left out. The kernel has no way to ask for less.
func (h *Handle) Entries() ([]Entry, error) {
	body := make([]byte, sizeofNdMsg)
	body[0] = unix.AF_BRIDGE
	packets, err := h.c.dump(&request{typ: unix.RTM_GETNEIGH, body: body})
	if err != nil {
		return nil, fmt.Errorf("list the entries of bridges: %w", classify(err))
	}
	var out []Entry
	for _, p := range packets {
		if len(p.body) < sizeofNdMsg {
			continue
		}
		a := parseAttrs(p.body[sizeofNdMsg:])
		e := Entry{
			Bridge: int(a[unix.NDA_MASTER].uint32()), Port: int(binary.NativeEndian.Uint32(p.body[4:])),
			MAC: net.HardwareAddr(a[unix.NDA_LLADDR]), state: binary.NativeEndian.Uint16(p.body[8:]),
		}
		if vlan := a[unix.NDA_VLAN]; len(vlan) == 2 {
			e.VLAN = binary.NativeEndian.Uint16(vlan)
		}
		// One that is sticky, or said to be learned elsewhere, frames do not move either,
		// and they keep it young.
		byHand := e.state&(unix.NUD_NOARP|unix.NUD_PERMANENT) != 0 || p.body[10]&(stickyNeighbour|unix.NTF_EXT_LEARNED) != 0
		if e.Bridge != 0 && len(e.MAC) == 6 && byHand {
			out = append(out, e)
		}
	}
	return out, nil
}

// DropEntry takes one away; one that is not there is no error.
func (h *Handle) DropEntry(e Entry) error {
	r := &request{typ: unix.RTM_DELNEIGH}
	r.body = append(r.body, unix.AF_BRIDGE, 0, 0, 0)
	r.body = binary.NativeEndian.AppendUint32(r.body, uint32(e.Port))
	r.body = binary.NativeEndian.AppendUint16(r.body, e.state)
	flags := byte(unix.NTF_MASTER)
	if e.Port == e.Bridge {
		flags = unix.NTF_SELF
	}
	r.body = append(r.body, flags, 0)
	r.attr(unix.NDA_LLADDR, e.MAC)
	if e.VLAN != 0 {
		r.attr(unix.NDA_VLAN, binary.NativeEndian.AppendUint16(nil, e.VLAN))
	}
	err := h.apply(change{fmt.Sprintf("have a bridge forget where %s is", e.MAC), r})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
