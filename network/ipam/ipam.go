// Package ipam chooses addresses: the next free one of a pool, and the next
// free pool of a host. It is pure: no I/O, no locks; its caller serialises.
package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
)

// Refusals of a pool.
var (
	ErrFull    = errors.New("no address is free")
	ErrInUse   = errors.New("address is in use")
	ErrOutside = errors.New("address is outside the subnet")
)

// Pool hands out the addresses of one subnet, lowest free first, as Docker does.
type Pool struct {
	prefix   netip.Prefix
	from, to netip.Addr // what Next chooses from, inclusive
	hint     netip.Addr // no address in [from, hint) is free
	used     map[netip.Addr]struct{}
	reserved map[netip.Addr]struct{}
}

// NewPool makes a pool of prefix. Next chooses from sub, a part of prefix, or
// from all of it when sub is the zero Prefix. The network's own address, the
// IPv4 broadcast address (RFC 919; not in a /31, RFC 3021) and the reserved
// ones are never handed out.
func NewPool(prefix, sub netip.Prefix, reserved ...netip.Addr) *Pool {
	if !sub.IsValid() {
		sub = prefix
	}
	p := &Pool{
		prefix:   prefix.Masked(),
		from:     sub.Masked().Addr(),
		to:       Last(sub),
		used:     make(map[netip.Addr]struct{}),
		reserved: make(map[netip.Addr]struct{}),
	}
	p.hint = p.from
	if hostBits := prefix.Addr().BitLen() - prefix.Bits(); hostBits > 1 {
		p.reserved[p.prefix.Addr()] = struct{}{}
		if prefix.Addr().Is4() {
			p.reserved[Last(prefix)] = struct{}{}
		}
	}
	for _, a := range reserved {
		if a.IsValid() {
			p.reserved[a] = struct{}{}
		}
	}
	return p
}

// Next returns the lowest free address without taking it.
func (p *Pool) Next() (netip.Addr, error) {
	for a := p.hint; a.IsValid() && a.Compare(p.to) <= 0; a = a.Next() {
		if !p.busy(a) {
			p.hint = a
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w in %s", ErrFull, p.prefix)
}

// Check says whether Take would accept the address; the error leaves it to the
// caller to name it.
func (p *Pool) Check(a netip.Addr) error {
	switch {
	case !p.prefix.Contains(a):
		return fmt.Errorf("%w %s", ErrOutside, p.prefix)
	case p.busy(a):
		return ErrInUse
	}
	return nil
}

// Take marks the address as used.
func (p *Pool) Take(a netip.Addr) error {
	if err := p.Check(a); err != nil {
		return err
	}
	p.used[a] = struct{}{}
	return nil
}

// Free gives the address back; one that is not used is let be.
func (p *Pool) Free(a netip.Addr) {
	if _, ok := p.used[a]; !ok {
		return
	}
	delete(p.used, a)
	if a.Compare(p.from) >= 0 && a.Compare(p.hint) < 0 {
		p.hint = a
	}
}

// Contains says whether the address is of the pool's subnet.
func (p *Pool) Contains(a netip.Addr) bool { return p.prefix.Contains(a) }

// Usage counts the addresses of the subnet that are taken or never handed out, and
// those that Next may still give.
func (p *Pool) Usage() (inUse, available uint64) {
	var busy uint64
	for _, m := range []map[netip.Addr]struct{}{p.used, p.reserved} {
		for a := range m {
			if !p.prefix.Contains(a) {
				continue
			}
			inUse++
			if a.Compare(p.from) >= 0 && a.Compare(p.to) <= 0 {
				busy++
			}
		}
	}
	return inUse, distance(p.from, p.to) - busy
}

// distance counts the addresses from a to b, at most MaxUint64 of them.
func distance(a, b netip.Addr) uint64 {
	x, y := a.As16(), b.As16()
	high := binary.BigEndian.Uint64(y[:8]) - binary.BigEndian.Uint64(x[:8])
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(y[8:]), binary.BigEndian.Uint64(x[8:]), 0)
	if high-borrow > 0 || low == math.MaxUint64 {
		return math.MaxUint64
	}
	return low + 1
}

func (p *Pool) busy(a netip.Addr) bool {
	if _, ok := p.used[a]; ok {
		return true
	}
	_, ok := p.reserved[a]
	return ok
}

// Last returns the highest address of the prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
