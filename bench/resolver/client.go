package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// window is how many questions are open at a time when as much is asked as can be
	// answered: fewer than the least buffer of a socket holds.
	window = 64
	// patience is how long an answer is waited for; then the question is lost.
	patience = 300 * time.Millisecond
	// ids are how many questions can be told apart.
	ids = 1 << 16
	// answerSize is the longest answer that is read.
	answerSize = 512
)

// Sample is what one client found.
type Sample struct {
	// Rate is questions answered in a second.
	Rate float64
	// Times are those from a question to its answer.
	Times []time.Duration
	// Asked are all questions, and Lost those that got no answer.
	Asked, Lost int
}

// client asks one question again and again, of one server, from one socket.
type client struct {
	fd     int
	query  []byte
	sentAt [ids]atomic.Int64 // nanoseconds since began; 0 for not open
	began  time.Time
	out    Sample
	buf    [answerSize]byte
}

// newClient opens the socket in the namespace that the calling thread is in.
func newClient(server netip.AddrPort, query []byte) (*client, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a client of %s: %w", server, err), unix.Close(fd))
	}
	return &client{fd: fd, query: slices.Clone(query), began: time.Now()}, nil
}

func (c *client) close() error { return unix.Close(c.fd) }

// ask sends the question, with the number as its ID.
func (c *client) ask(n int) error {
	id := uint16(n)
	binary.BigEndian.PutUint16(c.query, id)
	if was := c.sentAt[id].Swap(int64(time.Since(c.began))); was != 0 {
		c.out.Lost++ // it was asked 65,536 questions ago
	}
	c.out.Asked++
	for {
		_, err := unix.Write(c.fd, c.query)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECONNREFUSED): // what became of an earlier one
		default:
			return err
		}
	}
}

// hear reads one answer. It says whether there was one, in the time that there is.
func (c *client) hear(flags int) (heard bool, err error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf[:], flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("read an answer: %w", err)
		case n < 12:
			return false, fmt.Errorf("an answer of %d bytes", n)
		}
		// Its code has to be NOERROR, and there has to be a record (RFC 1035, 4.1.1).
		if code, records := c.buf[3]&0xf, binary.BigEndian.Uint16(c.buf[6:]); code != 0 || records == 0 {
			return false, fmt.Errorf("an answer with code %d and %d records", code, records)
		}
		id := binary.BigEndian.Uint16(c.buf[:])
		if sent := c.sentAt[id].Swap(0); sent != 0 {
			c.out.Times = append(c.out.Times, time.Since(c.began)-time.Duration(sent))
			return true, nil
		}
		// One that had been given up.
	}
}

// flood keeps a number of questions open for the time, and so finds how many are
// answered at most.
func (c *client) flood(length time.Duration) (Sample, error) {
	begin := time.Now()
	open := 0
	for n := 0; time.Since(begin) < length; {
		for ; open < window; open++ {
			if err := c.ask(n); err != nil {
				return c.out, err
			}
			n++
		}
		heard, err := c.hear(0)
		if err != nil {
			return c.out, err
		}
		if !heard { // all that are open are lost
			open = 0
			continue
		}
		for heard {
			open--
			if heard, err = c.hear(unix.MSG_DONTWAIT); err != nil {
				return c.out, err
			}
		}
	}
	took := time.Since(begin)
	c.out.Rate = float64(len(c.out.Times)) / took.Seconds()
	c.out.Lost = c.out.Asked - len(c.out.Times) - open
	return c.out, nil
}

// pace asks at a rate, whatever the answers do, so that a server that is too slow for it
// is seen to be.
func (c *client) pace(length time.Duration, rate int) (Sample, error) {
	asked := make(chan error, 1)
	total := int(length.Seconds() * float64(rate))
	var done atomic.Bool
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.askAll(total, time.Second/time.Duration(rate))
		done.Store(true)
		asked <- err
	}()
	begin := time.Now()
	var err error
	for {
		var heard bool
		if heard, err = c.hear(0); err != nil || (!heard && done.Load()) || len(c.out.Times) == total {
			break
		}
	}
	took := time.Since(begin)
	err = errors.Join(err, <-asked)
	c.out.Rate = float64(len(c.out.Times)) / min(took, length).Seconds()
	c.out.Lost = c.out.Asked - len(c.out.Times)
	return c.out, err
}

// askAll asks so many, one in each interval. It sleeps no longer than it has to: the
// thread's timer slack (prctl(2)) is 50 µs otherwise.
func (c *client) askAll(total int, interval time.Duration) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_TIMERSLACK: %w", err)
	}
	begin := time.Now()
	for n := range total {
		for due := begin.Add(time.Duration(n) * interval); ; {
			wait := time.Until(due)
			if wait <= 0 {
				break
			}
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // woken early, it sleeps again
		}
		if err := c.ask(n); err != nil {
			return err
		}
	}
	return nil
}
