package fdpass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// Hello is what a server says of itself before anything else.
type Hello struct {
	// Protocol is the version of the server's methods. The hello itself and
	// the transport never change.
	Protocol int `json:"protocol"`
	// Build identifies the server's executable.
	Build string `json:"build"`
	// PID is the server's process ID.
	PID int `json:"pid"`
}

// message is what goes over the wire, one of: a hello, a request (Method), the
// cancellation of a request (Cancel), an answer.
type message struct {
	Hello  *Hello          `json:"hello,omitempty"`
	ID     uint64          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Cancel bool            `json:"cancel,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

// receive is Conn.Receive of a message that is one of ours. Without room for its
// descriptors it is there nevertheless.
func receive(conn *Conn) (m message, fds []int, err error) {
	data, fds, err := conn.Receive()
	if err != nil && !errdefs.IsResourceExhausted(err) {
		return m, nil, err
	}
	if bad := json.Unmarshal(data, &m); bad != nil {
		CloseFDs(fds)
		return m, nil, bad
	}
	return m, fds, err
}

// wireError is an error with what errdefs knows of its kind.
type wireError struct {
	Kind string `json:"kind,omitempty"`
	Text string `json:"text"`
}

// kinds are the sentinels that keep their meaning across the wire.
var kinds = []struct {
	name     string
	sentinel error
}{
	{"invalid_argument", errdefs.ErrInvalidArgument},
	{"not_found", errdefs.ErrNotFound},
	{"already_exists", errdefs.ErrAlreadyExists},
	{"permission_denied", errdefs.ErrPermissionDenied},
	{"resource_exhausted", errdefs.ErrResourceExhausted},
	{"failed_precondition", errdefs.ErrFailedPrecondition},
	{"conflict", errdefs.ErrConflict},
	{"unavailable", errdefs.ErrUnavailable},
	{"not_implemented", errdefs.ErrNotImplemented},
	{"canceled", context.Canceled},
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if errors.Is(err, k.sentinel) {
			return &wireError{k.name, err.Error()}
		}
	}
	return &wireError{Text: err.Error()}
}

// remoteError has the peer's text and the kind's sentinel below it.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (w *wireError) err() error {
	if w == nil {
		return nil
	}
	for _, k := range kinds {
		if k.name == w.Kind {
			return &remoteError{w.Text, k.sentinel}
		}
	}
	return &remoteError{text: w.Text}
}

func encodeBody(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return b, nil
}

// decodeBody leaves v alone when the body is empty. Fields it does not know are
// ignored, so that a newer peer may add some.
func decodeBody(b json.RawMessage, v any) error {
	if v == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode message: %w: %w", errdefs.ErrInvalidArgument, err)
	}
	return nil
}
