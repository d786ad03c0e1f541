package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/internal/panics"
)

const (
	// queryBurst queries are read of one socket before the next has its turn.
	queryBurst = 32
	// maxConnections of one sandbox at a time.
	maxConnections = 64
	// idleTime is how long a connection may be silent (RFC 7766, 6.2.3).
	idleTime = 10 * time.Second
	// crowdedTime is how long connections wait for which there is no descriptor. In that
	// time crowdedRate more are taken from a sandbox that has too many.
	crowdedTime = 100 * time.Millisecond
	crowdedRate = 100
	// quietTime is between two lines in the log on the same.
	quietTime = 10 * time.Second
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
	n, err := t.datagrams.read(v.udp)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return
	case err != nil:
		if boundTo(v.udp).Port() == 0 {
			t.lost(v, err)
		}
		return // else an ICMP error of an answer's
	}
	begun, direct := time.Now(), 0
	for i := range n {
		packet := t.datagrams.packet(i)
		if answer := t.direct(v, packet); len(answer) > 0 {
			t.datagrams.answer(i, answer)
			direct++
		} else if packet != nil {
			t.query(v, i, packet)
		}
	}
	if direct > 0 {
		t.queries.countDirect(direct, time.Since(begun)/time.Duration(n))
	}
	t.datagrams.flush(v.udp)
}

// direct answers what is asked as a rule; nothing for what is not. The answer is where
// the next one has its room.
func (t *resolvers) direct(v *served, packet []byte) (answer []byte) {
	var err error
	defer func() {
		if err != nil {
			answer = nil
		}
	}()
	defer panics.Catch(&err)
	return t.dns.AppendAnswer(t.datagrams.room(), v.id, packet)
}

// query answers the i-th datagram that was read, or has others asked.
func (t *resolvers) query(v *served, i int, packet []byte) {
	answer, ahead := t.answer(v, packet, dns.UDP)
	if answer != nil {
		t.datagrams.answer(i, answer)
	}
	if ahead == nil {
		return
	}
	from := t.datagrams.sender(i)
	v.live.Add(1)
	go func() {
		defer v.live.Done()
		answer := t.forward(v, ahead)
		if v.ctx.Err() == nil {
			_ = unix.Sendto(v.udp, answer, unix.MSG_DONTWAIT, from)
		}
	}()
}

// answer and forward are the resolver's own. What a packet does to it ends neither the
// process nor what others have of it.
func (t *resolvers) answer(v *served, packet []byte, by dns.Transport) (answer []byte, ahead *dns.Query) {
	var err error
	defer func() {
		if err != nil {
			answer, ahead = nil, nil
		}
	}()
	defer panics.Catch(&err)
	begun := time.Now()
	answer, ahead = t.dns.Answer(v.id, packet, by)
	if answer != nil {
		t.queries.count(FromNames, answer, time.Since(begun))
	}
	return answer, ahead
}

func (t *resolvers) forward(v *served, ahead *dns.Query) (answer []byte) {
	var err error
	defer func() {
		if err != nil {
			answer = ahead.Fail()
		}
	}()
	begun := time.Now()
	defer func() {
		source := FromServers
		if ahead.Cached() {
			source = FromCache
		}
		t.queries.count(source, answer, time.Since(begun))
	}()
	defer panics.Catch(&err)
	return t.dns.Forward(v.ctx, ahead)
}

// lost gives a sandbox's sockets up of which one is none any more: a container that
// may administer its network can destroy them (SOCK_DESTROY of sock_diag(7)), and they
// would be readable for ever. Its names stay; list does not have it, so that whoever
// mends the difference opens others. mu is held.
func (t *resolvers) lost(v *served, err error) {
	t.logger.Warn("a container's resolver has lost a socket, which was destroyed inside the container", "container", v.id, "err", err)
	v.gone = true
	if err := t.unpoll(v); err != nil {
		t.logger.Warn("give a resolver up", "container", v.id, "err", err)
	}
}

// park leaves connections to the sandbox waiting for a while. mu is held.
func (t *resolvers) park(v *served, while time.Duration) {
	if err := t.poller.remove(v.tcp); err != nil {
		return // it goes
	}
	v.parked = true
	time.AfterFunc(while, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !v.parked || t.served[v.key] != v {
			return
		}
		v.parked = false
		if err := t.poller.add(v.tcp, v.key|tcpBit); err != nil {
			t.lost(v, err)
		}
	})
}

func (t *resolvers) accept(v *served) {
	for range acceptBurst {
		fd, _, err := unix.Accept4(v.tcp, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			if now := time.Now(); now.Sub(t.warned) > quietTime {
				t.warned = now
				t.logger.Error("no room for a connection to a resolver", "container", v.id, "err", err)
			}
			t.park(v, crowdedTime)
			return
		case err != nil:
			t.lost(v, err)
			return
		}
		f := os.NewFile(uintptr(fd), "query")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.logger.Warn("accept a connection to a resolver", "container", v.id, "err", err)
			continue
		}
		crowded := v.track(conn)
		go func() {
			defer v.live.Done()
			t.converse(v, conn)
			v.mu.Lock()
			delete(v.conns, conn)
			v.mu.Unlock()
			_ = conn.Close()
		}()
		if crowded {
			t.park(v, crowdedTime/crowdedRate)
			return
		}
	}
}

// track counts the connection. Where there are too many, the one that has asked
// nothing for longest is closed for it (RFC 7766, 6.2.3): connections that only wait
// bar nobody's way. It says whether one was.
func (v *served) track(conn net.Conn) (crowded bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if crowded = len(v.conns) >= maxConnections; crowded {
		var idlest net.Conn
		for c, since := range v.conns {
			if idlest == nil || since.Before(v.conns[idlest]) {
				idlest = c
			}
		}
		delete(v.conns, idlest)
		_ = idlest.Close()
	}
	v.conns[conn] = time.Now()
	v.live.Add(1)
	return crowded
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
		v.asked(conn)
		answer, ahead := t.answer(v, packet, dns.TCP)
		if ahead != nil {
			answer = t.forward(v, ahead)
		}
		if answer == nil || v.deadline(conn) != nil {
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(answer)), uint16(len(answer)))
		if _, err := conn.Write(append(out, answer...)); err != nil {
			return
		}
		// One whose next query is there already would go on until the runtime takes
		// the processor away, 10 ms later, from each of them in turn.
		runtime.Gosched()
	}
}

// asked notes that the connection is of use.
func (v *served) asked(conn net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.conns[conn]; there {
		v.conns[conn] = time.Now()
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
