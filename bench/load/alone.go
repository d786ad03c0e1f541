package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nowait"
)

// alone is the argument that makes an end both of them.
const alone = "alone"

// Alone has one thread be client and server of a kind of load, the server at an address of its own
// in the namespace that to leads to. Nobody is woken then and nobody waits, so that what it takes
// of the processor is what the way itself takes: it repeats where the clock does not.
func (s Space) Alone(ctx context.Context, kind Kind, to netip.AddrPort, server Space, at netip.AddrPort, length time.Duration) (Sample, error) {
	return s.client(ctx, length, alone, string(kind), to.String(), server.Path, at.String(), length.String())
}

// both is one thread that is client and server.
type both struct {
	to       netip.AddrPort
	listener int
	buf      []byte
}

// doAlone is the end that Alone starts: it does a kind of load for the time.
func doAlone(args []string) (s Sample, err error) {
	if len(args) != 5 {
		return s, fmt.Errorf("%d arguments, want a kind, an address, a namespace, an address in it, and a time", len(args))
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return s, err
	}
	at, err := netip.ParseAddrPort(args[3])
	if err != nil {
		return s, err
	}
	length, err := time.ParseDuration(args[4])
	if err != nil {
		return s, err
	}
	ns, err := netns.Open(args[2])
	if err != nil {
		return s, err
	}
	b := &both{to: to, buf: make([]byte, batch)}
	if err := netns.Do(ns, func() (err error) { b.listener, err = listenBeside(at); return err }); err != nil {
		return s, err
	}
	if err := ns.Close(); err != nil {
		return s, err
	}
	do, ok := map[Kind]func() (uint64, error){Connections: b.connection, Requests: b.onOne(MessageSize), Stream: b.onOne(batch)}[Kind(args[0])]
	if !ok {
		return s, fmt.Errorf("no load %q", args[0])
	}
	rest := length / 5
	unused := rest
	if Kind(args[0]) != Connections {
		unused = max(unused, Warm)
	}
	runtime.GC()
	return repeat(do, unused, length-rest)
}

// batch is how many bytes of a stream are sent before they are read: a few segments of the
// largest size, which every receive buffer has room for.
const batch = 48 << 10

// listenBeside listens where another server has the port of every address.
func listenBeside(at netip.AddrPort) (int, error) {
	fd, err := openSocket(at, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(nowait.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, sockaddr(at)), unix.Listen(fd, 16)); err != nil {
		return -1, fmt.Errorf("listen on %s: %w", at, err)
	}
	return fd, nil
}

// repeat does something for a while, after a time that is not counted, and says what a thread
// takes for it.
func repeat(do func() (uint64, error), unused, length time.Duration) (s Sample, err error) {
	var idle time.Duration
	counted := false
	for begun := time.Now(); ; {
		if took := time.Since(begun); !counted && took > unused {
			if idle, err = worked(); err != nil {
				return s, err
			}
			counted, s.Done = true, 0
		} else if took > unused+length && counted {
			break
		}
		n, err := do()
		if err != nil {
			return s, err
		}
		s.Done += n
	}
	s.Work, err = worked()
	s.Work -= idle
	return s, err
}

// connection opens one, asks, answers and resets it.
func (b *both) connection() (uint64, error) {
	client, server, err := b.pair()
	if err != nil {
		return 0, err
	}
	if err := b.across(client, server, 1); err != nil {
		return 0, err
	}
	if err := b.across(server, client, 1); err != nil {
		return 0, err
	}
	return 1, errors.Join(reset(client), reset(server))
}

// pair opens a connection and returns both of its ends.
func (b *both) pair() (client, server int, err error) {
	if client, err = dial(b.to); err != nil {
		return -1, -1, err
	}
	if server, err = nowait.Accept(b.listener, unix.SOCK_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("accept: %w", err)
	}
	return client, server, nowait.SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// onOne sends so many bytes on one connection, and a message back: what it counts are messages,
// or bytes of more than one.
func (b *both) onOne(size int) func() (uint64, error) {
	client, server := -1, -1
	return func() (n uint64, err error) {
		if client < 0 {
			if client, server, err = b.pair(); err != nil {
				return 0, err
			}
		}
		if err := b.across(client, server, size); err != nil {
			return 0, err
		}
		if size > MessageSize {
			return uint64(size), nil
		}
		return 1, b.across(server, client, size)
	}
}

// across sends bytes from one end to the other.
func (b *both) across(from, to, size int) error {
	return errors.Join(writeFull(from, b.buf[:size]), readFull(to, b.buf[:size]))
}
