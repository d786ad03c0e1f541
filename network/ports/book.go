// Package ports chooses host ports and holds them with real sockets, so that a
// published port is ours in the kernel's eyes too: no other program can take
// it, and one that has it is found before anything is changed.
//
// It knows nothing of the firewall or of the proxy.
package ports

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// Book records which host ports are ours and whose they are. It is pure and not
// safe for concurrent use; its owner serialises.
type Book struct {
	entries map[key][]entry
	lo, hi  uint16 // the ephemeral range, inclusive
	cursor  uint16
}

type key struct {
	proto spec.Proto
	port  uint16
}

type entry struct {
	addr  netip.Addr
	owner string // sandbox ID
	name  string // what messages call the owner
}

// NewBook makes an empty book; lo to hi is where ports nobody named come from.
func NewBook(lo, hi uint16) *Book {
	return &Book{entries: make(map[key][]entry), lo: lo, hi: hi, cursor: lo}
}

// Taken returns the name of the container that holds the host port, if any. A
// wildcard address overlaps every address of its family.
func (b *Book) Taken(proto spec.Proto, host netip.AddrPort) (name string, taken bool) {
	for _, e := range b.entries[key{proto, host.Port()}] {
		if clash(e.addr, host.Addr()) {
			return e.name, true
		}
	}
	return "", false
}

func clash(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// Add records the bindings as the sandbox's.
func (b *Book) Add(owner spec.Sandbox, bindings []spec.PortBinding) {
	for _, p := range bindings {
		k := key{p.Proto, p.Host.Port()}
		b.entries[k] = append(b.entries[k], entry{p.Host.Addr(), owner.ID, owner.Name})
	}
}

// Remove forgets the sandbox's bindings.
func (b *Book) Remove(owner string, bindings []spec.PortBinding) {
	for _, p := range bindings {
		k := key{p.Proto, p.Host.Port()}
		kept := b.entries[k][:0]
		for _, e := range b.entries[k] {
			if e.owner != owner || e.addr != p.Host.Addr() {
				kept = append(kept, e)
			}
		}
		if len(kept) == 0 {
			delete(b.entries, k)
		} else {
			b.entries[k] = kept
		}
	}
}

// Request is one wish with its host addresses settled: every address gets the
// same port.
type Request struct {
	spec.PortRequest
	// Hosts are the addresses to publish on, and Backends the container's
	// address for each.
	Hosts    []netip.Addr
	Backends []netip.Addr
}

// Cursor is where the next look for a free ephemeral port begins.
func (b *Book) Cursor() uint16 { return b.cursor }

// SetCursor has it begin there, after a choice that nothing came of.
func (b *Book) SetCursor(port uint16) { b.cursor = port }

// Choose settles the port of each request: the first of its range, or of the
// ephemeral range, that no binding of ours and no earlier request holds. Ports
// for which foreign says yes are passed over. Nothing is recorded.
func (b *Book) Choose(requests []Request, foreign func(spec.Proto, netip.AddrPort) bool) ([]spec.PortBinding, error) {
	out := make([]spec.PortBinding, 0, 2*len(requests)) // of both families, most of the time
	mine := NewBook(b.lo, b.hi)
	self := spec.Sandbox{ID: "self", Name: "this container"}
	for _, r := range requests {
		port, err := b.port(r, mine, foreign)
		if err != nil {
			return nil, err
		}
		before := len(out)
		for i, host := range r.Hosts {
			out = append(out, spec.PortBinding{
				Proto:     r.Proto,
				Host:      netip.AddrPortFrom(host, port),
				Container: netip.AddrPortFrom(r.Backends[i], r.Port),
			})
		}
		mine.Add(self, out[before:])
	}
	return out, nil
}

func (b *Book) port(r Request, mine *Book, foreign func(spec.Proto, netip.AddrPort) bool) (uint16, error) {
	lo, hi := r.HostPort, max(r.HostPort, r.HostPortEnd)
	if r.HostPort == 0 {
		return b.ephemeral(r, mine, foreign)
	}
	var why error
	for p := uint32(lo); p <= uint32(hi); p++ {
		if why = b.refuse(r, uint16(p), mine, foreign); why == nil {
			return uint16(p), nil
		}
	}
	if lo != hi {
		return 0, fmt.Errorf("all ports of %d-%d/%s are allocated; the last: %w", lo, hi, r.Proto, why)
	}
	return 0, why
}

// ephemeral walks the range from where the last call stopped, so that a port
// just given back is not the next one handed out.
func (b *Book) ephemeral(r Request, mine *Book, foreign func(spec.Proto, netip.AddrPort) bool) (uint16, error) {
	for range int(b.hi) - int(b.lo) + 1 {
		p := b.cursor
		if b.cursor++; b.cursor > b.hi || b.cursor < b.lo {
			b.cursor = b.lo
		}
		if b.refuse(r, p, mine, foreign) == nil {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no port of the ephemeral range %d-%d/%s is free: %w", b.lo, b.hi, r.Proto, errdefs.ErrConflict)
}

func (b *Book) refuse(r Request, port uint16, mine *Book, foreign func(spec.Proto, netip.AddrPort) bool) error {
	for _, host := range r.Hosts {
		ap := netip.AddrPortFrom(host, port)
		for _, book := range []*Book{b, mine} {
			if name, taken := book.Taken(r.Proto, ap); taken {
				return fmt.Errorf("Bind for %s failed: port is already allocated by %s: %w", ap, describe(name), errdefs.ErrConflict) //nolint:staticcheck // Docker's words, which clients match on.
			}
		}
		if foreign != nil && foreign(r.Proto, ap) {
			return fmt.Errorf("Bind for %s failed: port is already allocated by a program of the host: %w", ap, errdefs.ErrConflict) //nolint:staticcheck // Docker's words, which clients match on.
		}
	}
	return nil
}

func describe(name string) string {
	if name == "this container" {
		return name
	}
	return "container " + name
}
