package netfilter

// Results and flags of fib expressions (linux/netfilter/nf_tables.h).
const (
	fibOIF      = 1
	fibOIFName  = 2
	fibAddrType = 3

	fibSource  = 1
	fibPresent = 32
)

func (m *machine) fib(a attributes) {
	register, flags := a.number(1), a.number(3)
	addr := m.p.Destination.Addr()
	if flags&fibSource != 0 {
		addr = m.p.Source.Addr()
	}
	switch result := a.number(2); {
	case result == fibAddrType && m.p.Local != nil:
		kind := uint32(1) // RTN_UNICAST
		if m.p.Local(addr) {
			kind = 2 // RTN_LOCAL
		}
		m.load(register, native(kind))
	case (result == fibOIF || result == fibOIFName) && m.p.Route != nil:
		l, ok := m.p.Route(addr)
		switch {
		case flags&fibPresent != 0:
			m.load(register, []byte{map[bool]byte{true: 1}[ok]})
		case result == fibOIF:
			m.load(register, native(uint32(l.Index)))
		default:
			m.load(register, name16(l.Name))
		}
	default:
		m.forget(register, 16)
	}
}
