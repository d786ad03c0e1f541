// Package streams reads and writes the FIFOs of every container, in a process
// that outlives the daemon: it writes the logs, and copies to and from the
// clients that are attached.
//
// The daemon's side is Client; the process is `fairlead streams`. It knows IDs,
// paths and connections, not containers and HTTP.
package streams

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Name is the hidden command of the process, and what its socket, lock and log
// under EXEC_ROOT are called.
const Name = "streams"

// protocol is the version of the methods. A change that an older peer cannot
// follow raises it; "handover" keeps its meaning for ever.
const protocol = 2

// Spec describes one container's, or one exec's, streams.
type Spec struct {
	// ID is the container's ID or the exec's.
	ID string `json:"id"`
	// Stdin, Stdout and Stderr are the paths of FIFOs that exist; "" is none.
	// With Terminal there is no Stderr.
	Stdin  string `json:"stdin,omitempty"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	// Terminal says that output is a terminal's.
	Terminal bool `json:"terminal,omitempty"`
	// OpenStdin keeps stdin open between clients; without it Stdin is not used.
	OpenStdin bool `json:"open_stdin,omitempty"`
	// StdinOnce closes stdin when the first client's stdin ends.
	StdinOnce bool `json:"stdin_once,omitempty"`
	// Started says that the writers have opened the FIFOs before: where none is left, the
	// end is seen at once, and without it only after another has come and gone.
	Started bool `json:"started,omitempty"`
	// Log is the path of the json-file log, which is appended to; "" is none.
	Log string `json:"log,omitempty"`
	// Logging says more of how the log is kept. Streams that are open keep theirs.
	Logging Logging `json:"logging,omitzero"`
	// Spool is a directory on disk for output that attached clients are slow to
	// take; "" has the container wait for them sooner.
	Spool string `json:"spool,omitempty"`
}

// AttachSpec describes one client of a container's streams.
type AttachSpec struct {
	// ID is the container's ID or the exec's. It need not be open yet.
	ID string `json:"id"`
	// Stdin, Stdout and Stderr say what the client takes part in.
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
	// Terminal sends output as it is; without it every piece has the eight-byte
	// header of Docker's attach: stream, three zeros, length in big-endian.
	Terminal bool `json:"terminal,omitempty"`
	// DetachKeys are bytes which, typed by the client, close that client only; where
	// nobody types there are none.
	DetachKeys []byte `json:"detach_keys,omitempty"`
	// Preread is what the client sent that has been read from the connection.
	Preread []byte `json:"preread,omitempty"`
}

// Status is what List tells of one ID.
type Status struct {
	Spec
	// Opened is false for an ID that clients wait for and nobody has opened.
	Opened bool `json:"opened"`
	// Drained says that stdout and stderr are at their end.
	Drained bool `json:"drained"`
	// StdinClosed says that stdin has been closed for good.
	StdinClosed bool `json:"stdin_closed"`
	// Clients counts those attached.
	Clients int `json:"clients"`
}

func (s Spec) validate() error {
	switch {
	case s.ID == "":
		return fmt.Errorf("streams without an ID: %w", errdefs.ErrInvalidArgument)
	case s.Terminal && s.Stderr != "":
		return fmt.Errorf("streams of %s: a terminal has no stderr: %w", s.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}
