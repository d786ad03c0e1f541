package trace

import (
	"net/netip"

	"github.com/fairlead/fairlead/trace/netfilter"
)

// redirect gives the packet the destination that was decided.
func (t *tracer) redirect(n node, d netfilter.Decision) {
	before := t.pk.Destination
	t.pk.Destination = translated(before, d.DNAT)
	t.record(n)
	t.note("translated: %s → %s by %s", before, t.pk.Destination, d.DNAT.By)
}

// masquerade gives the packet its new source.
func (t *tracer) masquerade(n node, w way, s netfilter.Translation) {
	before := t.pk.Source
	if s.Masquerade {
		s.Addr = sourceFor(n.ns, w, t.pk.Destination.Addr())
	}
	t.pk.Source = translated(t.pk.Source, s)
	t.pk.SourceNAT, t.sourceBy = true, s.By
	t.record(n)
	t.note("source translated: %s → %s by %s", before.Addr(), t.pk.Source.Addr(), s.By)
}

// record is what the host's connection tracking notes.
func (t *tracer) record(n node) {
	if n.kind == HopHost {
		t.seen.changed = t.pk.Tuple
		t.seen.dest = t.seen.dest || t.seen.original.Destination != t.pk.Destination
		t.seen.source = t.seen.source || t.seen.original.Source != t.pk.Source
		t.pk.DestinationNAT = t.seen.dest
	}
}

// begun notes the connection as the host sees it first.
func (t *tracer) begun() {
	if !t.back {
		t.seen = connection{original: t.pk.Tuple, changed: t.pk.Tuple}
		t.pk.Original = t.pk.Tuple
	}
}

// untranslateDestination and untranslateSource turn an answer back.
func (t *tracer) untranslateDestination() {
	if t.seen.source && !t.pk.Untracked && t.pk.Destination.Addr() == t.seen.changed.Source.Addr() {
		t.note("translated back: to %s", t.seen.original.Source.Addr())
		t.pk.Destination = t.seen.original.Source
	}
}

func (t *tracer) untranslateSource() {
	if t.seen.dest && !t.pk.Untracked && t.pk.Source == t.seen.changed.Destination {
		t.note("translated back: from %s", t.seen.original.Destination)
		t.pk.Source = t.seen.original.Destination
	}
}

func translated(ap netip.AddrPort, tr netfilter.Translation) netip.AddrPort {
	addr, port := ap.Addr(), ap.Port()
	if tr.Addr.IsValid() {
		addr = tr.Addr
	}
	if tr.Port != 0 {
		port = tr.Port
	}
	return netip.AddrPortFrom(addr, port)
}
