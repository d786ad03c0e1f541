package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// Warm is how long a connection that is used for a while is so before the clock starts: the
// kernel raises its window, both ends' caches fill, and who takes long connections another way
// has seen that it is one.
const Warm = 50 * time.Millisecond

// dial opens one connection whose calls wait.
func dial(to netip.AddrPort) (fd int, err error) {
	if fd, err = openSocket(to, 0); err != nil {
		return -1, err
	}
	if err := nowait.Connect(fd, to); err != nil {
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	// Not before: a signal of Go's scheduler would end a connect that has a limit (signal(7)).
	limit := unix.NsecToTimeval(int64(patience))
	return fd, errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
}

// readFull fills buf.
func readFull(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := nowait.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// writeFull sends all of buf.
func writeFull(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := nowait.Write(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		buf = buf[max(n, 0):]
	}
	return nil
}

// requests asks one thing after the other on one connection.
func requests(to netip.AddrPort, length time.Duration) (Sample, error) {
	fd, err := dial(to)
	if err != nil {
		return Sample{}, err
	}
	var message, back [MessageSize]byte
	message[0] = asksEcho
	times := make([]time.Duration, 0, 1<<18)
	done := uint64(0)
	counted := time.Now().Add(Warm)
	for end := counted.Add(length); ; {
		start := time.Now()
		// On a machine that is busy with other things, none may have been counted yet.
		if start.After(end) && (len(times) > 0 || start.After(end.Add(patience))) {
			break
		}
		if err := errors.Join(writeFull(fd, message[:]), readFull(fd, back[:])); err != nil {
			return Sample{}, fmt.Errorf("request %d to %s: %w", len(times), to, err)
		}
		done++
		if start.After(counted) {
			times = append(times, time.Since(start))
		}
	}
	if len(times) == 0 {
		return Sample{}, fmt.Errorf("no request to %s was answered in %s", to, length)
	}
	took := time.Since(counted)
	return Sample{Rate: float64(len(times)) / took.Seconds(), Done: done, P50: quantile(times, 0.5), P99: quantile(times, 0.99)}, reset(fd)
}

// stream sends for a while and asks how much came.
func stream(to netip.AddrPort, length time.Duration) (Sample, error) {
	fd, err := dial(to)
	if err != nil {
		return Sample{}, err
	}
	buf := make([]byte, 128<<10)
	buf[0] = asksTaking
	var sent, before uint64
	var counted time.Time
	for start := time.Now(); counted.IsZero() || sent == before || time.Since(counted) < length; {
		if err := writeFull(fd, buf); err != nil {
			return Sample{}, fmt.Errorf("stream to %s: %w", to, err)
		}
		sent += uint64(len(buf))
		if now := time.Now(); counted.IsZero() && now.Sub(start) >= Warm {
			counted, before = now, sent
		}
	}
	var came [8]byte
	if err := errors.Join(unix.Shutdown(fd, unix.SHUT_WR), readFull(fd, came[:])); err != nil {
		return Sample{}, fmt.Errorf("end of the stream to %s: %w", to, err)
	}
	took := time.Since(counted)
	if n := binary.BigEndian.Uint64(came[:]); n != sent {
		return Sample{}, fmt.Errorf("of %d bytes %d came to %s", sent, n, to)
	}
	return Sample{Rate: float64(sent-before) / took.Seconds(), Done: sent}, nowait.Close(fd)
}

// quantile is the value that q of the times do not exceed (nearest rank).
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[max(int(q*float64(len(times))+0.5)-1, 0)]
}
