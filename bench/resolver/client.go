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
	// messageSize is the longest question or answer.
	messageSize = 512
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
	batch  batch
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
	c := &client{fd: fd, query: slices.Clone(query), began: time.Now()}
	c.batch.prepare()
	return c, nil
}

func (c *client) close() error { return unix.Close(c.fd) }

// ask sends the question as often, with the numbers from n on as its ID.
func (c *client) ask(n, times int) error {
	for i := range times {
		id := uint16(n + i)
		question := c.batch.question(i, c.query)
		binary.BigEndian.PutUint16(question, id)
		if was := c.sentAt[id].Swap(int64(time.Since(c.began))); was != 0 {
			c.out.Lost++ // it was asked 65,536 questions ago
		}
		c.out.Asked++
	}
	return c.batch.send(c.fd, times)
}

// hear reads the answers that there are, and waits for one. It says how many there were in the time
// that there is.
func (c *client) hear() (heard int, err error) {
	n, err := c.batch.receive(c.fd)
	if err != nil {
		return 0, fmt.Errorf("read an answer: %w", err)
	}
	for i := range n {
		b := c.batch.answer(i)
		if len(b) < 12 {
			return 0, fmt.Errorf("an answer of %d bytes", len(b))
		}
		// Its code has to be NOERROR, and there has to be a record (RFC 1035, 4.1.1).
		if code, records := b[3]&0xf, binary.BigEndian.Uint16(b[6:]); code != 0 || records == 0 {
			return 0, fmt.Errorf("an answer with code %d and %d records", code, records)
		}
		id := binary.BigEndian.Uint16(b)
		if sent := c.sentAt[id].Swap(0); sent != 0 { // or one that had been given up
			c.out.Times = append(c.out.Times, time.Since(c.began)-time.Duration(sent))
			heard++
		}
	}
	if n > 0 && heard == 0 {
		return c.hear()
	}
	return heard, nil
}

// flood keeps a number of questions open for the time, and so finds how many are
// answered at most.
func (c *client) flood(length time.Duration) (Sample, error) {
	begin := time.Now()
	open := 0
	for n := 0; time.Since(begin) < length; {
		if err := c.ask(n, window-open); err != nil {
			return c.out, err
		}
		n, open = n+window-open, window
		heard, err := c.hear()
		if err != nil {
			return c.out, err
		}
		open -= heard
		if heard == 0 { // all that are open are lost
			open = 0
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
		var heard int
		if heard, err = c.hear(); err != nil || (heard == 0 && done.Load()) || len(c.out.Times) == total {
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
		if err := c.ask(n, 1); err != nil {
			return err
		}
	}
	return nil
}
