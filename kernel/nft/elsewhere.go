package nft

import (
	"fmt"
	"os"
	"time"
)

// OpenKnown is Open for a kernel whose features are known, as those of another
// namespace's connection: nothing is asked.
func OpenKnown(f *os.File, features Features) (*Conn, error) {
	c, err := take(f)
	if err != nil {
		return nil, err
	}
	c.features = features
	return c, nil
}

// Ask finds out what Open would, by a socket of its own: it takes some 10 ms, in which
// who is to open another can do something else.
func Ask() (Features, error) {
	f, err := NewSocket()
	if err != nil {
		return Features{}, err
	}
	// Closing it waits for RCU as the question does, and nobody has to wait for that.
	defer func() { go f.Close() }()
	c, err := Open(f)
	if err != nil {
		return Features{}, err
	}
	return c.features, nil
}

// take takes over a socket, whoever held it before.
func take(f *os.File) (*Conn, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("netfilter socket: %w", err)
	}
	c := &Conn{
		file: f,
		sock: socket{raw: raw},
		// Not where the last holder began.
		seq: uint32(time.Now().UnixNano()),
	}
	if err := c.sock.drain(); err != nil {
		return nil, err
	}
	return c, nil
}
