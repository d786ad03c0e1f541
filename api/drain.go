package api

import (
	"io"
	"net/http"
	"time"
)

// An archive's sender may go on after its end, with as much padding as its tool's
// records have.
const (
	drainSize = 8 << 20
	drainTime = 10 * time.Second
	// drainFailed is for what was refused: the client should know soon.
	drainFailed = time.Second
)

// drain reads what is left of an archive that is the request's body, where it was taken
// and where it failed with err: a client whose connection is closed while it sends may
// lose the answer. What is too much, or too slow, is left.
func drain(w http.ResponseWriter, r *http.Request, err error) {
	limit := drainTime
	if err != nil {
		if r.Header.Get("Expect") != "" {
			return // it may wait to be told to send at all
		}
		limit = drainFailed
	}
	deadline := http.NewResponseController(w)
	if err := deadline.SetReadDeadline(time.Now().Add(limit)); err == nil {
		defer func() { _ = deadline.SetReadDeadline(time.Time{}) }()
	}
	_, _ = io.CopyN(io.Discard, r.Body, drainSize)
}
