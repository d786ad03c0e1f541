package ports

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/internal/spread"
	"github.com/fairlead/fairlead/network/spec"
)

// Listener binds a host port, with nothing let through yet. It returns an error
// wrapping errdefs.ErrConflict when the port is somebody's.
type Listener func(proto string, host netip.AddrPort) (Socket, error)

// Socket is one that holds a port until it is closed.
type Socket interface {
	Fd() uintptr
	Close() error
}

// Held is a binding with the socket that holds its host port.
type Held struct {
	spec.PortBinding
	Socket Socket
}

// BusyError says which binding could not be held.
type BusyError struct {
	Binding spec.PortBinding
	Err     error
}

func (e *BusyError) Error() string { return e.Err.Error() }
func (e *BusyError) Unwrap() error { return e.Err }

// worthwhile is how many sockets are a part of those that several processors bind.
const worthwhile = 8

// Hold binds every port, or none: on failure what was bound is let go and the
// error is a *BusyError, of several that fail the first. Of many ports listen is
// called by several goroutines at once.
func Hold(listen Listener, bindings []spec.PortBinding) ([]Held, error) {
	held := make([]Held, len(bindings))
	err := spread.Over(len(bindings), worthwhile, func(from, to int) error {
		for i := from; i < to; i++ {
			f, err := listen(string(bindings[i].Proto), bindings[i].Host)
			if err != nil {
				return &BusyError{bindings[i], err}
			}
			held[i] = Held{bindings[i], f}
		}
		return nil
	})
	if err != nil {
		var first *BusyError
		errors.As(err, &first)
		held = slices.DeleteFunc(held, func(h Held) bool { return h.Socket == nil })
		return nil, errors.Join(first, Drop(held))
	}
	return held, nil
}

// HoldWhile is Hold, and has other work done: of many ports while they are bound, of
// few once they are. Of ports that cannot be held it may be done or not.
func HoldWhile(listen Listener, bindings []spec.PortBinding, work func()) (held []Held, err error) {
	if len(bindings) < 2*worthwhile {
		if held, err = Hold(listen, bindings); err == nil {
			work()
		}
		return held, err
	}
	var binding sync.WaitGroup
	binding.Go(func() { held, err = Hold(listen, bindings) })
	work()
	binding.Wait()
	return held, err
}

// Drop closes the sockets.
func Drop(held []Held) error {
	return spread.Over(len(held), worthwhile, func(from, to int) error {
		var errs []error
		for _, h := range held[from:to] {
			if err := h.Socket.Close(); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}
