// Package fdpass carries requests, answers and open file descriptors between
// processes of one machine: a small JSON call protocol over a SOCK_SEQPACKET
// unix socket, with descriptors as SCM_RIGHTS (unix(7)).
//
// It knows nothing of what is asked: no ports, no containers, no processes to
// start.
package fdpass

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/openfiles"
)

const (
	// maxPacketFDs stays under the kernel's SCM_MAX_FD, 253 a message.
	maxPacketFDs = 200
	// maxPacketData leaves room in the default socket buffer (212,992 bytes),
	// where every packet also pays for its kernel structures.
	maxPacketData = 32 << 10
	// maxMessage and maxMessageFDs bound what a peer can make us hold. All ports of a host,
	// of both families and several protocols, are to fit in one message.
	maxMessage    = 256 << 20
	maxMessageFDs = 1 << 20
	// sendTimeout bounds how long a peer that does not read can hold a sender.
	sendTimeout = 30 * time.Second
)

// The first byte of every packet: whether the message goes on in the next one.
const (
	packetLast = 0
	packetMore = 1
)

// Conn carries whole messages, of any length up to 256 MiB and with up to a million
// descriptors, each split over as many packets as it takes. Send may be called
// by several goroutines at once, Receive by one.
type Conn struct {
	conn *net.UnixConn

	sending sync.Mutex
	packet  []byte

	data []byte
	oob  []byte
}

// Dial connects to the socket at path. It fails with errdefs.ErrUnavailable
// when nobody listens there.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("nobody listens on %s: %w (%w)", path, errdefs.ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return NewConn(c.(*net.UnixConn))
}

// checkPath says what "invalid argument" would not: sun_path holds 108 bytes with
// the zero at its end (unix(7)).
func checkPath(path string) error {
	const longest = 107
	if len(path) > longest {
		return fmt.Errorf("socket path %s is %d bytes long, over %d; use a shorter directory: %w", path, len(path), longest, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Listen makes a socket at path that only its owner may open, in place of one
// that a dead process left.
func Listen(path string) (*net.UnixListener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The path outlives this process when the socket is passed to another.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// NewConn wraps an established SOCK_SEQPACKET connection. A peer that is neither
// root nor of our own user is refused with errdefs.ErrPermissionDenied, and the
// connection closed.
func NewConn(c *net.UnixConn) (*Conn, error) {
	if err := checkPeer(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Conn{
		conn: c,
		data: make([]byte, maxPacketData+1),
		oob:  make([]byte, unix.CmsgSpace(4*253)),
	}, nil
}

func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("read the peer's credentials: %w", credErr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("process %d of user %d may not talk to us: %w", cred.Pid, cred.Uid, errdefs.ErrPermissionDenied)
	}
	return nil
}

// Close ends the connection; a Receive that waits returns.
func (c *Conn) Close() error { return c.conn.Close() }

// File returns a copy of the connection's descriptor, to be inherited by
// another process.
func (c *Conn) File() (*os.File, error) { return c.conn.File() }

// Send sends one message. The descriptors stay the caller's. After an error the
// connection is of no more use, for part of the message may have gone.
func (c *Conn) Send(data []byte, fds []int) error {
	if len(data) > maxMessage || len(fds) > maxMessageFDs {
		return fmt.Errorf("message of %d bytes with %d descriptors is over the limit of %d and %d: %w",
			len(data), len(fds), maxMessage, maxMessageFDs, errdefs.ErrInvalidArgument)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	for {
		chunk, batch := data[:min(len(data), maxPacketData)], fds[:min(len(fds), maxPacketFDs)]
		data, fds = data[len(chunk):], fds[len(batch):]
		last := len(data) == 0 && len(fds) == 0
		if err := c.sendPacket(chunk, batch, last); err != nil {
			return errors.Join(fmt.Errorf("send: %w", err), c.conn.Close())
		}
		if last {
			return nil
		}
	}
}

func (c *Conn) sendPacket(chunk []byte, fds []int, last bool) error {
	flag := byte(packetMore)
	if last {
		flag = packetLast
	}
	c.packet = append(append(c.packet[:0], flag), chunk...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := c.conn.WriteMsgUnix(c.packet, oob, nil)
	return err
}

// Receive waits for one message. The descriptors, close-on-exec, are the
// caller's to close. The error is io.EOF when the peer has closed, and
// errdefs.ErrResourceExhausted when this process had no room for all descriptors of the
// message: then it has come without any, and the connection is good for the next.
func (c *Conn) Receive() (data []byte, fds []int, err error) {
	var lost error
	defer func() {
		if err == nil {
			err = lost
		} else {
			data = nil
		}
		if err != nil {
			CloseFDs(fds)
			fds = nil
		}
	}()
	for first := true; ; first = false {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.data, c.oob)
		more, rightsErr := parseRights(c.oob[:oobn])
		fds = append(fds, more...)
		switch {
		case errors.Is(err, io.EOF) && !first:
			return data, fds, io.ErrUnexpectedEOF
		case err != nil:
			return data, fds, err
		case rightsErr != nil:
			return data, fds, fmt.Errorf("parse control message: %w", rightsErr)
		case flags&unix.MSG_TRUNC != 0 || n == 0:
			return data, fds, errors.New("the peer speaks another protocol: packet too long")
		case flags&unix.MSG_CTRUNC != 0 && lost == nil:
			lost = noRoom()
		}
		if lost != nil { // the rest is read, and what came gives its room back
			CloseFDs(fds)
			fds = nil
		}
		data = append(data, c.data[1:n]...)
		if len(data) > maxMessage || len(fds) > maxMessageFDs {
			return data, fds, errors.New("the peer's message is over the limit")
		}
		if c.data[0] == packetLast {
			return data, fds, nil
		}
	}
}

// noRoom says why the kernel kept descriptors of a message back: it truncates them
// (MSG_CTRUNC) at the limit of open files, see scm_detach_fds in net/core/scm.c.
func noRoom() error {
	return fmt.Errorf("%s: %w", openfiles.Why(unix.EMFILE), errdefs.ErrResourceExhausted)
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseFDs closes the descriptors, for those who have no use for what they
// received.
func CloseFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Descriptors returns the files' descriptors for Send, without making them
// blocking as (*os.File).Fd does: O_NONBLOCK belongs to the open file and the
// receiver would see the change. The caller keeps the files open until the
// message is sent (see KeepOpen).
func Descriptors(files ...*os.File) ([]int, error) {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
		}
	}
	return fds, nil
}

// KeepOpen keeps the garbage collector from closing the files before this call.
func KeepOpen(files []*os.File) { runtime.KeepAlive(files) }
