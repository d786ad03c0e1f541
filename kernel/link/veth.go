package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h: an ifinfomsg with attributes
// that describe the other end.
const vethInfoPeer = 1

// Veth is a pair of links: one here, its peer in another namespace.
type Veth struct {
	Name string
	// MAC is the hardware address of the end here; nil for a random one. A bridge
	// whose own address nobody set takes on the lowest of its ports'
	// (br_stp_recalculate_bridge_id), which those who know it by its old one then
	// lose: one that begins with fe is never that.
	MAC net.HardwareAddr
	// Alias names the owner, at most MaxAlias bytes.
	Alias string
	// Group is the device group of the end here.
	Group uint32
	// MTU of both ends in bytes; 0 is the kernel's 1500.
	MTU int
	// Bridge that the end here is a port of; empty for none. With its index in
	// BridgeIndex the name is only for messages.
	Bridge      string
	BridgeIndex int
	PeerName    string
	// PeerMAC is the peer's hardware address; nil for a random one.
	PeerMAC net.HardwareAddr
	// PeerNS is where the peer is born; nil for here.
	PeerNS *os.File
	// Hairpin lets the bridge send a frame back out of the port it came in by.
	Hairpin bool
	// Fixed tells the bridge that PeerMAC is behind the port, and has it learn nothing
	// else there: no frame of any kind brings it another sender.
	Fixed bool
	// Up brings the end here up.
	Up bool
}

// CreateVeth makes the pair in one request, each end in its place: it is never
// moved, renamed or changed after. A name that is taken gives
// errdefs.ErrAlreadyExists, a bridge that is full errdefs.ErrResourceExhausted, one
// that is absent errdefs.ErrNotFound. On failure nothing is left.
func (h *Handle) CreateVeth(v Veth) error {
	if err := errors.Join(checkName(v.Name), checkName(v.PeerName), checkAlias(v.Alias)); err != nil {
		return err
	}
	if v.BridgeIndex == 0 && v.Bridge != "" {
		var err error
		if v.BridgeIndex, err = h.index(v.Bridge); err != nil {
			return err
		}
	}
	err := h.created(h.apply(change{"create veth " + v.Name, v.request()}), Link{Name: v.Name, Kind: "veth", MAC: v.MAC})
	switch {
	case errdefs.IsUnavailable(err):
		return fmt.Errorf("this kernel has no veth links (CONFIG_VETH, module veth): %w", err)
	case err != nil:
		return full(v.Bridge, err)
	case v.Alias == "" && !v.Hairpin && !v.Fixed:
		return nil
	}
	// The kernel heeds neither at birth. It does not go along in the same system
	// call: were the name taken, it would mark another's link as ours. What a crash
	// in between leaves is known by its group.
	r := newLink(unix.RTM_NEWLINK, 0, v.Name, false)
	if v.Alias != "" {
		r.attr(unix.IFLA_IFALIAS, []byte(v.Alias))
	}
	if v.Hairpin {
		hairpin(r)
	}
	err = h.apply(change{"set alias and hairpin mode of " + v.Name, r})
	if err == nil && v.Fixed {
		err = h.FixMAC(v.Name, v.PeerMAC)
	}
	if err != nil {
		return errors.Join(err, h.Delete(v.Name))
	}
	return nil
}

// PlaceVeth gives the end here of a pair that is there already, and down, what
// CreateVeth would have given it: all but names, the peer's own and the device group.
func (h *Handle) PlaceVeth(v Veth) error {
	if err := errors.Join(checkName(v.Name), checkAlias(v.Alias)); err != nil {
		return err
	}
	if v.BridgeIndex == 0 && v.Bridge != "" {
		var err error
		if v.BridgeIndex, err = h.index(v.Bridge); err != nil {
			return err
		}
	}
	r := newLink(unix.RTM_SETLINK, 0, v.Name, false)
	if v.Alias != "" {
		r.attr(unix.IFLA_IFALIAS, []byte(v.Alias))
	}
	if v.MAC != nil {
		r.attr(unix.IFLA_ADDRESS, v.MAC)
	}
	if v.MTU != 0 {
		r.uint32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.BridgeIndex != 0 {
		r.uint32(unix.IFLA_MASTER, uint32(v.BridgeIndex))
	}
	todo := []change{{"place veth " + v.Name, r}}
	if v.Hairpin { // by itself: the kernel looks for the port before it makes it one
		todo = append(todo, change{"set hairpin mode of " + v.Name, hairpin(newLink(unix.RTM_NEWLINK, 0, v.Name, false))})
	}
	if err := h.apply(todo...); err != nil {
		return full(v.Bridge, err)
	}
	if v.Fixed {
		return h.FixMAC(v.Name, v.PeerMAC)
	}
	return nil
}

// stickyNeighbour is NTF_STICKY of linux/neighbour.h.
const stickyNeighbour = 1 << 6

// FixMAC tells the bridge that the hardware address is behind the port, wherever frames
// with it come from, that it is to learn of no other there, and that the port does not
// lead to a root bridge (`bridge fdb replace … master static sticky`, `bridge link set …
// learning off root_block on`).
//
// A static address that is not sticky moves for good to the port that the next frame
// with it comes in by (br_fdb_update, net/bridge/br_fdb.c). Kernels before 4.20 do not
// know sticky ones, and pass the word over.
func (h *Handle) FixMAC(port string, mac net.HardwareAddr) error {
	index, err := h.index(port)
	if err != nil {
		return err
	}
	r := &request{typ: unix.RTM_NEWNEIGH, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE}
	r.body = append(r.body, unix.AF_BRIDGE, 0, 0, 0) // struct ndmsg
	r.body = binary.NativeEndian.AppendUint32(r.body, uint32(index))
	r.body = binary.NativeEndian.AppendUint16(r.body, unix.NUD_NOARP)
	r.body = append(r.body, unix.NTF_MASTER|stickyNeighbour, 0)
	return h.apply(
		change{"have the bridge learn nothing from port " + port, portFlag(newLink(unix.RTM_NEWLINK, 0, port, false), unix.IFLA_BRPORT_LEARNING, 0)},
		change{"have no root bridge behind port " + port, portFlag(newLink(unix.RTM_NEWLINK, 0, port, false), unix.IFLA_BRPORT_PROTECT, 1)},
		change{fmt.Sprintf("tell the bridge that %s is behind port %s", mac, port), r.attr(unix.NDA_LLADDR, mac)})
}

// request is the pair's RTM_NEWLINK.
func (v Veth) request() *request {
	r := newLink(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, v.Name, v.Up).
		uint32(unix.IFLA_GROUP, v.Group)
	oneQueue(r)
	if v.MAC != nil {
		r.attr(unix.IFLA_ADDRESS, v.MAC)
	}
	if v.MTU != 0 {
		r.uint32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.BridgeIndex != 0 {
		r.uint32(unix.IFLA_MASTER, uint32(v.BridgeIndex))
	}
	return r.nest(unix.IFLA_LINKINFO, func() {
		r.text(unix.IFLA_INFO_KIND, "veth")
		r.nest(unix.IFLA_INFO_DATA, func() { r.nest(vethInfoPeer, func() { v.peer(r) }) })
	})
}

// peer appends what describes the other end.
func (v Veth) peer(r *request) {
	oneQueue(r.ifinfo(0, 0, 0).text(unix.IFLA_IFNAME, v.PeerName))
	if v.MTU != 0 {
		r.uint32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.PeerMAC != nil {
		r.attr(unix.IFLA_ADDRESS, v.PeerMAC)
	}
	if v.PeerNS != nil {
		r.uint32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS.Fd()))
	}
}

// oneQueue asks for one queue each way. By itself the kernel makes one for each
// CPU (veth_get_num_queues, Linux 5.17), each with its sysfs entries: a quarter of
// the time it takes to make a pair with two CPUs, and more with more. Only an XDP
// program or GRO on the link would use them; else a veth takes no lock to send and
// the sending CPU's backlog takes the packet in.
func oneQueue(r *request) {
	r.uint32(unix.IFLA_NUM_TX_QUEUES, 1).uint32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// SetHairpin puts a port of a bridge in hairpin mode (`ip link set type bridge_slave
// hairpin on`), which ends when the port leaves its bridge.
func (h *Handle) SetHairpin(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return h.apply(change{"set hairpin mode of " + name, hairpin(newLink(unix.RTM_NEWLINK, 0, name, false))})
}

func hairpin(r *request) *request { return portFlag(r, unix.IFLA_BRPORT_MODE, 1) }

// portFlag sets one flag of a bridge's port.
func portFlag(r *request, flag uint16, value byte) *request {
	return r.nest(unix.IFLA_LINKINFO, func() {
		r.text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		r.nest(unix.IFLA_INFO_SLAVE_DATA, func() { r.attr(flag, []byte{value}) })
	})
}
