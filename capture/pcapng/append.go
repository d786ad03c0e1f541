package pcapng

import (
	"encoding/binary"
	"math"
	"time"
)

var order = binary.LittleEndian

// begin opens a block; end closes it.
func begin(b []byte, kind uint32) []byte {
	return order.AppendUint32(order.AppendUint32(b, kind), 0)
}

func end(b []byte, start int) []byte {
	length := uint32(len(b) - start + 4)
	order.PutUint32(b[start+4:], length)
	return order.AppendUint32(b, length)
}

func pad(b []byte, length int) []byte {
	return append(b, make([]byte, padding(length))...)
}

// padding is how many bytes are missing to a multiple of four.
func padding(length int) int { return -length & 3 }

func option(b []byte, code uint16, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	value = value[:min(len(value), math.MaxUint16)]
	b = order.AppendUint16(order.AppendUint16(b, code), uint16(len(value)))
	return pad(append(b, value...), len(value))
}

func number(b []byte, code uint16, value uint64) []byte {
	return option(b, code, order.AppendUint64(nil, value))
}

func endOfOptions(b []byte) []byte { return order.AppendUint32(b, 0) }

func timestamp(b []byte, t time.Time) []byte {
	ns := uint64(t.UnixNano())
	return order.AppendUint32(order.AppendUint32(b, uint32(ns>>32)), uint32(ns))
}

// AppendSection begins a capture.
func AppendSection(b []byte, s Section) []byte {
	start := len(b)
	b = order.AppendUint32(begin(b, blockSection), byteOrder)
	b = order.AppendUint16(order.AppendUint16(b, 1), 0) // the version
	b = order.AppendUint64(b, math.MaxUint64)           // of unknown length
	b = option(b, optComment, []byte(s.Comment))
	b = option(b, optSectionOS, []byte(s.OS))
	b = option(b, optSectionApplication, []byte(s.Application))
	return end(endOfOptions(b), start)
}

// AppendInterface describes the section's next interface.
func AppendInterface(b []byte, i Interface) []byte {
	start := len(b)
	b = order.AppendUint32(begin(b, blockInterface), uint32(i.LinkType))
	b = order.AppendUint32(b, i.SnapLen)
	b = option(b, optComment, []byte(i.Comment))
	b = option(b, optInterfaceName, []byte(i.Name))
	b = option(b, optInterfaceDescription, []byte(i.Description))
	b = option(b, optInterfaceResolution, []byte{nanoseconds})
	if i.Filter != "" {
		b = option(b, optInterfaceFilter, append([]byte{0}, i.Filter...)) // 0: as libpcap writes it
	}
	return end(endOfOptions(b), start)
}

// AppendNames says what addresses are called. None is no block.
func AppendNames(b []byte, names []Name) []byte {
	if len(names) == 0 {
		return b
	}
	start := len(b)
	b = begin(b, blockNames)
	for _, n := range names {
		kind := uint16(recordIPv6)
		if n.Address.Is4() {
			kind = recordIPv4
		}
		value := append(append(n.Address.AsSlice(), n.Name...), 0)
		b = option(b, kind, value)
	}
	b = order.AppendUint32(b, 0) // no more records
	return end(endOfOptions(b), start)
}

// AppendPacket adds a packet of an interface that was described.
func AppendPacket(b []byte, p Packet) []byte {
	start := len(b)
	b = order.AppendUint32(begin(b, blockPacket), uint32(p.Interface))
	b = timestamp(b, p.Time)
	b = order.AppendUint32(order.AppendUint32(b, uint32(len(p.Data))), uint32(p.Length))
	b = pad(append(b, p.Data...), len(p.Data))
	if flags := uint32(p.Direction) | uint32(p.Reception)<<2; flags != 0 {
		b = endOfOptions(option(b, optPacketFlags, order.AppendUint32(nil, flags)))
	}
	return end(b, start)
}

// AppendStatistics adds what is known of an interface by now.
func AppendStatistics(b []byte, s Statistics) []byte {
	start := len(b)
	b = order.AppendUint32(begin(b, blockStatistics), uint32(s.Interface))
	b = timestamp(b, s.Time)
	b = option(b, optComment, []byte(s.Comment))
	b = number(b, optStatisticsReceived, s.Received)
	b = number(b, optStatisticsDropped, s.Dropped)
	b = number(b, optStatisticsDelivered, s.Delivered)
	return end(endOfOptions(b), start)
}
