// Package proxy copies between a client of a published port and the container:
// the userland proxy, for traffic that the kernel does not translate (loopback
// addresses, an IPv6 host address in front of an IPv4 container, hosts without
// firewall rules).
//
// It is given connections and sockets; accepting, holding ports and their owners
// are the relay's.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialTimeout bounds how long a client waits for a container that does not
// answer; a SYN is repeated after 1, 3 and 7 seconds.
const dialTimeout = 10 * time.Second

// TCP connects to the backend and copies both ways until both have ended, then
// closes client, whatever happens. The end of one direction is passed on as a
// half-close (FIN); a reset, and a backend that cannot be reached, as a reset.
// When ctx ends, both connections are closed. The error is nil when both
// directions ended in order. Keep-alive probes, on by default in package net,
// find peers that vanished. The connection is counted by traffic.
func TCP(ctx context.Context, client *net.TCPConn, backend netip.AddrPort, traffic *Traffic) error {
	var in, out int64
	traffic.begin(client)
	defer func() { traffic.end(client, in, out) }()
	d := net.Dialer{Timeout: dialTimeout}
	// Not DialTCP, which with no local address binds to port 0 (Go 1.26): ports
	// in TIME_WAIT are then not used again, and 28,000 connections a minute
	// use up the range.
	c, err := d.DialContext(ctx, "tcp", backend.String())
	if err != nil {
		traffic.unreached()
		return errors.Join(fmt.Errorf("proxy to %s: %w", backend, err), reset(client))
	}
	server := c.(*net.TCPConn)
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()

	up := make(chan error, 1)
	go func() {
		var err error
		in, err = copyHalf(server, client)
		up <- err
	}()
	var down error
	out, down = copyHalf(client, server)
	err = errors.Join(down, <-up)
	if !stop() {
		return ctx.Err()
	}
	return errors.Join(err, closed(client.Close()), closed(server.Close()))
}

// copyHalf copies one direction; io.Copy between two TCP connections is
// splice(2). An error ends the other direction too.
func copyHalf(dst, src *net.TCPConn) (n int64, err error) {
	n, err = io.Copy(dst, src)
	if err != nil {
		// One side was reset or vanished: say the same to the other.
		return n, errors.Join(err, closed(reset(dst)), closed(reset(src)))
	}
	// ENOTCONN: the other side is gone already, and the other direction
	// reports it.
	if err := dst.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		return n, closed(err)
	}
	return n, nil
}

// reset closes with RST instead of FIN.
func reset(c *net.TCPConn) error {
	return errors.Join(c.SetLinger(0), c.Close())
}

// closed drops the error of closing what the other direction closed first.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
