package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// fieldSize is how many bytes a field of the type has; in a concatenation each
// begins at a multiple of four.
func fieldSize(d ruleset.DataType) int {
	switch d {
	case ruleset.IfName:
		return unix.IFNAMSIZ
	case ruleset.IPv4Addr:
		return 4
	case ruleset.IPv6Addr:
		return 16
	case ruleset.InetProto, ruleset.NFProto:
		return 1
	case ruleset.InetService:
		return 2
	case ruleset.EtherAddr, ruleset.Bits48:
		return 6
	case ruleset.Bits64:
		return 8
	case ruleset.Bits128:
		return 16
	}
	return 0
}

// typeNumber is nft's own number of a type (enum datatypes in its datatype.h).
// The kernel keeps it and does not look: `nft list` reads it back.
func typeNumber(d ruleset.DataType) uint32 {
	switch d {
	case ruleset.NFProto:
		return 2
	case ruleset.Bits48, ruleset.Bits64, ruleset.Bits128:
		return 4
	case ruleset.IPv4Addr:
		return 7
	case ruleset.IPv6Addr:
		return 8
	case ruleset.InetProto:
		return 12
	case ruleset.InetService:
		return 13
	case ruleset.EtherAddr:
		return 9
	case ruleset.IfName:
		return 41
	}
	return 0
}

// concatType is nft's number of a concatenation: six bits for each field.
func concatType(types []ruleset.DataType) (number uint32, size int) {
	for _, d := range types {
		number = number<<6 | typeNumber(d)
		size += align(fieldSize(d))
	}
	if len(types) == 1 {
		size = fieldSize(types[0])
	}
	return number, size
}

// The byte orders of libnftnl's user data. nft prints an interface's name as ""
// unless the set says that its key is in the host's.
const (
	userdataKeyByteOrder = 0
	byteOrderNone        = 0
	byteOrderHost        = 1
	byteOrderBig         = 2
)

func (b *batch) newSet(t ruleset.Table, s ruleset.Set) error {
	if err := checkSet(s); err != nil {
		return err
	}
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t.Family, part{about: s.Kind() + " " + s.Name}, func(w *writer) {
		w.str(unix.NFTA_SET_TABLE, t.Name)
		w.str(unix.NFTA_SET_NAME, s.Name)
		// Rules and elements name the set, but the kernel wants a number too.
		w.u32(unix.NFTA_SET_ID, uint32(len(b.parts)))
		flags := uint32(0)
		if s.Interval {
			flags |= unix.NFT_SET_INTERVAL
			if len(s.Key) > 1 {
				flags |= setFlagConcat
			}
		}
		if s.Dynamic {
			flags |= unix.NFT_SET_EVAL
		}
		if s.Timeout > 0 {
			flags |= unix.NFT_SET_TIMEOUT
			w.u64(unix.NFTA_SET_TIMEOUT, uint64(s.Timeout.Milliseconds()))
		}
		if len(s.Data) > 0 {
			flags |= unix.NFT_SET_MAP
			typ, size := concatType(s.Data)
			w.u32(unix.NFTA_SET_DATA_TYPE, typ)
			w.u32(unix.NFTA_SET_DATA_LEN, uint32(size))
		}
		typ, size := concatType(s.Key)
		w.u32(unix.NFTA_SET_KEY_TYPE, typ)
		w.u32(unix.NFTA_SET_KEY_LEN, uint32(size))
		w.u32(unix.NFTA_SET_FLAGS, flags)
		if flags&setFlagConcat != 0 {
			concatDescription(w, s.Key)
		}
		if s.Size > 0 {
			desc := w.nest(unix.NFTA_SET_DESC)
			w.u32(unix.NFTA_SET_DESC_SIZE, s.Size)
			w.close(desc)
		}
		w.bytes(unix.NFTA_SET_USERDATA, setUserdata(s))
		if s.Counter {
			expr := w.nest(attrSetExpr)
			w.str(unix.NFTA_EXPR_NAME, "counter")
			w.close(w.nest(unix.NFTA_EXPR_DATA))
			w.close(expr)
		}
	})
	return nil
}

func checkSet(s ruleset.Set) error {
	for _, d := range append(append([]ruleset.DataType{}, s.Key...), s.Data...) {
		if fieldSize(d) == 0 {
			return fmt.Errorf("set %s: unknown type %s", s.Name, d)
		}
	}
	return nil
}

// concatDescription tells the kernel where the fields of an interval's key end.
func concatDescription(w *writer, key []ruleset.DataType) {
	desc := w.nest(unix.NFTA_SET_DESC)
	fields := w.nest(attrSetDescConcat)
	for _, d := range key {
		field := w.nest(unix.NFTA_LIST_ELEM)
		w.u32(attrSetFieldLen, uint32(fieldSize(d)))
		w.close(field)
	}
	w.close(fields)
	w.close(desc)
}

func setUserdata(s ruleset.Set) []byte {
	order := byte(byteOrderBig)
	if s.Key[0] == ruleset.IfName {
		order = byteOrderHost
	}
	// A number of four bytes, in the host's order as libnftnl writes it.
	data := []byte{userdataKeyByteOrder, 4, order, 0, 0, 0}
	if len(s.Of) > 0 {
		data[2] = byteOrderNone
		data = append(data, keyTypeof(s.Of)...)
	}
	if s.Comment != "" {
		data = append(data, userdata(userdataSetComment, s.Comment)...)
	}
	return data
}

// elementList is what one change does to one set.
type elementList struct {
	family     ruleset.Family
	table, set string
	elements   []ruleset.Element
	// perMessage limits the elements of one message; 0 is as many as it holds.
	perMessage int
}

// elementsPerMessage keeps the elements of one message inside the 64 KiB that an
// attribute's length can say. The longest, two keys of an interface's name and an
// IPv6 address, has 84 bytes.
const elementsPerMessage = 500

// elements adds as many messages as the elements need: an attribute holds 64 KiB.
func (b *batch) elements(typ, flags uint16, p part, list elementList) error {
	withData := typ == unix.NFT_MSG_NEWSETELEM
	for _, e := range list.elements {
		if err := checkElement(e); err != nil {
			return fmt.Errorf("element { %s } of %s: %w", e, list.set, err)
		}
	}
	most := list.perMessage
	if most == 0 {
		most = elementsPerMessage
	}
	for chunk := range slices.Chunk(list.elements, most) {
		b.message(typ, flags, list.family, p, func(w *writer) {
			w.str(unix.NFTA_SET_ELEM_LIST_TABLE, list.table)
			w.str(unix.NFTA_SET_ELEM_LIST_SET, list.set)
			all := w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
			for _, e := range chunk {
				writeElement(w, e, withData)
			}
			w.close(all)
		})
	}
	return nil
}

func checkElement(e ruleset.Element) error {
	if len(e.Key) == 0 {
		return fmt.Errorf("no key")
	}
	for _, fields := range [...][]ruleset.Value{e.Key, e.Data} {
		for _, v := range fields {
			if err := checkField(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkField(v ruleset.Value) error {
	switch {
	case v.Type() == 0:
		return fmt.Errorf("a field has no value")
	case fieldSize(v.Type()) == 0 || v.Type() == ruleset.EtherAddr && len(v.Name()) != fieldSize(v.Type()):
		return fmt.Errorf("a field is of no known length")
	case v.Type() == ruleset.IfName && (v.Name() == "" || len(v.Name()) >= unix.IFNAMSIZ):
		return fmt.Errorf("interface name %q is not 1 to %d bytes long", v.Name(), unix.IFNAMSIZ-1)
	}
	return nil
}

// writeElement writes one element. An interval of one field is two elements, its
// first address and the one behind its last; of several it is one with two keys.
func writeElement(w *writer, e ruleset.Element, withData bool) {
	interval := false
	for _, v := range e.Key {
		interval = interval || v.IsInterval()
	}
	elem := w.nest(unix.NFTA_LIST_ELEM)
	writeFields(w, unix.NFTA_SET_ELEM_KEY, e.Key, first)
	if interval && len(e.Key) > 1 {
		writeFields(w, attrSetElemKeyEnd, e.Key, last)
	}
	if withData && len(e.Data) > 0 {
		writeFields(w, unix.NFTA_SET_ELEM_DATA, e.Data, first)
	}
	w.close(elem)
	if !interval || len(e.Key) > 1 {
		return
	}
	after, ok := behind(e.Key[0])
	if !ok {
		return
	}
	elem = w.nest(unix.NFTA_LIST_ELEM)
	writeFields(w, unix.NFTA_SET_ELEM_KEY, []ruleset.Value{after}, first)
	w.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	w.close(elem)
}

// behind is the value after the last of an interval; the last of all has none.
func behind(v ruleset.Value) (ruleset.Value, bool) {
	if v.Type() == ruleset.InetService {
		return ruleset.Port(v.Last() + 1), v.Last() < math.MaxUint16
	}
	a := lastAddr(v.Prefix()).Next()
	return ruleset.Addr(a), a.IsValid()
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// bound is an end of the interval that a value is.
type bound int

const (
	first bound = iota
	last
)

// writeFields writes the fields one behind another, each padded to four bytes.
func writeFields(w *writer, typ uint16, fields []ruleset.Value, which bound) {
	at := w.nest(typ)
	size := 0
	for _, v := range fields {
		size += align(fieldSize(v.Type()))
	}
	if len(fields) == 1 {
		size = fieldSize(fields[0].Type())
	}
	out := w.attr(unix.NFTA_DATA_VALUE, size)
	for _, v := range fields {
		putField(out, v, which)
		out = out[min(align(fieldSize(v.Type())), len(out)):]
	}
	w.close(at)
}

func putField(out []byte, v ruleset.Value, which bound) {
	switch v.Type() {
	case ruleset.IfName, ruleset.EtherAddr, ruleset.Bits48, ruleset.Bits64, ruleset.Bits128:
		copy(out, v.Name())
	case ruleset.IPv4Addr, ruleset.IPv6Addr:
		a := v.Prefix().Masked().Addr()
		if which == last {
			a = lastAddr(v.Prefix())
		}
		copy(out, a.AsSlice())
	case ruleset.InetProto, ruleset.NFProto:
		out[0] = byte(v.Number())
	case ruleset.InetService:
		n := v.Number()
		if which == last {
			n = v.Last()
		}
		binary.BigEndian.PutUint16(out, n)
	}
}
