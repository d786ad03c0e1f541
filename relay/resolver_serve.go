package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/netns"
)

const (
	// queryBurst queries are read of one socket before the next has its turn.
	queryBurst = 16
	// maxConnections of one sandbox at a time; more are refused.
	maxConnections = 64
	// idleTime is how long a connection may be silent (RFC 7766, 6.2.3).
	idleTime = 10 * time.Second
)

// ready serves one readable socket.
func (t *resolvers) ready(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.served[key&^tcpBit]
	if v == nil || t.frozen {
		return
	}
	if key&tcpBit != 0 {
		t.accept(v)
		return
	}
	for range queryBurst {
		n, from, err := unix.Recvfrom(v.udp, t.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // no more, or an ICMP error of an answer's
			return
		case n > len(t.buf) || from == nil:
			continue
		}
		answer, ahead := t.dns.Answer(v.id, t.buf[:n], dns.UDP)
		if answer != nil {
			// Who does not read its answers loses them.
			_ = unix.Sendto(v.udp, answer, unix.MSG_DONTWAIT, from)
		}
		if ahead != nil {
			v.live.Add(1)
			go func() {
				defer v.live.Done()
				answer := t.dns.Forward(v.ctx, ahead)
				if v.ctx.Err() == nil {
					_ = unix.Sendto(v.udp, answer, unix.MSG_DONTWAIT, from)
				}
			}()
		}
	}
}

func (t *resolvers) accept(v *served) {
	for range acceptBurst {
		fd, _, err := unix.Accept4(v.tcp, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			t.logger.Error("no room for a connection to a resolver", "container", v.id, "err", err)
			time.Sleep(10 * time.Millisecond) // it is still there, and would be told of at once
			return
		case err != nil:
			return
		}
		f := os.NewFile(uintptr(fd), "query")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.logger.Warn("accept a connection to a resolver", "container", v.id, "err", err)
			continue
		}
		if !v.track(conn) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer v.live.Done()
			t.converse(v, conn)
			v.mu.Lock()
			delete(v.conns, conn)
			v.mu.Unlock()
			_ = conn.Close()
		}()
	}
}

// track counts the connection; false where there are too many.
func (v *served) track(conn net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.conns) >= maxConnections {
		return false
	}
	v.conns[conn] = struct{}{}
	v.live.Add(1)
	return true
}

// converse answers the queries of one connection, one after the other.
func (t *resolvers) converse(v *served, conn net.Conn) {
	for v.ctx.Err() == nil {
		if v.deadline(conn) != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n > dns.MaxQuery {
			return
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		answer, ahead := t.dns.Answer(v.id, packet, dns.TCP)
		if ahead != nil {
			answer = t.dns.Forward(v.ctx, ahead)
		}
		if answer == nil || v.deadline(conn) != nil {
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(answer)), uint16(len(answer)))
		if _, err := conn.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// deadline gives the connection its time, unless it is being hung up.
func (v *served) deadline(conn net.Conn) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.ctx.Err(); err != nil {
		return err
	}
	return conn.SetDeadline(time.Now().Add(idleTime))
}

// dialer reaches servers from this process's namespace, or from inside one that is
// opened for the moment: an open one would outlive its container.
type dialer struct{}

// Dial implements dns.Dialer.
func (dialer) Dial(ctx context.Context, namespace, network string, server netip.AddrPort) (conn net.Conn, err error) {
	var d net.Dialer
	if namespace == "" {
		return d.DialContext(ctx, network, server.String())
	}
	ns, err := netns.Open(namespace)
	if err != nil {
		return nil, err
	}
	err = netns.Do(ns, func() error {
		// The socket is made here, on this thread, for there is one address.
		conn, err = d.DialContext(ctx, network, server.String())
		return err
	})
	if cerr := ns.Close(); cerr != nil && err == nil {
		err = errors.Join(cerr, conn.Close())
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}
