package fdpass

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/containerd/errdefs"
)

// Request is one call as the server sees it.
type Request struct {
	Method string
	// Gone is closed when the caller's connection has ended.
	Gone <-chan struct{}
	conn *Conn
	body json.RawMessage
	fds  []int
}

// Decode decodes the parameters into v.
func (r *Request) Decode(v any) error { return decodeBody(r.body, v) }

// Count is the number of descriptors that came and were not taken.
func (r *Request) Count() int { return len(r.fds) }

// Take gives the descriptors to the caller. Those nobody takes are closed when
// the call has been answered.
func (r *Request) Take() []int {
	fds := r.fds
	r.fds = nil
	return fds
}

// Response is the answer to a call. Copies of the descriptors are sent; After,
// when not nil, runs when they have been, or could not be.
type Response struct {
	Result any
	FDs    []int
	After  func()
}

// Handler answers one call. The context ends when the caller gives up or goes.
type Handler func(ctx context.Context, r *Request) (Response, error)

// Server answers calls on every connection of its listener.
type Server struct {
	Hello   Hello
	Handler Handler
	Logger  *slog.Logger

	mu     sync.Mutex
	closed bool
	conns  map[*Conn]struct{}
	wg     sync.WaitGroup
}

// Serve accepts connections until the listener is closed, which is no error.
// Connections live on: see Close.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.wg.Go(func() {
			conn, err := NewConn(c)
			if err != nil {
				s.Logger.Warn("refused a connection", "err", err)
				return
			}
			s.ServeConn(conn)
		})
	}
}

// Close ends every connection and waits until no call is being answered. It
// must not be called by a Handler.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// CloseOthers ends every connection but the one the request came by.
func (s *Server) CloseOthers(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c != r.conn {
			_ = c.Close()
		}
	}
}

// ServeConn answers calls on one connection until it ends.
func (s *Server) ServeConn(conn *Conn) {
	if !s.track(conn) {
		_ = conn.Close()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &serverConn{server: s, conn: conn, ctx: ctx, calls: make(map[uint64]context.CancelFunc)}
	defer func() {
		cancel()
		_ = conn.Close()
		c.wg.Wait()
		s.untrack(conn)
	}()
	if err := c.send(message{Hello: &s.Hello}, nil); err != nil {
		return
	}
	for {
		m, fds, err := receive(conn)
		if errdefs.IsResourceExhausted(err) {
			s.Logger.Error("refused a call", "method", m.Method, "err", err)
			c.refuse(m, err)
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.Logger.Warn("connection ended", "err", err)
			}
			return
		}
		c.dispatch(m, fds)
	}
}

// track is false when the server has been closed.
func (s *Server) track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*Conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serverConn is one connection and the calls on it that are being answered.
type serverConn struct {
	server *Server
	conn   *Conn
	ctx    context.Context
	wg     sync.WaitGroup

	mu    sync.Mutex
	calls map[uint64]context.CancelFunc
}

func (c *serverConn) dispatch(m message, fds []int) {
	if m.Cancel {
		CloseFDs(fds)
		c.mu.Lock()
		defer c.mu.Unlock()
		if cancel, ok := c.calls[m.ID]; ok {
			cancel()
		}
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	c.calls[m.ID] = cancel
	c.mu.Unlock()
	c.wg.Go(func() {
		defer func() {
			cancel()
			c.mu.Lock()
			delete(c.calls, m.ID)
			c.mu.Unlock()
		}()
		c.answer(ctx, m, fds)
	})
}

// refuse answers a call that did not come whole. It does not wait for a peer that is
// busy sending.
func (c *serverConn) refuse(m message, cause error) {
	c.wg.Go(func() {
		if err := c.send(message{ID: m.ID, Error: toWire(cause)}, nil); err != nil && c.ctx.Err() == nil {
			c.server.Logger.Warn("could not answer", "method", m.Method, "err", err)
		}
	})
}

func (c *serverConn) answer(ctx context.Context, m message, fds []int) {
	r := &Request{Method: m.Method, Gone: c.ctx.Done(), conn: c.conn, body: m.Body, fds: fds}
	resp, err := c.server.Handler(ctx, r)
	CloseFDs(r.fds)
	out := message{ID: m.ID, Error: toWire(err)}
	if err == nil {
		out.Body, err = encodeBody(resp.Result)
		out.Error = toWire(err)
	}
	fds = resp.FDs
	if out.Error != nil {
		fds = nil
	}
	if err := c.send(out, fds); err != nil && ctx.Err() == nil {
		c.server.Logger.Warn("could not answer", "method", m.Method, "err", err)
	}
	if resp.After != nil {
		resp.After()
	}
}

func (c *serverConn) send(m message, fds []int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.conn.Send(b, fds)
}
