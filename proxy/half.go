package proxy

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

const (
	// scratchSize bytes are read at once while a connection sends little.
	scratchSize = 32 << 10
	// turns is how often one direction is served before other connections have theirs.
	turns = 16
)

// half is one direction.
type half struct {
	src, dst *int
	// readable and writable are what the kernel said last of src and dst: it says so once.
	readable, writable bool
	// hung says that src has ended, behind what can still be read of it.
	hung bool
	// ended says that the end was read, done that it was passed on.
	ended, done bool
	// left was read and is not written yet.
	left []byte
	// full is how often in a row there was more than was read at once; then a pipe takes
	// over, in which there are held bytes.
	full int
	pipe *pipe
	held int
	// carried are the bytes that were written.
	carried int64
	// prompt says that what is small is not held back any more.
	prompt bool
}

// copy copies in one direction until nothing can be read or written, and then passes the
// end on; more says that there is more, and that others should have their turn first.
func (h *half) copy(c *carrier) (more bool, err error) {
	for range turns {
		switch {
		case h.done:
			return false, nil
		case len(h.left) > 0 || h.held > 0:
			if !h.writable {
				return false, nil
			}
			if err := h.flush(); err != nil {
				return false, err
			}
		case h.ended:
			h.done = true
			// ENOTCONN: the other side is gone already, and the other direction reports it.
			if err := nowait.Shutdown(*h.dst, unix.SHUT_WR); err != nil && !errors.Is(err, unix.ENOTCONN) {
				return false, err
			}
		case !h.readable:
			return false, nil
		default:
			if err := h.fill(c); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// fullReads in a row, and a pipe takes over.
const fullReads = 2

// fill reads once, into the pipe if there is one.
func (h *half) fill(c *carrier) error {
	if h.pipe == nil && h.full >= fullReads {
		h.pipe = c.pipes.take() // none for want of descriptors: without it, then
	}
	if h.pipe != nil {
		n, err := nowait.Splice(*h.src, h.pipe.in, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		h.held = max(n, 0)
		return h.read(n, err, pipeSize)
	}
	n, err := nowait.Read(*h.src, c.scratch)
	if n <= 0 || err != nil {
		return h.read(n, err, len(c.scratch))
	}
	if n == len(c.scratch) {
		h.full++
	} else {
		h.full = 0
	}
	if err := h.read(n, nil, len(c.scratch)); err != nil {
		return err
	}
	written := 0
	if h.writable {
		if written, err = h.write(c.scratch[:n]); err != nil {
			return err
		}
	}
	h.left = slices.Clone(c.scratch[written:n])
	return nil
}

// read takes note of what came of reading.
func (h *half) read(n int, err error, asked int) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		h.readable = false
	case errors.Is(err, unix.EINTR):
	case err != nil:
		return err
	case n == 0:
		h.ended = true
	case h.pipe == nil && n < asked && !h.hung:
		// Nothing is left (epoll(7), question 9), and what comes is told of.
		h.readable = false
	}
	return nil
}

// flush writes what was read before.
func (h *half) flush() error {
	if h.held > 0 {
		h.hurry()
		written, err := h.wrote(nowait.Splice(h.pipe.out, *h.dst, h.held, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE))
		h.held -= written
		return err
	}
	n, err := h.write(h.left)
	if h.left = h.left[n:]; len(h.left) == 0 {
		h.left = nil
	}
	return err
}

// write writes once.
func (h *half) write(b []byte) (int, error) {
	h.hurry()
	return h.wrote(nowait.Write(*h.dst, b))
}

// hurry has small segments sent at once. Nagle's algorithm (RFC 896) holds them back while
// what came before is not acknowledged, so that the first needs nothing.
func (h *half) hurry() {
	if h.carried > 0 && !h.prompt {
		h.prompt = true
		_ = nowait.SetsockoptInt(*h.dst, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // it goes without, too
	}
}

// wrote takes note of what came of writing.
func (h *half) wrote(n int, err error) (int, error) {
	n = max(n, 0)
	h.carried += int64(n)
	switch {
	case errors.Is(err, unix.EAGAIN):
		h.writable = false
		return n, nil
	case errors.Is(err, unix.EINTR):
		return n, nil
	}
	return n, err
}
