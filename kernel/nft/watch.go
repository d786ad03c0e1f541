package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Port is the netlink port of the socket that the changes are made by.
func (c *Conn) Port() (uint32, error) {
	var port uint32
	err := c.sock.call(func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if nl, ok := sa.(*unix.SockaddrNetlink); ok {
			port = nl.Pid
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("netfilter socket: %w", err)
	}
	return port, nil
}

// Watcher tells when programs change tables, chains or rules of nf_tables in the
// network namespace that it was opened in.
type Watcher struct {
	file    *os.File
	sock    socket
	changed chan struct{}
	touched atomic.Bool
}

// Watch opens a Watcher, which ends with ctx. Changes by the socket of that netlink
// port do not count, and neither do those of sets' elements, but in tables that are
// called own.
func Watch(ctx context.Context, but uint32, own string) (*Watcher, error) {
	f, err := NewSocket()
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &Watcher{file: f, sock: socket{raw: raw}, changed: make(chan struct{}, 1)}
	if err = w.member(unix.NETLINK_ADD_MEMBERSHIP); err != nil {
		return nil, errors.Join(fmt.Errorf("watch nf_tables: %w", err), f.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer stop()
		w.read(raw, but, own)
	}()
	return w, nil
}

// Changed delivers a value after changes, one for however many.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Touched says, once, that another socket changed a table that is called own, or may
// have.
func (w *Watcher) Touched() bool { return w.touched.Swap(false) }

func (w *Watcher) read(raw interface {
	Read(f func(fd uintptr) bool) error
}, but uint32, own string,
) {
	buf := make([]byte, 64<<10)
	for {
		var n int
		var err error
		closed := raw.Read(func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		})
		counts, touched := read(buf[:max(n, 0)], but, own)
		switch {
		case closed != nil:
			return
		case errors.Is(err, unix.ENOBUFS): // some were lost
			touched = true
		case err != nil:
			return
		case !counts:
			continue
		}
		if touched {
			w.touched.Store(true)
		}
		w.tell()
	}
}

// tell says that something changed.
func (w *Watcher) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// attrTable is the attribute that names the table, of messages about tables, chains,
// rules, sets and elements alike (linux/netfilter/nf_tables.h).
const attrTable = 1

// read says whether one of the messages is of another's change of a table, a chain or
// a rule, or of anything in our own tables, and whether it was in those. The kernel
// notes in each whose socket it was (nf_tables_rule_notify and the like in
// net/netfilter/nf_tables_api.c).
func read(b []byte, but uint32, own string) (counts, touched bool) {
	for len(b) >= headerLen {
		n := int(binary.NativeEndian.Uint32(b))
		if n < headerLen || n > len(b) {
			break
		}
		rules, elements := false, false
		switch binary.NativeEndian.Uint16(b[4:]) & 0xff {
		case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
			rules = true
		case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET, unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
			elements = true
		}
		if (rules || elements) && binary.NativeEndian.Uint32(b[12:]) != but {
			ours := false
			attributes(b[headerLen:n], func(typ uint16, val []byte) {
				ours = ours || typ == attrTable && own != "" && cString(val) == own
			})
			counts, touched = counts || rules || ours, touched || ours
		}
		b = b[min(align(n), len(b)):]
	}
	return counts, touched
}
