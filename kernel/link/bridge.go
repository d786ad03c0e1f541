package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// bridgePorts is how many ports a Linux bridge takes: BR_MAX_PORTS, less port 0.
const bridgePorts = 1023

// Bridge is a bridge as it is wanted.
type Bridge struct {
	Name string
	// Alias names its owner, at most MaxAlias bytes.
	Alias string
	// MAC keeps the bridge from taking the lowest of its ports'; nil leaves it to
	// the kernel.
	MAC net.HardwareAddr
	// MTU in bytes; 0 leaves it to the kernel, which then follows the ports.
	MTU int
	// Group is the device group.
	Group uint32
	Addrs []netip.Prefix
}

// CreateBridge makes a bridge, gives it its addresses and brings it up. Spanning
// tree is off and multicast snooping as the kernel has it. A link of that name
// gives errdefs.ErrAlreadyExists; on failure nothing is left.
func (h *Handle) CreateBridge(b Bridge) error {
	if err := errors.Join(checkName(b.Name), checkAlias(b.Alias)); err != nil {
		return err
	}
	create := newLink(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b.Name, false).
		uint32(unix.IFLA_GROUP, b.Group)
	if b.MAC != nil {
		create.attr(unix.IFLA_ADDRESS, b.MAC)
	}
	create.nest(unix.IFLA_LINKINFO, func() {
		create.text(unix.IFLA_INFO_KIND, "bridge")
		create.nest(unix.IFLA_INFO_DATA, func() { create.attr(unix.IFLA_BR_MULTI_BOOLOPT, deafToLinkLocal) })
	})
	err := h.created(h.apply(change{fmt.Sprintf("create bridge %s", b.Name), create}), Link{Name: b.Name, Kind: "bridge", MAC: b.MAC})
	if errdefs.IsUnavailable(err) {
		return fmt.Errorf("this kernel has no bridges (CONFIG_BRIDGE, module bridge): %w", err)
	}
	if err != nil {
		return err
	}
	index, err := h.index(b.Name)
	if err == nil {
		err = h.apply(b.settle(Link{Index: index})...)
	}
	if err != nil {
		return errors.Join(err, h.Delete(b.Name))
	}
	return nil
}

// deafToLinkLocal keeps a bridge from learning where a sender is by frames to the groups
// that are for bridges alone (LLDP, EAPOL): no rule sees these before (br_handle_frame in
// net/bridge/br_input.c), so that a neighbour's hardware address could be claimed by one.
// It is struct br_boolopt_multi with the option no_linklocal_learn on (Linux 5.0).
var deafToLinkLocal = binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 1), 1)

// EnsureBridge makes the bridge, or mends what differs in the one there is:
// address, MTU, group, hardware address, state. Further addresses are left alone,
// save the same address with another prefix length. A link of that name that is
// no bridge, or whose alias is not b.Alias, is somebody else's and gives
// errdefs.ErrConflict.
func (h *Handle) EnsureBridge(b Bridge) (created bool, err error) {
	have, err := h.Link(b.Name)
	if errdefs.IsNotFound(err) {
		return true, h.CreateBridge(b)
	}
	if err != nil {
		return false, err
	}
	if err := b.conflict(have); err != nil {
		return false, err
	}
	return false, h.apply(b.settle(have)...)
}

// CheckBridge says whether EnsureBridge would take the link that has the name; one
// that is absent is fine. It changes nothing.
func (h *Handle) CheckBridge(b Bridge) error {
	have, err := h.get(b.Name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.conflict(have)
}

// conflict refuses a link that is somebody else's. One of our group without an
// alias is ours: the alias is set after the birth, and a crash in between leaves
// it so.
func (b Bridge) conflict(have Link) error {
	halfMade := have.Alias == "" && b.Group != 0 && have.Group == b.Group
	switch {
	case have.Kind != "bridge":
		return fmt.Errorf("link %s is there and is no bridge: delete it or choose another bridge name: %w", b.Name, errdefs.ErrConflict)
	case have.Alias == b.Alias || halfMade:
		return nil
	case have.Alias == "":
		return fmt.Errorf("bridge %s is there and was made by another program: delete it or choose another bridge name: %w", b.Name, errdefs.ErrConflict)
	}
	return fmt.Errorf("bridge %s belongs to %q: choose another bridge name: %w", b.Name, have.Alias, errdefs.ErrConflict)
}

// settle returns what has to be done to make the bridge there is the one wanted.
// The MTU is set after creation on purpose: only then does the bridge keep it when
// ports come and go (br_change_mtu in net/bridge, Linux 4.17).
func (b Bridge) settle(have Link) []change {
	var todo []change
	for _, p := range have.Addrs {
		if slices.ContainsFunc(b.Addrs, func(w netip.Prefix) bool { return w.Addr() == p.Addr() && w != p }) {
			todo = append(todo, delAddr(b.Name, have.Index, p))
		}
	}
	set := newLink(unix.RTM_SETLINK, 0, b.Name, true)
	bare := len(set.body)
	if have.Alias != b.Alias {
		set.attr(unix.IFLA_IFALIAS, []byte(b.Alias))
	}
	if b.MTU != 0 && have.MTU != b.MTU {
		set.uint32(unix.IFLA_MTU, uint32(b.MTU))
	}
	if b.MAC != nil && have.MAC != nil && !bytes.Equal(b.MAC, have.MAC) {
		set.attr(unix.IFLA_ADDRESS, b.MAC)
	}
	if have.Name != "" && have.Group != b.Group {
		set.uint32(unix.IFLA_GROUP, b.Group)
	}
	if !have.Up || len(set.body) > bare {
		todo = append(todo, change{"set up bridge " + b.Name, set})
	}
	// Once it is up: see Configure.
	for _, p := range b.Addrs {
		if !slices.Contains(have.Addrs, p) {
			todo = append(todo, addAddr(b.Name, have.Index, p))
		}
	}
	return todo
}

// full explains the error of a bridge that takes no more ports.
func full(bridge string, err error) error {
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("bridge %s is full: a Linux bridge takes %d ports; use another network: %w", bridge, bridgePorts, err)
	}
	return err
}
