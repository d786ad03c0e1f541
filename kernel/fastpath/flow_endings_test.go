package fastpath_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// endings are ways that a connection ends.
var endings = []struct {
	what string
	run  func(talk) error
}{
	{"outside closes", func(k talk) error { return closes(k.outside, k.container) }},
	{"the container closes", func(k talk) error { return closes(k.container, k.outside) }},
	{"outside resets", func(k talk) error { return resets(k.outside, k.container) }},
	{"the container resets", func(k talk) error { return resets(k.container, k.outside) }},
}

// closes has one end say that it has nothing more to say, and hear what the other says then
// until that closes as well.
func closes(first, last *net.TCPConn) error {
	if err := first.CloseWrite(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, last); n > 0 || err != nil {
		return fmt.Errorf("who is closed on reads %d bytes: %w", n, err)
	}
	if err := carry(last, first, much/4); err != nil {
		return fmt.Errorf("half closed: %w", err)
	}
	if err := last.Close(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, first); n > 0 || err != nil {
		return fmt.Errorf("who closed first reads %d bytes: %w", n, err)
	}
	return first.Close()
}

// resets has one end be gone, which the other hears of.
func resets(first, last *net.TCPConn) error {
	if err := errors.Join(first.SetLinger(0), first.Close()); err != nil {
		return err
	}
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("who is reset on reads: %w", err)
	}
	return last.Close()
}
