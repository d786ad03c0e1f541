// Package link makes, reads and deletes network links, their addresses and
// routes, over rtnetlink: bridges, veth pairs, and what a sandbox needs inside.
//
// A Handle works in one namespace. Requests that belong together go to the kernel
// in one system call, for the rtnetlink lock is what limits how fast containers
// start. Three rules come from measurement (Linux 6.18): a veth pair is born in
// place, with its peer's name, address and namespace and with its master, for
// moving or renaming a link costs 30 ms; links are deleted by dropping their
// namespace or by group, for one alone costs 30 ms too; and a dump that a change
// cut across is read again, here and nowhere else.
//
// Packet filters, sysctls and what links are for have no place here.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// MaxAlias is the length of the longest alias, in bytes.
const MaxAlias = 255

// skipStats (RTEXT_FILTER_SKIP_STATS, Linux 4.5) leaves counters out of answers.
const skipStats = 1 << 3

// Handle is a namespace's rtnetlink socket. Its methods may be called from
// several goroutines, which take turns.
type Handle struct {
	c *conn

	watching sync.Mutex
	watcher  *Watcher
	stop     func()
}

// Open opens a handle in the namespace, which may be closed after; nil means the
// calling thread's own. The handle keeps the namespace alive.
func Open(ns *os.File) (*Handle, error) {
	var c *conn
	err := netns.Do(ns, func() (err error) {
		c, err = dial()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Handle{c: c}, nil
}

// Close closes the socket. A second Close does nothing.
func (h *Handle) Close() error {
	h.watching.Lock()
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
	h.watching.Unlock()
	return h.c.close()
}

// Link is what the kernel has under a name.
type Link struct {
	Index int
	Name  string
	// Kind is bridge, veth, …; empty for hardware and lo.
	Kind  string
	Alias string
	// Group is the device group, 0 if none was set (`ip link set group`).
	Group uint32
	MAC   net.HardwareAddr
	MTU   int
	// MasterIndex is the bridge's (or bond's) index, 0 if it has none.
	MasterIndex int
	// Up is the administrative state, not the carrier's.
	Up bool
	// NoARP says that it neither asks nor answers who has an address (`ip link set arp off`).
	NoARP bool
	// Running says that it is up and its carrier is on.
	Running bool
	// PeerNamespace is the namespace that a veth's other end is in, as this one numbers
	// others (IFLA_LINK_NETNSID, see NamespaceID); -1 where that is this one, or it has
	// no other end.
	PeerNamespace int
	Addrs         []netip.Prefix
	// Overheard says that somebody wants to see what is for others, too, as captures do;
	// a bridge that wants it of its port does not count.
	Overheard bool
	// Queued says that what goes out is put in a queue, as hardware does and tc(8) has
	// other links do.
	Queued bool
	// XDP says that a program of that kind is there.
	XDP bool

	// info and afSpec are the kernel's IFLA_LINKINFO and IFLA_AF_SPEC.
	info, afSpec value
}

// Links returns every link of the namespace with its addresses, by index.
func (h *Handle) Links() ([]Link, error) {
	req := &request{typ: unix.RTM_GETLINK}
	packets, err := h.c.dump(req.ifinfo(0, 0, 0).uint32(unix.IFLA_EXT_MASK, skipStats))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", classify(err))
	}
	addrs, err := h.addrs(0)
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, p := range packets {
		if l, ok := parseLink(p); ok {
			l.Addrs = addrs[l.Index]
			links = append(links, l)
		}
	}
	return links, nil
}

// Link returns the link of that name with its addresses, or errdefs.ErrNotFound.
func (h *Handle) Link(name string) (Link, error) {
	l, err := h.get(name)
	if err != nil {
		return Link{}, err
	}
	addrs, err := h.addrs(l.Index)
	l.Addrs = addrs[l.Index]
	return l, err
}

// get is Link without the addresses.
func (h *Handle) get(name string) (Link, error) {
	if err := checkName(name); err != nil {
		return Link{}, err
	}
	return h.read(newLink(unix.RTM_GETLINK, 0, name, false), name)
}

// read asks for one link; name is for the error.
func (h *Handle) read(req *request, name string) (Link, error) {
	p, err := h.c.one(req.uint32(unix.IFLA_EXT_MASK, skipStats))
	if errors.Is(err, unix.ENODEV) {
		return Link{}, fmt.Errorf("no link %s: %w", name, errdefs.ErrNotFound)
	}
	if err != nil {
		return Link{}, fmt.Errorf("read link %s: %w", name, classify(err))
	}
	l, ok := parseLink(p)
	if !ok {
		return Link{}, fmt.Errorf("read link %s: %w", name, unix.EBADMSG)
	}
	return l, nil
}

// index returns the index of the link of that name.
func (h *Handle) index(name string) (int, error) {
	l, err := h.get(name)
	return l.Index, err
}

// addrs returns the addresses of one link, or of all if index is 0, by link.
func (h *Handle) addrs(index int) (map[int][]netip.Prefix, error) {
	req := &request{typ: unix.RTM_GETADDR, body: make([]byte, 4, 8)}
	req.body = binary.NativeEndian.AppendUint32(req.body, uint32(index))
	packets, err := h.c.dump(req)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", classify(err))
	}
	all := map[int][]netip.Prefix{}
	for _, p := range packets {
		if len(p.body) < unix.SizeofIfAddrmsg {
			continue
		}
		a := parseAttrs(p.body[unix.SizeofIfAddrmsg:])
		// On a point-to-point link IFA_ADDRESS is the other end's.
		v := a[unix.IFA_LOCAL]
		if v == nil {
			v = a[unix.IFA_ADDRESS]
		}
		if prefix, ok := v.prefix(int(p.body[1])); ok {
			i := int(binary.NativeEndian.Uint32(p.body[4:]))
			all[i] = append(all[i], prefix)
		}
	}
	return all, nil
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK. A bridge's own notices about its
// ports come as the same types, of family AF_BRIDGE, and are not about the link.
func parseLink(p packet) (Link, bool) {
	if p.typ != unix.RTM_NEWLINK && p.typ != unix.RTM_DELLINK ||
		len(p.body) < unix.SizeofIfInfomsg || p.body[0] != unix.AF_UNSPEC {
		return Link{}, false
	}
	a := parseAttrs(p.body[unix.SizeofIfInfomsg:])
	l := Link{
		Index:       int(binary.NativeEndian.Uint32(p.body[4:])),
		Up:          binary.NativeEndian.Uint32(p.body[8:])&unix.IFF_UP != 0,
		Running:     binary.NativeEndian.Uint32(p.body[8:])&unix.IFF_RUNNING != 0,
		NoARP:       binary.NativeEndian.Uint32(p.body[8:])&unix.IFF_NOARP != 0,
		Name:        a[unix.IFLA_IFNAME].text(),
		Alias:       a[unix.IFLA_IFALIAS].text(),
		Group:       a[unix.IFLA_GROUP].uint32(),
		MTU:         int(a[unix.IFLA_MTU].uint32()),
		MasterIndex: int(a[unix.IFLA_MASTER].uint32()),
		MAC:         net.HardwareAddr(a[unix.IFLA_ADDRESS]),

		PeerNamespace: -1,

		Queued: queued(a[unix.IFLA_QDISC].text()),
		XDP:    attached(a[unix.IFLA_XDP]),

		info: a[unix.IFLA_LINKINFO], afSpec: a[unix.IFLA_AF_SPEC],
	}
	if id := a[unix.IFLA_LINK_NETNSID]; len(id) == 4 {
		l.PeerNamespace = int(int32(id.uint32()))
	}
	l.Kind = parseAttrs(l.info)[unix.IFLA_INFO_KIND].text()
	l.Overheard = a[unix.IFLA_PROMISCUITY].uint32() > 0
	if _, port := l.Port(); port {
		l.Overheard = a[unix.IFLA_PROMISCUITY].uint32() > 1
	}
	return l, true
}

// queued knows the kinds of qdisc that do not queue: that of a link without hardware, of
// one that is down, and that of a kernel that does not say.
func queued(kind string) bool { return kind != "noqueue" && kind != "noop" && kind != "" }

// attached reads an IFLA_XDP: whether there is a program, of whichever mode.
func attached(xdp value) bool {
	mode := parseAttrs(xdp)[unix.IFLA_XDP_ATTACHED]
	return len(mode) == 1 && mode[0] != 0
}

// checkName refuses what the kernel would, with a reason (dev_valid_name).
func checkName(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r\x00") {
		return fmt.Errorf("invalid link name %q: want 1 to %d bytes with no space, slash or colon: %w", name, unix.IFNAMSIZ-1, errdefs.ErrInvalidArgument)
	}
	return nil
}

func checkAlias(alias string) error {
	if len(alias) > MaxAlias {
		return fmt.Errorf("link alias of %d bytes: the kernel takes %d: %w", len(alias), MaxAlias, errdefs.ErrInvalidArgument)
	}
	return nil
}
