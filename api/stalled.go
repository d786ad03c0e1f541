package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// stallTime is how long a client that sends an archive into a container may send
// nothing: a container that does not run cannot be started or removed meanwhile.
const stallTime = 2 * time.Minute

// stalled reads the request's body, and ends where nothing came of it for the limit.
// done is called once it is read.
func stalled(w http.ResponseWriter, r *http.Request, limit time.Duration) (body io.Reader, done func()) {
	s := &stalledBody{body: r.Body, deadline: http.NewResponseController(w), limit: limit}
	return s, func() { _ = s.deadline.SetReadDeadline(time.Time{}) }
}

type stalledBody struct {
	body     io.Reader
	deadline *http.ResponseController
	limit    time.Duration
}

func (s *stalledBody) Read(b []byte) (int, error) {
	_ = s.deadline.SetReadDeadline(time.Now().Add(s.limit)) // a connection without one is a test's
	n, err := s.body.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = invalid("the client sent nothing for %v", s.limit)
	}
	return n, err
}
