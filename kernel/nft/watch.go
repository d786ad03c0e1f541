package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

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
	changed chan struct{}
}

// Watch opens a Watcher, which ends with ctx. Changes by the socket of that netlink
// port do not count, and neither do those of sets' elements.
func Watch(ctx context.Context, but uint32) (*Watcher, error) {
	f, err := NewSocket()
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &Watcher{file: f, changed: make(chan struct{}, 1)}
	err = (&socket{raw: raw}).call(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch nf_tables: %w", err), f.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer stop()
		w.read(raw, but)
	}()
	return w, nil
}

// Changed delivers a value after changes, one for however many.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

func (w *Watcher) read(raw interface {
	Read(f func(fd uintptr) bool) error
}, but uint32,
) {
	buf := make([]byte, 64<<10)
	for {
		var n int
		var err error
		closed := raw.Read(func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		})
		switch {
		case closed != nil:
			return
		case errors.Is(err, unix.ENOBUFS): // some were lost
		case err != nil:
			return
		case !counts(buf[:n], but):
			continue
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// counts says that one of the messages is of another's change of a table, a chain or
// a rule. The kernel notes in each whose socket it was (nf_tables_rule_notify and
// the like in net/netfilter/nf_tables_api.c).
func counts(b []byte, but uint32) bool {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			break
		}
		switch binary.NativeEndian.Uint16(b[4:]) & 0xff {
		case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
			if binary.NativeEndian.Uint32(b[12:]) != but {
				return true
			}
		}
		b = b[min(align(n), len(b)):]
	}
	return false
}
