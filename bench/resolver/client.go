package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

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
	// tolerated is how late a question at a rate may be sent without being counted as late.
	tolerated = time.Millisecond
)

// Sample is what one client found.
type Sample struct {
	// Rate is questions answered in a second.
	Rate float64
	// Times are those from before a question is sent until its answer is in the kernel.
	Times []time.Duration
	// Asked are all questions, and Lost those that got no answer.
	Asked, Lost int
	// Late are the questions at a rate that were sent more than a millisecond after they were
	// due, because the client itself did not run, and Latest is how late the worst of them was.
	Late   int
	Latest time.Duration
}

// client asks one question again and again, of one server, from one socket.
type client struct {
	fd     int
	query  []byte
	sentAt [ids]int64 // nanoseconds of CLOCK_REALTIME, as the kernel's stamps; 0 for not open
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
	c := &client{fd: fd, query: slices.Clone(query)}
	c.batch.prepare()
	return c, nil
}

func (c *client) close() error { return unix.Close(c.fd) }

// ask sends the question as often, with the numbers from n on as its ID.
func (c *client) ask(n, times int) error {
	for i := range times {
		c.question(i, n+i)
	}
	return c.batch.send(c.fd, times)
}

// question makes the i-th of those that are sent next the n-th of all.
func (c *client) question(i, n int) {
	binary.BigEndian.PutUint16(c.batch.question(i, c.query), uint16(n))
	c.out.Asked++
	c.sentAt[uint16(n)] = time.Now().UnixNano()
}

// hear reads the answers that there are, and waits for one. It says how many there were in the time
// that there is.
func (c *client) hear() (heard int, err error) {
	for {
		n, err := c.batch.receive(c.fd)
		if err != nil {
			return 0, fmt.Errorf("read an answer: %w", err)
		}
		if heard, err = c.count(n); n == 0 || heard > 0 || err != nil {
			return heard, err
		}
	}
}

// count takes so many answers that were read.
func (c *client) count(n int) (heard int, err error) {
	for i := range n {
		b := c.batch.answer(i)
		if len(b) < 12 {
			return heard, fmt.Errorf("an answer of %d bytes", len(b))
		}
		// Its code has to be NOERROR, and there has to be a record (RFC 1035, 4.1.1).
		if code, records := b[3]&0xf, binary.BigEndian.Uint16(b[6:]); code != 0 || records == 0 {
			return heard, fmt.Errorf("an answer with code %d and %d records", code, records)
		}
		sent := &c.sentAt[binary.BigEndian.Uint16(b)]
		if *sent != 0 { // or one that had been given up
			c.out.Times = append(c.out.Times, time.Duration(c.batch.arrived(i)-*sent))
			*sent = 0
			heard++
		}
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
// is seen to be. What it measures is who answers: one thread does nothing but ask when it is time
// and take what has come, by system calls that Go's scheduler does not know of, and no garbage
// is collected. Of an answer the kernel says when it came, so that it is no matter when that
// thread gets to it; a question that it asks late has its time from when it is sent.
func (c *client) pace(length time.Duration, rate int) (Sample, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Sleep no longer than asked for: the slack is 50 µs otherwise, to which 0 leads back.
	if err := errors.Join(c.batch.stamp(c.fd), unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)); err != nil {
		return c.out, fmt.Errorf("SO_TIMESTAMPNS, PR_SET_TIMERSLACK: %w", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	total := int(length.Seconds() * float64(rate))
	c.out.Times = make([]time.Duration, 0, total)
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	begin := time.Now()
	err := c.askAll(total, begin, time.Second/time.Duration(rate))
	for err == nil && len(c.out.Times) < total {
		var heard int
		if heard, err = c.hear(); heard == 0 {
			break
		}
	}
	c.out.Rate = float64(len(c.out.Times)) / min(time.Since(begin), length).Seconds()
	c.out.Lost = c.out.Asked - len(c.out.Times)
	return c.out, err
}

// askAll asks so many, one in each interval, and takes what comes meanwhile. Those for which it
// is late follow each other at four times the rate: all at once would be another question, and
// at less it would not catch up beside somebody else who has half of its processor.
func (c *client) askAll(total int, begin time.Time, interval time.Duration) error {
	least := interval / 4
	for n, next := 0, time.Duration(0); n < total; {
		if now := time.Since(begin); now >= next {
			c.question(0, n)
			if err := c.batch.sendNow(c.fd); err != nil {
				return fmt.Errorf("send a question: %w", err)
			}
			late := now - time.Duration(n)*interval
			c.out.Latest = max(c.out.Latest, late)
			if late > tolerated {
				c.out.Late++
			}
			n++
			next = max(time.Duration(n)*interval, now+least)
		}
		read, err := c.batch.receiveNow(c.fd)
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		if _, err := c.count(read); err != nil {
			return err
		}
		if wait := next - time.Since(begin); wait > least {
			sleep(wait)
		}
	}
	return nil
}

// sleep is nanosleep(2) past Go's scheduler: it keeps what the thread has of it. It may be shorter.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
