package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/client"
)

// captureStream is a capture as the daemon sends it, which ends when the body of our
// request does.
type captureStream struct {
	in     *bufio.Reader
	answer io.Closer
	body   *io.PipeWriter
	cancel context.CancelFunc
}

// openCapture asks for a capture. ctx is only for the time until it has begun.
func (a *app) openCapture(ctx context.Context, path string) (*captureStream, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	dial := c.Dialer()
	web := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	begun := context.AfterFunc(ctx, cancel)
	defer begun()
	read, write := io.Pipe()
	fail := func(err error) (*captureStream, error) {
		cancel()
		return nil, errors.Join(err, write.Close())
	}
	req, err := http.NewRequestWithContext(whole, http.MethodPost, "http://"+client.DummyHost+path, read)
	if err != nil {
		return fail(err)
	}
	resp, err := web.Do(req)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		var answer common.ErrorResponse
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Message == "" {
			return fail(errors.New("the daemon answered " + resp.Status))
		}
		return fail(errors.New(answer.Message))
	}
	return &captureStream{in: bufio.NewReaderSize(resp.Body, 64<<10), answer: resp.Body, body: write, cancel: cancel}, nil
}

func (s *captureStream) Read(b []byte) (int, error) { return s.in.Read(b) }

// buffered is how much has come and was not read.
func (s *captureStream) buffered() int { return s.in.Buffered() }

// end asks the daemon to end it, and does not wait for ever.
func (s *captureStream) end() {
	_ = s.body.Close()
	time.AfterFunc(captureEnd, s.cancel)
}

func (s *captureStream) close() {
	_ = s.body.Close()
	s.cancel()
	_ = s.answer.Close()
}
