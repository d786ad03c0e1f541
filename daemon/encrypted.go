package daemon

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// encrypted serves TLS on the listener, unless there is no configuration.
func encrypted(l net.Listener, secure *tls.Config) net.Listener {
	if secure == nil {
		return l
	}
	return &tlsListener{l, secure}
}

type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tlsConn{Conn: tls.Server(conn, l.config)}, nil
}

// tlsConn is a connection with TLS that can be handed to another process like any
// other: what is handed over is one end of a pair of sockets, and this process
// goes on to encrypt and decrypt between its other end and the client. Such a
// stream ends with this process. The handshake is made by the first read, within
// the time that the server gives a request.
type tlsConn struct {
	*tls.Conn
	handed atomic.Bool
}

// Close closes the connection unless its file was asked for: then it ends when
// both sides have ended.
func (c *tlsConn) Close() error {
	if c.handed.Load() {
		return nil
	}
	return c.Conn.Close()
}

// File is the connection without its encryption. It is asked for once, as the
// last thing.
func (c *tlsConn) File() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs, ours := os.NewFile(uintptr(pair[0]), "stream"), os.NewFile(uintptr(pair[1]), "stream")
	conn, err := net.FileConn(ours) // a duplicate
	err = errors.Join(err, ours.Close())
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	c.handed.Store(true)
	go c.bridge(conn.(*net.UnixConn))
	return theirs, nil
}

// bridge copies both ways until both have ended; an end of one is passed on as
// such, as clients end their input and go on to read.
func (c *tlsConn) bridge(plain *net.UnixConn) {
	var both sync.WaitGroup
	both.Go(func() {
		_, err := io.Copy(c.Conn, plain)
		if err == nil {
			err = c.CloseWrite()
		}
		if err != nil {
			_ = c.Conn.Close() // the client is gone
		}
	})
	both.Go(func() {
		if _, err := io.Copy(plain, c.Conn); err == nil {
			_ = plain.CloseWrite()
		} else {
			_ = plain.Close()
		}
	})
	both.Wait()
	_ = plain.Close()
	_ = c.Conn.Close()
}
