package ports

import (
	"errors"
	"net/netip"
	"os"

	"github.com/fairlead/fairlead/network/spec"
)

// Listener binds a host port and, for TCP, listens on it, with nothing let
// through yet. It returns an error wrapping errdefs.ErrConflict when the port is
// somebody's.
type Listener func(proto string, host netip.AddrPort) (*os.File, error)

// Held is a binding with the socket that holds its host port.
type Held struct {
	spec.PortBinding
	Socket *os.File
}

// BusyError says which binding could not be held.
type BusyError struct {
	Binding spec.PortBinding
	Err     error
}

func (e *BusyError) Error() string { return e.Err.Error() }
func (e *BusyError) Unwrap() error { return e.Err }

// Hold binds every port, or none: on failure what was bound is let go and the
// error is a *BusyError.
func Hold(listen Listener, bindings []spec.PortBinding) ([]Held, error) {
	held := make([]Held, 0, len(bindings))
	for _, b := range bindings {
		f, err := listen(string(b.Proto), b.Host)
		if err != nil {
			return nil, errors.Join(&BusyError{b, err}, Drop(held))
		}
		held = append(held, Held{b, f})
	}
	return held, nil
}

// Drop closes the sockets.
func Drop(held []Held) error {
	var errs []error
	for _, h := range held {
		errs = append(errs, h.Socket.Close())
	}
	return errors.Join(errs...)
}
