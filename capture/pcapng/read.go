package pcapng

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
)

// maxBlock is how long a block may be: a packet and what is said of it, or names.
const maxBlock = 4 << 20

// Block is one block of a capture.
type Block struct {
	// Raw is all of it, as it was read, until the next is.
	Raw []byte
	// Value is a Section, Interface, []Name, Packet or Statistics, whose bytes are Raw's;
	// nil for a block of another type.
	Value any
}

// Reader reads what this package writes.
type Reader struct {
	r   io.Reader
	buf []byte
	// interfaces is how many the section has so far.
	interfaces int
}

// NewReader reads a capture block by block, each no sooner than it is asked for.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

var errForm = fmt.Errorf("this is no capture as Fairlead writes it: %w", errdefs.ErrInvalidArgument)

// Next reads a block. At the end it returns io.EOF, in the midst of a block
// io.ErrUnexpectedEOF. What does not have the form gives errdefs.ErrInvalidArgument.
func (r *Reader) Next() (Block, error) {
	const head = 8
	r.buf = append(r.buf[:0], make([]byte, head)...)
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return Block{}, err
	}
	kind, length := order.Uint32(r.buf), order.Uint32(r.buf[4:])
	if length < head+4 || length > maxBlock || length%4 != 0 {
		return Block{}, errForm
	}
	r.buf = append(r.buf, make([]byte, length-head)...)
	if _, err := io.ReadFull(r.r, r.buf[head:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Block{}, err
	}
	if order.Uint32(r.buf[length-4:]) != length {
		return Block{}, errForm
	}
	value, err := r.parse(kind, r.buf[head:length-4])
	return Block{Raw: r.buf, Value: value}, err
}

func (r *Reader) parse(kind uint32, body []byte) (any, error) {
	least := map[uint32]int{blockSection: 16, blockInterface: 8, blockPacket: 20, blockStatistics: 12}
	if len(body) < least[kind] {
		return nil, errForm
	}
	switch kind {
	case blockSection:
		return r.section(body)
	case blockInterface:
		r.interfaces++
		return parseInterface(body), nil
	case blockNames:
		return parseNames(body), nil
	case blockPacket:
		return r.packet(body)
	case blockStatistics:
		return r.statistics(body)
	}
	return nil, nil
}

func (r *Reader) section(body []byte) (any, error) {
	if order.Uint32(body) != byteOrder {
		return nil, errForm
	}
	r.interfaces = 0
	var s Section
	eachOption(body[16:], func(code uint16, value []byte) {
		switch code {
		case optComment:
			s.Comment = string(value)
		case optSectionOS:
			s.OS = string(value)
		case optSectionApplication:
			s.Application = string(value)
		}
	})
	return s, nil
}

func parseInterface(body []byte) Interface {
	i := Interface{LinkType: order.Uint16(body), SnapLen: order.Uint32(body[4:])}
	eachOption(body[8:], func(code uint16, value []byte) {
		switch code {
		case optComment:
			i.Comment = string(value)
		case optInterfaceName:
			i.Name = string(value)
		case optInterfaceDescription:
			i.Description = string(value)
		case optInterfaceFilter:
			i.Filter = string(value[min(1, len(value)):])
		}
	})
	return i
}

func parseNames(body []byte) []Name {
	var names []Name
	eachOption(body, func(kind uint16, value []byte) {
		length, known := map[uint16]int{recordIPv4: 4, recordIPv6: 16}[kind]
		if !known || len(value) <= length {
			return
		}
		address, _ := netip.AddrFromSlice(value[:length])
		for name := range bytes.SplitSeq(value[length:], []byte{0}) {
			if len(name) > 0 {
				names = append(names, Name{Address: address, Name: string(name)})
			}
		}
	})
	return names
}

func (r *Reader) packet(body []byte) (any, error) {
	captured := order.Uint32(body[12:])
	p := Packet{
		Interface: int(order.Uint32(body)), Time: parseTime(body[4:]),
		Length: int(order.Uint32(body[16:])),
	}
	body = body[20:]
	if p.Interface >= r.interfaces || uint64(captured) > uint64(len(body)) {
		return nil, errForm
	}
	p.Data = body[:captured]
	rest := int(captured) + padding(int(captured))
	eachOption(body[min(rest, len(body)):], func(code uint16, value []byte) {
		if code == optPacketFlags && len(value) == 4 {
			flags := order.Uint32(value)
			p.Direction, p.Reception = Direction(flags&3), Reception(flags>>2&7)
		}
	})
	return p, nil
}

func (r *Reader) statistics(body []byte) (any, error) {
	s := Statistics{Interface: int(order.Uint32(body)), Time: parseTime(body[4:])}
	if s.Interface >= r.interfaces {
		return nil, errForm
	}
	eachOption(body[12:], func(code uint16, value []byte) {
		if code == optComment {
			s.Comment = string(value)
		}
		if len(value) != 8 {
			return
		}
		switch n := order.Uint64(value); code {
		case optStatisticsReceived:
			s.Received = n
		case optStatisticsDropped:
			s.Dropped = n
		case optStatisticsDelivered:
			s.Delivered = n
		}
	})
	return s, nil
}

func parseTime(b []byte) time.Time {
	return time.Unix(0, int64(uint64(order.Uint32(b))<<32|uint64(order.Uint32(b[4:]))))
}

// eachOption goes through options, or records of names, up to the first that is cut short.
func eachOption(b []byte, do func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, length := order.Uint16(b), int(order.Uint16(b[2:]))
		b = b[4:]
		if code == 0 || length > len(b) {
			return
		}
		do(code, b[:length])
		b = b[min(length+padding(length), len(b)):]
	}
}
