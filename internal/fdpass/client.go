package fdpass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// patience is how long a call that was given up waits for the server to say so.
const patience = 5 * time.Second

// Client makes calls over a connection. Its methods may be called by several
// goroutines at once.
type Client struct {
	conn  *Conn
	hello Hello
	done  chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	err     error
}

type answer struct {
	message
	fds []int
}

// NewClient reads the server's hello and is ready for calls. It takes the
// connection over.
func NewClient(ctx context.Context, conn *Conn) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	data, fds, err := conn.Receive()
	if !stop() {
		err = ctx.Err() // which closed the connection
	}
	CloseFDs(fds)
	var m message
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && m.Hello == nil {
		err = errors.New("the peer speaks another protocol: no hello")
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("no greeting from the peer: %w (%w)", errdefs.ErrUnavailable, err)
	}
	c := &Client{conn: conn, hello: *m.Hello, done: make(chan struct{}), waiting: make(map[uint64]chan answer)}
	go c.receive()
	return c, nil
}

// Hello returns what the server said of itself.
func (c *Client) Hello() Hello { return c.hello }

// Done is closed when the connection has ended: the server is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection and waits until nothing uses it any more; calls
// that wait fail.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil // the server was gone already
	}
	return err
}

// Call asks for method with params (marshalled to JSON) and files, and decodes
// the answer into result, which may be nil. The files stay the caller's; the
// returned descriptors are the caller's too. When ctx ends, the server is told to give
// up; the call may succeed nevertheless, and fails with ctx's error when the server
// does not say within patience what came of it. A server that is gone gives
// errdefs.ErrUnavailable.
func (c *Client) Call(ctx context.Context, method string, params any, files []*os.File, result any) ([]int, error) {
	sent, err := Descriptors(files...)
	if err != nil {
		return nil, err
	}
	defer KeepOpen(files)
	return c.CallFDs(ctx, method, params, sent, result)
}

// CallFDs is Call with descriptors, which the caller keeps open until it returns.
func (c *Client) CallFDs(ctx context.Context, method string, params any, sent []int, result any) ([]int, error) {
	if err := fault(method, ""); err != nil {
		return nil, err
	}
	body, err := encodeBody(params)
	if err != nil {
		return nil, err
	}
	id, ch, err := c.register()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	err = c.send(message{ID: id, Method: method, Body: body}, sent)
	if err != nil {
		c.forget(id, ch)
		return nil, fmt.Errorf("%s: %w (%w)", method, errdefs.ErrUnavailable, err)
	}
	a, err := c.await(ctx, id, ch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	if err := fault(method, ".unheard"); err != nil {
		CloseFDs(a.fds)
		return nil, err
	}
	out, err := c.finish(a, result)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%s: %w", method, ctx.Err()) // the server gave up because we said so
	}
	return out, err
}

// await waits for the answer. A call whose ctx ends is told to give up, and what came of
// it is waited for still: it may be done already, and what its caller does next, to undo
// it say, must not overtake it.
func (c *Client) await(ctx context.Context, id uint64, ch chan answer) (answer, error) {
	select {
	case a := <-ch:
		return a, nil
	case <-ctx.Done():
	}
	_ = c.send(message{ID: id, Cancel: true}, nil) // a peer that is gone fails the call
	select {
	case a := <-ch:
		return a, nil
	case <-time.After(patience):
		c.forget(id, ch)
		return answer{}, ctx.Err()
	}
}

func (c *Client) finish(a answer, result any) ([]int, error) {
	err := a.Error.err()
	if err == nil {
		err = decodeBody(a.Body, result)
	}
	if err != nil {
		CloseFDs(a.fds)
		return nil, err
	}
	return a.fds, nil
}

func (c *Client) register() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.next++
	ch := make(chan answer, 1)
	c.waiting[c.next] = ch
	return c.next, ch, nil
}

// forget drops the call; an answer that came meanwhile may carry descriptors.
func (c *Client) forget(id uint64, ch chan answer) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
	select {
	case a := <-ch:
		CloseFDs(a.fds)
	default:
	}
}

func (c *Client) send(m message, fds []int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.conn.Send(b, fds)
}

func (c *Client) receive() {
	defer close(c.done)
	for {
		m, fds, err := receive(c.conn)
		if errdefs.IsResourceExhausted(err) {
			m.Error = toWire(err) // of this answer alone
		} else if err != nil {
			c.fail(err)
			return
		}
		c.deliver(answer{m, fds})
	}
}

// deliver hands the answer over under the lock, so that forget sees it.
func (c *Client) deliver(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch, ok := c.waiting[a.ID]
	if !ok {
		CloseFDs(a.fds)
		return
	}
	delete(c.waiting, a.ID)
	ch <- a
}

func (c *Client) fail(cause error) {
	_ = c.conn.Close()
	if errors.Is(cause, io.EOF) {
		cause = errors.New("connection closed by the peer")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("%w (%w)", errdefs.ErrUnavailable, cause)
	gone := toWire(c.err)
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		ch <- answer{message: message{Error: gone}}
	}
}
