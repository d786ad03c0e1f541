package proxy

import (
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is how many bytes are moved at once. What is more is out of the processor's
	// cache before the other end reads it, and a stalled client holds as much.
	pipeSize = 64 << 10
	// sparePipes are kept for the next connection that sends much.
	sparePipes = 16
)

// pipe is what splice(2) moves pages through from one connection to another.
type pipe struct{ out, in int }

// pipes are those that nobody uses.
type pipes struct {
	mu    sync.Mutex
	spare []*pipe
}

// take returns an empty pipe; nil when there are no descriptors.
func (p *pipes) take() *pipe {
	p.mu.Lock()
	if n := len(p.spare); n > 0 {
		spare := p.spare[n-1]
		p.spare = p.spare[:n-1]
		p.mu.Unlock()
		return spare
	}
	p.mu.Unlock()
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	// Usually it has as many, but not where the user has pipes of more than
	// fs.pipe-user-pages-soft (pipe(7)); with less it is slower.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{out: fds[0], in: fds[1]}
}

// give takes one back, to keep it if it is empty.
func (p *pipes) give(one *pipe, empty bool) {
	p.mu.Lock()
	if empty && len(p.spare) < sparePipes {
		p.spare = append(p.spare, one)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	one.close()
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.spare {
		one.close()
	}
	p.spare = nil
}

func (p *pipe) close() { _, _ = unix.Close(p.in), unix.Close(p.out) }
