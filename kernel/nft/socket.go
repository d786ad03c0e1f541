package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/internal/openfiles"
)

// bufferSize is what a socket may queue in each direction. With the default of
// 208 KiB, 5,000 rules are refused (EMSGSIZE) and some 1,000 errors are lost
// (ENOBUFS).
const bufferSize = 8 << 20

// NewSocket opens a netlink socket to the firewall of the current network
// namespace, which it stays in wherever it is passed. A table with an owner
// belongs to the socket, not to the process: whoever holds it can change the
// table, and the table is an orphan when the last holder has closed it.
func NewSocket() (*os.File, error) {
	if err := faultpoint.Here("nft.socket"); err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if why := openfiles.Why(err); why != "" {
		return nil, fmt.Errorf("open a netfilter socket: %s: %w", why, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w; is the kernel's nf_tables there?", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind the netfilter socket: %w", err), unix.Close(fd))
	}
	if err := configure(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "nfnetlink"), nil
}

func configure(fd int) error {
	// Forced, because net.core.wmem_max is small; without CAP_NET_ADMIN there
	// is no firewall to change either.
	for _, opt := range []struct{ forced, plain int }{
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
	} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.forced, bufferSize)
		if err != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.plain, bufferSize)
		}
		if err != nil {
			return fmt.Errorf("size the netfilter socket's buffers: %w", err)
		}
	}
	// The kernel's words on an error, and no copy of what it was about.
	for _, opt := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1); err != nil {
			return fmt.Errorf("set up the netfilter socket: %w", err)
		}
	}
	return nil
}

// socket sends and receives on a shared file. nf_tables does what it is sent
// before the send returns, so that every answer is there to be read by then and
// nothing ever waits.
type socket struct {
	raw interface {
		Control(f func(fd uintptr)) error
	}
	buf []byte
}

// call runs f with the file descriptor and returns f's error.
func (s *socket) call(f func(fd int) error) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// send sends one datagram, of however many messages.
func (s *socket) send(b []byte) error {
	return s.call(func(fd int) error {
		grown := false
		for {
			err := unix.Sendto(fd, b, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EMSGSIZE) && !grown:
				grown = true
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(b)+4096); err != nil {
					return fmt.Errorf("a batch of %d bytes is over the socket's buffer: %w", len(b), err)
				}
			default:
				return err
			}
		}
	})
}

// receive reads one datagram that is there already. It returns EAGAIN when there
// is none and ENOBUFS when some were lost. What it returns is good until the next
// call.
func (s *socket) receive() ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, 64<<10)
	}
	var n int
	err := s.call(func(fd int) error {
		for {
			var err error
			// MSG_TRUNC returns the whole length of what was cut.
			n, _, err = unix.Recvfrom(fd, s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if n > len(s.buf) {
		return nil, fmt.Errorf("netfilter answer of %d bytes is over %d", n, len(s.buf))
	}
	return s.buf[:n], nil
}

// drain throws away answers that nobody read: a holder before us may have died
// between asking and reading.
func (s *socket) drain() error {
	for {
		_, err := s.receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS):
		case errors.Is(err, unix.EAGAIN):
			return nil
		default:
			return fmt.Errorf("drain the netfilter socket: %w", err)
		}
	}
}

// reply is the kernel's answer to one message.
type reply struct {
	seq    uint32
	errno  unix.Errno
	detail string
}

// replies reads every acknowledgement that is there. lost says that the kernel
// could not queue all of them.
func (s *socket) replies() (out []reply, lost bool, err error) {
	for {
		b, err := s.receive()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return out, lost, nil
		case errors.Is(err, unix.ENOBUFS):
			lost = true
			continue
		case err != nil:
			return nil, false, err
		}
		for _, m := range messages(b) {
			if m.typ == unix.NLMSG_ERROR && len(m.body) >= 4 {
				out = append(out, parseReply(m))
			}
		}
	}
}

// parseReply reads a struct nlmsgerr and the extended acknowledgement behind it
// (include/uapi/linux/netlink.h).
func parseReply(m message) reply {
	r := reply{seq: m.seq, errno: unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))}
	const extAck = 4 + unix.NLMSG_HDRLEN
	if m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.body) < extAck {
		return r
	}
	attributes(m.body[extAck:], func(typ uint16, val []byte) {
		if typ == unix.NLMSGERR_ATTR_MSG {
			r.detail = cString(val)
		}
	})
	return r
}
