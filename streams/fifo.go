package streams

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is the most that is read at once: half of a pipe.
const chunk = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// receive waits for input and gives it to take; no buffer is held while it
// waits. ended says whether a read of nothing is the end. The error is io.EOF at
// the end, os.ErrDeadlineExceeded when interrupted by a deadline.
func receive(raw syscall.RawConn, ended func(fd int) bool, take func(b []byte)) error {
	var buf *[chunk]byte
	var n int
	var readErr error
	err := raw.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		n, readErr = readOnce(int(fd), buf[:])
		if n == 0 && readErr == nil && ended(int(fd)) {
			// What was written and closed between the two calls is there now.
			if n, readErr = readOnce(int(fd), buf[:]); n == 0 && readErr == nil {
				readErr = io.EOF
			}
		}
		if n > 0 || (readErr != nil && !errors.Is(readErr, unix.EAGAIN)) {
			return true
		}
		chunks.Put(buf)
		buf, readErr = nil, nil
		return false
	})
	if buf == nil {
		return err
	}
	if n > 0 {
		take(buf[:n])
	}
	chunks.Put(buf)
	return readErr
}

func readOnce(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// always is for sockets: a read of nothing is the end.
func always(int) bool { return true }

// hungUp says whether the other side is gone for good, as poll(2) has it. For a
// FIFO without a writer this is so only if it has had one since we opened it
// (pipe_poll in fs/pipe.c), while a read returns nothing in both cases.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		// Data that came meanwhile is read first.
		return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 && fds[0].Revents&unix.POLLIN == 0
	}
}

// gone says whether both directions of a connection have ended.
func gone(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// fifo opens a FIFO that must exist, never waiting for the other side.
func fifo(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode()&os.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is not a FIFO", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// past is the deadline that interrupts what waits, noDeadline takes it back.
var past, noDeadline = time.Unix(1, 0), time.Time{}

// output is stdout or stderr: what the container writes.
type output struct {
	name string // as the log has it
	code byte   // as Docker's multiplexed attach has it
	file *os.File
	raw  syscall.RawConn
}

// openOutput opens a FIFO for reading. One that had writers before we came is given one
// more for a moment, or hungUp would not be told that they have gone.
func openOutput(name string, code byte, path string, hadWriters bool) (*output, error) {
	f, err := fifo(path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if hadWriters {
		w, err := fifo(path, os.O_WRONLY)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), f.Close())
		}
		_ = w.Close()
	}
	return newOutput(name, code, f)
}

func newOutput(name string, code byte, f *os.File) (*output, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &output{name, code, f, raw}, nil
}

// rest takes what is in the FIFO now: a container that goes on writing must not
// keep us here.
func (o *output) rest(take func([]byte)) {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	_ = o.raw.Control(func(fd uintptr) {
		size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		for err == nil && size > 0 {
			var n int
			if n, err = readOnce(int(fd), buf[:]); n == 0 {
				return
			}
			take(buf[:n])
			size -= n
		}
	})
}

// input is stdin: what the container reads. Its FIFO can be opened for writing
// only once the shim reads it; until then clients wait.
type input struct {
	path string

	mu     sync.Mutex
	file   *os.File
	ready  chan struct{} // closed with file set, or closed
	closed chan struct{}
}

func newInput(path string) *input {
	return &input{path: path, ready: make(chan struct{}), closed: make(chan struct{})}
}

// open tries until there is a reader or stop is closed. Opening for both reading
// and writing would succeed at once, but then what is written and closed before
// the shim comes would be lost.
func (in *input) open(stop <-chan struct{}) error {
	const slowest = 50 * time.Millisecond
	for wait := time.Millisecond; ; wait = min(wait*2, slowest) {
		f, err := fifo(in.path, os.O_WRONLY)
		if err == nil {
			in.set(f)
			return nil
		}
		if !errors.Is(err, unix.ENXIO) {
			in.close()
			return fmt.Errorf("open stdin: %w", err)
		}
		select {
		case <-stop:
			return nil
		case <-in.closed:
			return nil
		case <-time.After(wait):
		}
	}
}

// set gives the input its file.
func (in *input) set(f *os.File) {
	in.mu.Lock()
	defer in.mu.Unlock()
	select {
	case <-in.closed:
		_ = f.Close()
	default:
		in.file = f
		close(in.ready)
	}
}

// get is the file, nil before it is open and after it is closed.
func (in *input) get() *os.File {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.file
}

// close is for good; a write that waits fails.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	select {
	case <-in.closed:
		return
	default:
	}
	close(in.closed)
	if in.file == nil {
		close(in.ready)
		return
	}
	_ = in.file.Close()
	in.file = nil
}

func (in *input) isClosed() bool {
	select {
	case <-in.closed:
		return true
	default:
		return false
	}
}
