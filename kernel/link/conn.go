package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

const (
	// dumpAttempts bounds how often a dump is repeated that a change cut across.
	dumpAttempts = 20
	// repeats bounds how often what may be done twice is asked for when the answer is lost.
	repeats = 3
)

// errUnheard says that the kernel may have done what it was asked for: the answer is
// lost. The kernel loses one when it has no memory for it (ENOBUFS of netlink(7)).
var errUnheard = errors.New("the answer is lost")

// conn is one rtnetlink socket. Several requests go to the kernel in one system
// call and are answered in order; calls take turns.
type conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
}

// buffers to receive in: the kernel's datagrams are 32 KiB at most. They are
// shared, for most handles live no longer than one container's start.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// dial opens a socket in the calling thread's namespace, for the events of
// groups too if there are any.
func dial(groups ...int) (*conn, error) {
	if err := faultpoint.Here("link.socket"); err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	c := &conn{fd: fd}
	// NETLINK_GET_STRICT_CHK (Linux 4.20) makes the kernel heed a dump's filters.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1); err != nil {
			return nil, errors.Join(fmt.Errorf("set up rtnetlink socket: %w", err), c.close())
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind rtnetlink socket: %w", err), c.close())
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to rtnetlink events: %w", err), c.close())
		}
	}
	return c, nil
}

func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// answer is what the kernel said to one request.
type answer struct {
	replies []packet
	err     error
}

// do sends the requests in one system call and returns an answer to each. The
// kernel works through all of them, whatever became of those before. The error is
// about the socket, not about a request. Requests whose answers are lost are made
// again, unless they must not find done what they are to do: then the error is
// errUnheard.
func (c *conn) do(reqs ...*request) (answers []answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	once := slices.ContainsFunc(reqs, func(r *request) bool { return r.flags&unix.NLM_F_EXCL != 0 })
	for range repeats {
		if answers, err = c.doOnce(reqs...); once || !errors.Is(err, errUnheard) {
			break
		}
	}
	return answers, err
}

func (c *conn) doOnce(reqs ...*request) ([]answer, error) {
	if c.fd < 0 {
		return nil, os.ErrClosed
	}
	first := c.seq + 1
	answers := make([]answer, len(reqs))
	left := len(reqs)
	var out []byte
	for i, r := range reqs {
		c.seq++
		if answers[i].err = r.fault(""); answers[i].err != nil {
			left--
			continue
		}
		out = append(out, r.encode(c.seq, unix.NLM_F_REQUEST|unix.NLM_F_ACK)...)
	}
	if left == 0 {
		return answers, nil
	}
	if err := c.send(out); err != nil {
		return nil, err
	}
	if err := reqs[0].fault(".unheard"); err != nil {
		return nil, &unheard{err}
	}
	for left > 0 {
		packets, err := c.receive()
		if err != nil {
			return nil, &unheard{err}
		}
		for _, p := range packets {
			i := int(p.seq - first)
			if i < 0 || i >= len(answers) {
				continue // left from a call that failed half-way
			}
			if p.typ == unix.NLMSG_ERROR {
				answers[i].err = p.failure()
				left--
				continue
			}
			answers[i].replies = append(answers[i].replies, p)
		}
	}
	return answers, nil
}

// unheard is why an answer was lost.
type unheard struct{ err error }

func (u *unheard) Error() string   { return "receive from rtnetlink: " + u.err.Error() }
func (u *unheard) Unwrap() []error { return []error{u.err, errUnheard} }

// one sends one request, and returns its reply if there is one.
func (c *conn) one(r *request) (packet, error) {
	answers, err := c.do(r)
	if err != nil {
		return packet{}, err
	}
	if len(answers[0].replies) == 0 {
		return packet{}, answers[0].err
	}
	return answers[0].replies[0], answers[0].err
}

// dump asks for a whole list. A list that changed while it was read can lack
// entries that were there all the time; the kernel says so (NLM_F_DUMP_INTR), and
// it is read again.
func (c *conn) dump(r *request) ([]packet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil, os.ErrClosed
	}
	return whole(func() ([]packet, bool, error) { return c.dumpOnce(r) })
}

// whole reads a list until it is not torn.
func whole(read func() (all []packet, torn bool, err error)) ([]packet, error) {
	for range dumpAttempts {
		all, torn, err := read()
		if err != nil || !torn {
			return all, err
		}
	}
	return nil, fmt.Errorf("the list changed each of the %d times it was read: %w", dumpAttempts, errdefs.ErrUnavailable)
}

func (c *conn) dumpOnce(r *request) (all []packet, torn bool, err error) {
	c.seq++
	switch err := r.fault(".dump"); {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("receive from rtnetlink: %w", err)
	}
	if err := c.send(r.encode(c.seq, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)); err != nil {
		return nil, false, err
	}
	for {
		packets, err := c.receive()
		if errors.Is(err, unix.ENOBUFS) {
			return nil, true, nil // a part was lost
		}
		if err != nil {
			return nil, false, fmt.Errorf("receive from rtnetlink: %w", err)
		}
		for _, p := range packets {
			if p.seq != c.seq {
				continue
			}
			torn = torn || p.flags&unix.NLM_F_DUMP_INTR != 0
			switch p.typ {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				err := p.failure()
				if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
					return nil, true, nil
				}
				return all, torn, err
			default:
				all = append(all, p)
			}
		}
	}
}

func (c *conn) send(b []byte) error {
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("send to rtnetlink: %w", err)
			}
			return nil
		}
	}
}

// receive reads one datagram from the kernel.
func (c *conn) receive() ([]packet, error) {
	buf, _ := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, buf[:], nil, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not the kernel
		}
		if flags&unix.MSG_TRUNC != 0 {
			return nil, unix.EMSGSIZE
		}
		return parsePackets(append([]byte(nil), buf[:n]...))
	}
}

// packet is one netlink message from the kernel.
type packet struct {
	typ, flags uint16
	seq        uint32
	body       []byte
}

func parsePackets(b []byte) ([]packet, error) {
	var all []packet
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return nil, fmt.Errorf("rtnetlink message of %d bytes in %d: %w", size, len(b), unix.EBADMSG)
		}
		all = append(all, packet{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			body:  b[unix.NLMSG_HDRLEN:size],
		})
		b = b[min(align(size), len(b)):]
	}
	return all, nil
}

// failure reads the error of an NLMSG_ERROR or NLMSG_DONE; nil is success.
func (p packet) failure() error {
	if len(p.body) < 4 {
		return fmt.Errorf("short rtnetlink answer: %w", unix.EBADMSG)
	}
	code := int32(binary.NativeEndian.Uint32(p.body))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	offset := 4
	if p.typ == unix.NLMSG_ERROR {
		offset += unix.NLMSG_HDRLEN // the request's header, capped by NETLINK_CAP_ACK
	}
	if p.flags&unix.NLM_F_ACK_TLVS != 0 && len(p.body) > offset {
		if text, ok := parseAttrs(p.body[offset:])[unix.NLMSGERR_ATTR_MSG]; ok {
			return fmt.Errorf("%w (%s)", errno, text.text())
		}
	}
	return errno
}
